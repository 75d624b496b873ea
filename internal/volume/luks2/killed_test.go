// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const killedSize = 24 << 20

// TestConvertChild is the process that is killed: it begins to re-encrypt the volume in a directory, or resumes that.
func TestConvertChild(t *testing.T) {
	dir := os.Getenv("COFFERDAM_LUKS2_CHILD")
	if dir == "" {
		return // TestConvertKilled runs it
	}
	f, errVolume := os.OpenFile(filepath.Join(dir, "volume"), os.O_RDWR, 0)
	j, errJournal := os.OpenFile(filepath.Join(dir, "journal"), os.O_RDWR, 0)
	if err := errors.Join(errVolume, errJournal); err != nil {
		t.Fatal(err)
	}
	c := &Conversion{Volume: f, Journal: j}
	if _, err := OpenJournal(j); err == nil {
		if _, err := c.Resume(t.Context(), testKey(t, 32), testKey(t, 64)); err != nil {
			t.Fatal(err)
		}
		return
	}
	h, err := Open(f, killedSize+defaultOffset)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Rekey(t.Context(), h, testKey(t, 64), testKey(t, 32), []Slot{{[]byte("two"), quick}}); err != nil {
		t.Fatal(err)
	}
}

// TestConvertKilled kills the process of a conversion at random moments until one gets through: no byte is lost.
func TestConvertKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("many processes")
	}
	dir := t.TempDir()
	f, errVolume := os.Create(filepath.Join(dir, "volume"))
	_, errJournal := os.Create(filepath.Join(dir, "journal"))
	if err := errors.Join(errVolume, errJournal); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(killedSize + defaultOffset); err != nil {
		t.Fatal(err)
	}
	h, err := Format(f, killedSize+defaultOffset, testKey(t, 64), FormatOptions{Slots: []Slot{{[]byte("one"), quick}}})
	if err != nil {
		t.Fatal(err)
	}
	image := noise(8, killedSize)
	if _, err := device(t, f, h, testKey(t, 64)).WriteAt(image, 0); err != nil {
		t.Fatal(err)
	}
	kills := 0
	for wait := 5 * time.Millisecond; ; wait += wait / 8 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestConvertChild$")
		cmd.Env = append(os.Environ(), "COFFERDAM_LUKS2_CHILD="+dir)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(wait+rand.N(wait), func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		if timer.Stop() || err == nil {
			if err != nil {
				t.Fatalf("after %d kills: %v\n%s", kills, err, out.String())
			}
			break
		}
		kills++
	}
	t.Logf("killed %d times", kills)
	opensWith(t, f, testKey(t, 32), "two")
	if got := readAll(t, device(t, f, reopen(t, f), testKey(t, 32))); !bytes.Equal(got, image) {
		t.Error("the data are others")
	}
}
