// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"
)

// trial is one conversion of a small volume.
type trial struct {
	volume  []byte // before
	begin   func(c *Conversion) error
	key     VolumeKey // to resume with
	old     VolumeKey
	plain   []byte
	decrypt bool
}

const trialOffset = 64 << 10 // no place for key slots: the largest steps are as small as that

func trials(t *testing.T, size int) map[string]trial {
	t.Helper()
	key, other := testKey(t, 64), testKey(t, 32)
	plain := noise(6, size)
	m := &machine{left: -1}
	d := newDisk(m, make([]byte, trialOffset+size))
	h, err := Format(d, int64(trialOffset+size), key, FormatOptions{Offset: trialOffset, SectorSize: 512})
	if err != nil {
		t.Fatal(err)
	}
	dev, err := h.DeviceWithoutPin(d, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dev.WriteAt(plain, 0); err != nil {
		t.Fatal(err)
	}
	encrypted := make([]byte, trialOffset+size)
	if _, err := d.ReadAt(encrypted, 0); err != nil {
		t.Fatal(err)
	}
	return map[string]trial{
		"encrypt": {volume: plain, key: key, plain: plain, begin: func(c *Conversion) error {
			_, err := c.Encrypt(context.Background(), int64(size), key, FormatOptions{Offset: trialOffset, SectorSize: 512})
			return err
		}},
		"decrypt": {volume: encrypted, key: key, plain: plain, decrypt: true, begin: func(c *Conversion) error {
			return c.Decrypt(context.Background(), h.clone(), key)
		}},
		"rekey": {volume: encrypted, key: other, old: key, plain: plain, begin: func(c *Conversion) error {
			_, err := c.Rekey(context.Background(), h.clone(), key, other, nil)
			return err
		}},
	}
}

// check looks at a finished volume.
func (tr trial) check(d *disk) error {
	got := make([]byte, len(tr.plain))
	if tr.decrypt {
		if _, err := d.ReadAt(got, 0); err != nil || d.now.size != int64(len(got)) || !bytes.Equal(got, tr.plain) {
			return fmt.Errorf("the plain data are others, of %d bytes (%w)", d.now.size, err)
		}
		return nil
	}
	if want := int64(trialOffset + len(got)); d.now.size != want {
		return fmt.Errorf("the volume has %d bytes, want %d", d.now.size, want)
	}
	h, err := Open(d, d.now.size)
	if err != nil {
		return err
	}
	if h.Info().Repair {
		return errors.New("one copy of the header is old")
	}
	p, err := h.Pin(tr.key)
	if err != nil {
		return err
	}
	dev, err := h.Device(d, p, tr.key)
	if err != nil {
		return err
	}
	if _, err := dev.ReadAt(got, 0); err != nil || !bytes.Equal(got, tr.plain) {
		return fmt.Errorf("the data are others (%w)", err)
	}
	return nil
}

// TestConvert converts volumes of many sizes without a crash.
func TestConvert(t *testing.T) {
	t.Parallel()
	for _, size := range []int{512, 4096, 2*minHeaderSize - 512, 2 * minHeaderSize, 2*minHeaderSize + 512, trialOffset, trialOffset + 512, 5*trialOffset + 1024} {
		for name, tr := range trials(t, size) {
			m := &machine{left: -1}
			d, j := newDisk(m, tr.volume), newDisk(m, nil)
			var told int64
			c := &Conversion{Volume: d, Journal: j, Progress: func(done, total int64) {
				if done < told || done > total || total != int64(size) {
					t.Errorf("%s of %d bytes: progress %d of %d after %d", name, size, done, total, told)
				}
				told = done
			}}
			if err := tr.begin(c); err != nil {
				t.Errorf("%s of %d bytes: %v", name, size, err)
			}
			if err := tr.check(d); err != nil {
				t.Errorf("%s of %d bytes: %v", name, size, err)
			}
			if told != int64(size) {
				t.Errorf("%s of %d bytes: progress ends at %d", name, size, told)
			}
			if _, err := (&Conversion{Volume: d, Journal: j}).Resume(t.Context(), tr.key, tr.old); err != nil {
				t.Errorf("%s of %d bytes, resumed when it is done: %v", name, size, err)
			}
			if err := tr.check(d); err != nil {
				t.Errorf("%s of %d bytes, resumed when it is done: %v", name, size, err)
			}
			if err := tr.begin(c); err == nil {
				t.Errorf("%s of %d bytes: begun again with a used journal", name, size)
			}
		}
	}
}

// TestConvertCrash crashes a conversion at each of its operations, and the next ones somewhere: what was not synced is lost in
// any order and in part. Either nothing had begun, and the volume is what it was, or it can be resumed, to the end.
func TestConvertCrash(t *testing.T) {
	t.Parallel()
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	for name, tr := range trials(t, 3*trialOffset+1536) {
		for seed := range seeds {
			for at := 0; ; at++ {
				m := &machine{left: at, r: rand.New(rand.NewPCG(seed, uint64(at)))}
				d, j := newDisk(m, tr.volume), newDisk(m, nil)
				err := tr.begin(&Conversion{Volume: d, Journal: j})
				if err == nil {
					if at < 30 {
						t.Errorf("%s: only %d operations", name, at)
					}
					break
				}
				if !errors.Is(err, errCrash) {
					t.Fatalf("%s, crash at %d: %v", name, at, err)
				}
				if err := tr.survive(t, m, d, j); err != nil {
					t.Fatalf("%s, seed %d, crash at %d: %v", name, seed, at, err)
				}
			}
		}
	}
}

// survive goes on after a crash, through some more of them.
func (tr trial) survive(t *testing.T, m *machine, d, j *disk) error {
	for {
		m.restart(m.r.IntN(60))
		if _, err := authentic(j, tr.key); err != nil {
			got := make([]byte, len(tr.volume))
			if _, err := d.ReadAt(got, 0); err != nil || d.now.size != int64(len(got)) || !bytes.Equal(got, tr.volume) {
				return fmt.Errorf("nothing had begun, and the volume is another (%w)", err)
			}
			return nil
		}
		// Until it is finished, a volume is refused, and says why unless the mark is not there yet or not any more.
		if h, err := Open(d, d.now.size); err == nil {
			s, err := authentic(j, tr.key)
			if err != nil || s.Done != 0 && s.Stage == stageRunning {
				return fmt.Errorf("an unfinished volume opens: %+v, %+v, %w", h.Info(), s, err)
			}
		}
		_, err := (&Conversion{Volume: d, Journal: j}).Resume(t.Context(), tr.key, tr.old)
		if err == nil {
			return tr.check(d)
		}
		if !errors.Is(err, errCrash) {
			return err
		}
	}
}

// middle ends a conversion when something is done.
func (tr trial) middle(t *testing.T) (m *machine, d, j *disk) {
	t.Helper()
	for at := 0; ; at++ {
		m = &machine{left: at}
		d, j = newDisk(m, tr.volume), newDisk(m, nil)
		if err := tr.begin(&Conversion{Volume: d, Journal: j}); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		if s, err := authentic(j, tr.key); err == nil && s.Done > 0 && s.Stage == stageRunning {
			return m, d, j
		}
	}
}

// TestConvertRefused begins and resumes what must not be.
func TestConvertRefused(t *testing.T) {
	t.Parallel()
	all := trials(t, 4*trialOffset)
	key, other := testKey(t, 64), testKey(t, 32)
	for name, tr := range all {
		m, d, j := tr.middle(t)
		m.left = -1
		if _, err := Open(d, d.now.size); !errors.Is(err, ErrUnfinished) {
			t.Errorf("%s: an unfinished volume: %v", name, err)
		}
		before := maps.Clone(d.now.pages)
		wrong := testKey(t, 64)
		wrong = VolumeKey{append(bytes.Clone(wrong.b[:63]), wrong.b[63]^1)}
		c := &Conversion{Volume: d, Journal: j}
		if _, err := c.Resume(t.Context(), wrong, tr.old); !errors.Is(err, ErrKey) {
			t.Errorf("%s, resumed with another key: %v", name, err)
		}
		if _, err := c.Resume(t.Context(), VolumeKey{}, VolumeKey{}); !errors.Is(err, ErrKey) {
			t.Errorf("%s, resumed without a key: %v", name, err)
		}
		if name == "rekey" {
			for _, old := range []VolumeKey{wrong, {}, other} {
				if _, err := c.Resume(t.Context(), tr.key, old); !errors.Is(err, ErrKey) {
					t.Errorf("%s, resumed with another old key: %v", name, err)
				}
			}
		}
		fresh := newDisk(m, nil)
		if _, err := (&Conversion{Volume: d, Journal: fresh}).Encrypt(t.Context(), d.now.size, key, FormatOptions{Offset: trialOffset}); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: an unfinished volume is encrypted: %v", name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if !maps.Equal(before, d.now.pages) {
			t.Errorf("%s: the volume changed", name)
		}
		if _, err := c.Resume(ctx, tr.key, tr.old); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled: %v", name, err)
		}
		// The header in the journal, with a right checksum.
		at := int64(journalHeader)
		doc := make([]byte, minHeaderSize)
		for _, off := range []int64{at, at + minHeaderSize} {
			if _, err := j.ReadAt(doc, off); err != nil {
				t.Fatal(err)
			}
			doc = bytes.Replace(doc, []byte(`"sector_size":512}`), []byte(`"sector_size":1024`+`}`), 1)[:minHeaderSize]
			sum := checksum(doc)
			copy(doc[offChecksum:], sum[:])
			if _, err := j.WriteAt(doc, off); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Resume(t.Context(), tr.key, tr.old); !errors.Is(err, ErrFormat) {
			t.Errorf("%s, with another header in the journal: %v", name, err)
		}
	}
	if _, err := (&Conversion{Volume: newDisk(&machine{left: -1}, nil), Journal: newDisk(&machine{left: -1}, nil)}).Resume(t.Context(), key, key); err == nil {
		t.Error("resumed out of an empty journal")
	}
	if _, err := OpenJournal(newDisk(&machine{left: -1}, nil)); !errors.Is(err, errNoState) {
		t.Errorf("an empty journal: %v", err)
	}
}

// TestConvertFiles goes the whole way with files, key slots and cryptsetup: plain data, a volume, another key, plain data.
func TestConvertFiles(t *testing.T) {
	t.Parallel()
	image := noise(7, 6<<20)
	f, key, other := testFile(t, 0), testKey(t, 64), testKey(t, 32)
	if _, err := f.WriteAt(image, 0); err != nil {
		t.Fatal(err)
	}
	journal := func() File { return testFile(t, 0) }
	c := &Conversion{Volume: f, Journal: journal()}
	h, err := c.Encrypt(t.Context(), int64(len(image)), key, FormatOptions{Slots: []Slot{{[]byte("one"), quick}}})
	if err != nil {
		t.Fatal(err)
	}
	opensWith(t, f, key, "one")
	if !bytes.Equal(readAll(t, device(t, f, h, key)), image) {
		t.Error("encrypted: the data are others")
	}
	if b, err := os.ReadFile(f.Name()); err != nil || bytes.Contains(b, image[:64]) || bytes.Contains(b, image[1<<20:1<<20+64]) {
		t.Errorf("plain data are left in the volume (%v)", err)
	}
	c = &Conversion{Volume: f, Journal: journal()}
	h, err = c.Rekey(t.Context(), h, key, other, []Slot{{[]byte("two"), quick}, {[]byte("three"), quick}})
	if err != nil {
		t.Fatal(err)
	}
	opensWith(t, f, other, "two", "three")
	if !bytes.Equal(readAll(t, device(t, f, h, other)), image) {
		t.Error("re-encrypted: the data are others")
	}
	j := journal()
	if err := (&Conversion{Volume: f, Journal: j}).Decrypt(t.Context(), h, other); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(b, image) {
		t.Errorf("decrypted: the data are others (%v)", err)
	}
	open, err := OpenJournal(j)
	if err != nil || open.Operation() != OpDecrypt {
		t.Fatal(err)
	}
	two, three := []byte("two"), []byte("three")
	if got, err := open.Unlock(two, three); err != nil || !bytes.Equal(got.Expose(), other.Expose()) {
		t.Errorf("the journal does not give the key: %v", err)
	}
	for name, wrong := range map[string][][]byte{"none": nil, "one of them": {two}, "in another order": {three, two}, "one more": {two, three, two}} {
		if _, err := open.Unlock(wrong...); !errors.Is(err, ErrKey) {
			t.Errorf("other passphrases, %s: %v", name, err)
		}
	}
}

// TestConvertInterrupted stops in the middle of a file: cryptsetup refuses the volume, and passphrases give both keys.
func TestConvertInterrupted(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Cryptsetup)
	const size = 2*maxStep + 4096
	f, key, other := testFile(t, size+defaultOffset), testKey(t, 64), testKey(t, 32)
	h, err := Format(f, size+defaultOffset, key, FormatOptions{Slots: []Slot{{[]byte("one"), quick}}})
	if err != nil {
		t.Fatal(err)
	}
	plain := noise(9, size)
	if _, err := device(t, f, h, key).WriteAt(plain, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := &Conversion{Volume: f, Journal: testFile(t, 0), Progress: func(done, _ int64) {
		if done > 0 {
			cancel()
		}
	}}
	if _, err := c.Rekey(ctx, h, key, other, []Slot{{[]byte("two"), quick}}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// It tests passphrases whatever the requirements are, but changes nothing. To activate needs a device-mapper.
	if out, err := cryptsetup(t, "one\nthree", "luksAddKey", f.Name()); err == nil || !strings.Contains(out, "requirements") {
		t.Errorf("cryptsetup takes it: %s", out)
	}
	if _, err := Open(f, size+defaultOffset); !errors.Is(err, ErrUnfinished) {
		t.Errorf("error is %v, want one that wraps %v", err, ErrUnfinished)
	}
	marked, err := open(f, size+defaultOffset)
	if err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(c.Journal)
	if err != nil || j.Operation() != OpRekey {
		t.Fatal(err)
	}
	old, errOld := marked.Unlock(f, []byte("one"))
	is, err := j.Unlock([]byte("two"))
	if err := errors.Join(err, errOld); err != nil {
		t.Fatal(err)
	}
	h, err = (&Conversion{Volume: f, Journal: c.Journal}).Resume(t.Context(), is, old)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, device(t, f, h, other)); !bytes.Equal(got, plain) {
		t.Error("the data are others")
	}
	mustCryptsetup(t, "two", "open", "--test-passphrase", f.Name())
	if reopen(t, f).unfinished() {
		t.Error("a finished volume has the mark")
	}
}

func FuzzOpenJournal(f *testing.F) {
	m := &machine{left: -1}
	d, j := newDisk(m, noise(1, 4096)), newDisk(m, nil)
	key := testKey(f, 64)
	if _, err := (&Conversion{Volume: d, Journal: j}).Encrypt(f.Context(), 4096, key, FormatOptions{Offset: trialOffset}); err != nil {
		f.Fatal(err)
	}
	states, head := make([]byte, 2*statePlace), make([]byte, 2*minHeaderSize)
	_, errStates := j.ReadAt(states, journalStates)
	_, err := j.ReadAt(head, journalHeader)
	if err := errors.Join(err, errStates); err != nil {
		f.Fatal(err)
	}
	f.Add(states[:statePlace])
	f.Add(states[statePlace:])
	f.Fuzz(func(t *testing.T, b []byte) {
		j := newDisk(&machine{left: -1}, b[:min(len(b), 2*statePlace)])
		if _, err := j.WriteAt(head, journalHeader); err != nil {
			t.Fatal(err)
		}
		opened, err := OpenJournal(j)
		if err == nil && (opened.header == nil || opened.state.Size < 0) {
			t.Fatalf("%+v", opened)
		}
		// Without the key nobody makes a state that is believed; what the corpus has of it is that of the seeds.
		s, err := authentic(j, key)
		if err == nil && (s.Operation != OpEncrypt || s.Size != 4096) {
			t.Fatalf("%+v", s)
		}
	})
}
