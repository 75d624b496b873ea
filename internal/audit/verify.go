// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Summary is what a log that holds was found to be.
type Summary struct {
	Instance string `json:"instance"`
	// First and Last are the sequence numbers of the first and the last line.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	// Complete is true when the log begins with the first line of its instance.
	Complete bool `json:"complete"`
	// From and Until are the times of the first and the last line, by the writer's clock.
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	// Checkpoints is the number of checkpoints, and Unsigned the number of lines after the last of them.
	Checkpoints int `json:"checkpoints"`
	Unsigned    int `json:"unsigned"`
	// Head is the receipt of the last line.
	Head Receipt `json:"head"`
	// Kinds counts the events by kind.
	Kinds map[string]int `json:"kinds"`
}

// LineError says which line of a log does not hold, and why.
type LineError struct {
	// Name is the file's name as it was given, and Line the number of the line in it, from 1.
	Name string
	Line int
	Err  error
}

// Error implements error.
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.Name, e.Line, e.Err) }

// Unwrap returns the reason.
func (e *LineError) Unwrap() error { return e.Err }

// Verifier checks the files of one log, in their order.
type Verifier struct {
	keys    map[string]*ecdsa.PublicKey
	summary Summary
	started bool
	visit   func(*Entry) error
}

// NewVerifier returns a verifier that takes checkpoints by these keys, at least one. Visit, when not nil, is called with
// each entry that holds.
func NewVerifier(keys []*ecdsa.PublicKey, visit func(*Entry) error) (*Verifier, error) {
	v := &Verifier{keys: map[string]*ecdsa.PublicKey{}, visit: visit, summary: Summary{Kinds: map[string]int{}}}
	for _, k := range keys {
		id, err := publicKeyID(k)
		if err != nil {
			return nil, err
		}
		v.keys[id] = k
	}
	if len(v.keys) == 0 {
		return nil, errors.New("no key is given: checkpoints can not be verified")
	}
	return v, nil
}

// File checks the next file. The error is a *LineError when a line does not hold.
func (v *Verifier) File(name string, r io.Reader) error {
	lines := bufio.NewReaderSize(r, MaxLineSize+2)
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.EOF):
			return &LineError{name, n, errors.New("the last line is incomplete")}
		case errors.Is(err, bufio.ErrBufferFull):
			return &LineError{name, n, fmt.Errorf("it has more than %d bytes", MaxLineSize)}
		case err != nil:
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if err := v.line(bytes.TrimSuffix(line, []byte{'\n'}), n == 1); err != nil {
			return &LineError{name, n, err}
		}
	}
}

func (v *Verifier) line(line []byte, first bool) error {
	e, err := parseEntry(line)
	if err != nil {
		return err
	}
	if err = v.follows(e); err != nil {
		return err
	}
	if first != (e.Kind == kindOpen) {
		return fmt.Errorf("a file begins with %s, and nothing else is one; this is %q", kindOpen, e.Kind)
	}
	s := &v.summary
	s.Unsigned++
	switch e.Kind {
	case kindOpen:
		err = checkOpening(e)
	case kindCheckpoint:
		err = v.checkpoint(e)
		s.Checkpoints++
		s.Unsigned = 0
	}
	if err != nil {
		return err
	}
	s.Kinds[e.Kind]++
	s.Last, s.Until = e.Sequence, e.Time
	s.Head = Receipt{e.Instance, e.Sequence, hashLine(line)}
	if v.visit != nil {
		return v.visit(e)
	}
	return nil
}

// follows requires an entry to continue the chain, or to begin it.
func (v *Verifier) follows(e *Entry) error {
	s := &v.summary
	if !v.started {
		v.started = true
		s.Instance, s.First, s.From, s.Complete = e.Instance, e.Sequence, e.Time, e.Sequence == 1
		if e.Sequence == 0 || s.Complete != (e.Previous == zeroHash) {
			return fmt.Errorf("sequence number %d does not go with the previous hash %q", e.Sequence, e.Previous)
		}
		return nil
	}
	switch {
	case e.Instance != s.Instance:
		return fmt.Errorf("instance is %q, not %q", e.Instance, s.Instance)
	case e.Sequence != s.Last+1:
		return fmt.Errorf("sequence number is %d, not %d", e.Sequence, s.Last+1)
	case e.Previous != s.Head.Hash:
		return fmt.Errorf("previous hash is %s, but the line before has %s", e.Previous, s.Head.Hash)
	}
	return nil
}

func checkOpening(e *Entry) error {
	var o opening
	if err := json.Unmarshal(e.Event, &o); err != nil || o.Schema != Schema {
		return fmt.Errorf("schema is %q, not %q", o.Schema, Schema)
	}
	return nil
}

func (v *Verifier) checkpoint(e *Entry) error {
	var c checkpoint
	if err := json.Unmarshal(e.Event, &c); err != nil {
		return fmt.Errorf("it is no checkpoint: %w", err)
	}
	key := v.keys[c.KeyID]
	if key == nil {
		return fmt.Errorf("it is signed by key %s, which is not among those given", c.KeyID)
	}
	digest := sha256.Sum256(signedBytes(e.Instance, e.Sequence, e.Previous))
	if !ecdsa.VerifyASN1(key, digest[:], c.Signature) {
		return errors.New("the signature of the checkpoint does not verify")
	}
	return nil
}

// Summary returns what was found once all files were checked, and an error when there was nothing.
func (v *Verifier) Summary() (*Summary, error) {
	if !v.started {
		return nil, errors.New("the audit log is empty")
	}
	s := v.summary
	return &s, nil
}
