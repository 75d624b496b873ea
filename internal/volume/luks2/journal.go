// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Operation is what a conversion does.
type Operation string

// The conversions.
const (
	OpEncrypt Operation = "encrypt"
	OpDecrypt Operation = "decrypt"
	OpRekey   Operation = "rekey"
)

// stage is how far a conversion is.
type stage string

const (
	stageRunning   stage = "running"   // data are being worked through
	stageFinishing stage = "finishing" // all but what lies in the journal is done
	stageDone      stage = "done"
)

// The layout of a journal. It has holes, and takes little more than the header of the volume.
const (
	journalStates = 0        // two places for the state, of which the newer whole one counts
	journalZones  = 4 << 20  // two places for what is about to be written over itself, each of maxStep
	journalHead   = 16 << 20 // the first bytes of the data, encrypted, whose place the mark has taken
	journalHeader = 32 << 20 // the header with its key slots, as it stands at the beginning of a volume
	statePlace    = 4096
	maxStep       = 4 << 20
)

// state is what a journal says of the progress. It is under a MAC of the key that the header in the journal is for.
type state struct {
	Operation Operation `json:"operation"`
	Stage     stage     `json:"stage"`
	Counter   uint64    `json:"counter"`
	Size      int64     `json:"size"`           // of the data, in bytes
	Done      int64     `json:"done"`           // of the data, in bytes, in the order in which they are worked through
	Zone      int       `json:"zone,omitempty"` // bytes in the zone of this state's counter, which are to be written next
	ZoneSum   []byte    `json:"zoneSum,omitempty"`
	Header    []byte    `json:"header"`        // MAC of the header in the journal
	Old       []byte    `json:"old,omitempty"` // MAC by the old key, to know it again
}

// errNoState says that a journal has no whole state.
var errNoState = errors.New("there is no whole state in the journal: nothing was converted; remove it and begin again")

// Journal is the record of an unfinished conversion, as it lies in a file of its own beside the volume. Without it the volume
// is lost: it holds the volume's first bytes and its key slots. There is nothing in it in the clear.
type Journal struct {
	file   File
	state  state
	header *Header
}

// OpenJournal reads the journal of an unfinished conversion. Nothing of it is trusted until Resume has a key.
func OpenJournal(journal File) (*Journal, error) {
	j := &Journal{file: journal}
	found := false
	for i := range 2 {
		_, text, err := readState(journal, i)
		if err != nil {
			return nil, fmt.Errorf("opening a journal: %w", err)
		}
		var s state
		if json.Unmarshal(text, &s) == nil && (!found || s.Counter > j.state.Counter) {
			j.state, found = s, true
		}
	}
	if !found {
		return nil, fmt.Errorf("opening a journal: %w", errNoState)
	}
	if j.state.Size < 0 || j.state.Size > maxSize-maxAreas-2*maxHeaderSize {
		return nil, fmt.Errorf("opening a journal: %w: data of %d bytes", ErrFormat, j.state.Size)
	}
	h, err := openJournalHeader(journal, j.state.Size)
	if err != nil {
		return nil, fmt.Errorf("opening a journal: %w", err)
	}
	j.header = h
	return j, nil
}

// Operation returns what is under way.
func (j *Journal) Operation() Operation { return j.state.Operation }

// Unlock returns the volume key of the header in the journal: the new key of a volume that is encrypted or re-encrypted, the
// one key of a volume that is decrypted. The passphrases are those of its key slots, all of them and in their order, so that
// what was begun is what is gone on with. The error wraps ErrKey when they are others.
func (j *Journal) Unlock(passphrases ...[]byte) (key VolumeKey, err error) {
	if n := len(j.header.m.Keyslots); n != len(passphrases) || n == 0 {
		return key, fmt.Errorf("unlocking a journal: %w: it was begun with %d passphrases, and there are %d", ErrKey, n, len(passphrases))
	}
	for id, p := range passphrases {
		key.Destroy()
		if key, err = j.header.UnlockSlot(section{j.file, journalHeader}, id, p); err != nil {
			return VolumeKey{}, fmt.Errorf("unlocking a journal: passphrase %d is not the one that it was begun with: %w", id, err)
		}
	}
	return key, nil
}

// openJournalHeader reads the header in a journal, of a volume whose data have a size. Where the data begin is known only
// then, so that the size of the whole volume is found in two steps.
func openJournalHeader(journal File, size int64) (*Header, error) {
	h, err := open(section{journal, journalHeader}, maxSize)
	if err != nil {
		return nil, err
	}
	s := h.m.Segments[0]
	h.device = int64(s.Offset) + size
	return h, h.m.validate(h.b.size, h.device)
}

// readState returns what lies at one of the two places for the state: a MAC, and a text that may be anything.
func readState(journal io.ReaderAt, i int) (mac, text []byte, err error) {
	b := make([]byte, statePlace)
	n, err := journal.ReadAt(b, journalStates+int64(i)*statePlace)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	clear(b[n:])
	size := binary.BigEndian.Uint32(b[sha256.Size:])
	text = b[sha256.Size+4:]
	if int64(size) > int64(len(text)) {
		return nil, nil, nil
	}
	return b[:sha256.Size], text[:size], nil
}

// authentic returns the newest state that was written with a key.
func authentic(journal io.ReaderAt, key VolumeKey) (state, error) {
	var newest state
	found := false
	for i := range 2 {
		mac, text, err := readState(journal, i)
		if err != nil {
			return state{}, err
		}
		want, err := key.mac("journal", text)
		if err != nil {
			return state{}, err
		}
		var s state
		if !hmac.Equal(mac, want) || json.Unmarshal(text, &s) != nil {
			continue
		}
		if !found || s.Counter > newest.Counter {
			newest, found = s, true
		}
	}
	if !found {
		return state{}, fmt.Errorf("%w: no state of the journal is of this key", ErrKey)
	}
	return newest, nil
}

// save raises the counter and writes the state over the older one. It does not sync.
func (s *state) save(journal io.WriterAt, key VolumeKey) error {
	s.Counter++
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	mac, err := key.mac("journal", text)
	if err != nil {
		return err
	}
	b := make([]byte, 0, statePlace)
	b = append(b, mac...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	if len(b) > statePlace {
		return fmt.Errorf("a state of %d bytes, more than %d", len(b), statePlace)
	}
	_, err = journal.WriteAt(b[:statePlace], journalStates+int64(s.Counter%2)*statePlace)
	return err
}

// zone is where in the journal the zone of a counter is.
func zone(counter uint64) int64 { return journalZones + int64(counter%2)*maxStep }

// unused tells whether a journal has no state yet.
func unused(journal io.ReaderAt) error {
	for i := range 2 {
		mac, text, err := readState(journal, i)
		if err != nil {
			return err
		}
		if len(text) > 0 || !bytes.Equal(mac, make([]byte, len(mac))) {
			return errors.New("the journal is that of another conversion")
		}
	}
	return nil
}

// section is a part of a file from a place on. Behind its end are zeros.
type section struct {
	File
	base int64
}

func (s section) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.File.ReadAt(p, s.base+off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}

func (s section) WriteAt(p []byte, off int64) (int, error) { return s.File.WriteAt(p, s.base+off) }
