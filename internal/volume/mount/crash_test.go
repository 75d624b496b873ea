// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/volume/anchor"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/fusefile"
)

// serverEnv makes the test's program serve a volume instead, until it is killed.
const serverEnv = "COFFERDAM_TEST_SERVE_VOLUME"

// served is what the program that serves a volume is told.
type served struct {
	Image, Anchors, Dir string
	Descriptor          *descriptor.Descriptor
	Key                 []byte
}

func TestMain(m *testing.M) {
	if text := os.Getenv(serverEnv); text != "" {
		err := serveUntilKilled(text)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveUntilKilled shows a volume as a file, says so, and goes on for as long as it lives.
func serveUntilKilled(text string) error {
	var s served
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	key, err := descriptor.NewKey(s.Key)
	if err != nil {
		return err
	}
	records, err := anchor.NewDir(s.Anchors)
	if err != nil {
		return err
	}
	src, err := blob.Open(context.Background(), s.Image, blob.Options{Write: true})
	if err != nil {
		return err
	}
	v, err := attach.Open(context.Background(), src, attach.Options{Descriptor: s.Descriptor, Key: key, Write: true, Anchor: records})
	if err != nil {
		return err
	}
	m, err := fusefile.Serve(s.Dir, v, fusefile.Options{Write: true})
	if err != nil {
		return err
	}
	fmt.Println("shown")
	<-m.Done()
	return errors.New("somebody unmounted it")
}

// startServer serves the volume from another process.
func startServer(t *testing.T, i *image, dir string) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(served{i.path, filepath.Join(filepath.Dir(i.path), "anchors"), dir, i.d, i.key.Expose()})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), serverEnv+"="+string(text)), os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 6)
	if _, err := io.ReadFull(out, word); err != nil {
		_ = cmd.Wait()
		t.Fatalf("the server does not serve: %v", err)
	}
	return cmd
}

const (
	// fewKills are enough on a machine that is so busy that it takes longer than killTime for more.
	fewKills = 8
	killTime = 4 * time.Minute
	// maxSyncs is below how many syncs are waited for before a kill: for none as well, which kills while the first are made.
	maxSyncs = 5
)

// TestKilled kills the process that serves a volume at random moments, while programs write files, overwrite blocks in
// place as databases do, and sync. After each kill everything that was synced is there, and the filesystem is whole.
func TestKilled(t *testing.T) {
	needs(t)
	kills := 300
	if testing.Short() {
		kills = fewKills
	}
	i := newImage(t, descriptor.Shadow, 24<<20)
	i.format(t)
	r := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))
	w := &workload{files: map[string]*ledger{}}
	files, dir := t.TempDir(), t.TempDir()
	begun := time.Now()
	for round, last := 0, false; !last; round++ {
		last = round == kills-1 || round >= fewKills && time.Since(begun) > killTime
		cmd := startServer(t, i, files)
		l, err := newLoop(filepath.Join(files, fusefile.Name), true)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(l.path, dir, Ext4, unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
			t.Fatal(errors.Join(err, cmd.Process.Kill()))
		}
		if err := w.check(dir); err != nil {
			t.Fatalf("after kill %d: %v", round, err)
		}
		var wg sync.WaitGroup
		enough := w.count() + int64(round%maxSyncs)
		for n := range 3 {
			wg.Go(func() { w.run(dir, n) })
		}
		for since := time.Now(); w.count() < enough; time.Sleep(time.Millisecond) { // a slow machine takes its time for a sync
			if time.Since(since) > 2*time.Minute {
				_ = cmd.Process.Kill()
				t.Fatalf("nothing is synced: %d acknowledged, waiting for %d", w.count(), enough)
			}
		}
		time.Sleep(time.Duration(r.Int64N(int64(50 * time.Millisecond))))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		wg.Wait()
		for _, where := range []string{dir, files} {
			if err := unix.Unmount(where, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if round%20 == 0 || last {
			i.repair(t)
		}
	}
	t.Logf("%d acknowledged syncs", w.count())
}

// repair replays the journal and finds a filesystem without faults.
func (i *image) repair(t *testing.T) {
	t.Helper()
	v := i.open(t, true)
	m, err := fusefile.Serve(t.TempDir(), v, fusefile.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	replay, err := exec.Command("e2fsck", "-fp", m.Path()).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) { // 1: the journal was replayed
		t.Fatalf("e2fsck: %v: %s", err, replay)
	}
	check, err := exec.Command("e2fsck", "-fn", m.Path()).CombinedOutput()
	if err := errors.Join(err, unshow(m), v.Close(context.WithoutCancel(t.Context()))); err != nil || strings.Contains(string(check), "Fix?") {
		t.Fatalf("e2fsck: %v: %s", err, check)
	}
}

// slots of a file, each of one block with a number and a checksum.
const (
	slotSize = 4096
	slots    = 64
)

// ledger is what is known of a file: the newest number of each slot that a sync acknowledged, and the newest that was written.
type ledger struct{ synced, written [slots]uint64 }

// workload writes files, and knows what must be in them.
type workload struct {
	mu     sync.Mutex
	files  map[string]*ledger
	number uint64
	synced int64
}

// run overwrites slots of a file and syncs, until something fails.
func (w *workload) run(dir string, n int) {
	name := fmt.Sprintf("table-%d", n)
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return // it was killed already
	}
	defer func() { _ = f.Close() }() // what fails then was not promised
	r := rand.New(rand.NewPCG(uint64(n), uint64(time.Now().UnixNano())))
	for {
		var touched []int
		for range 1 + r.IntN(6) {
			slot := r.IntN(slots)
			number := w.begin(name, slot)
			if _, err := f.WriteAt(block(number), int64(slot)*slotSize); err != nil {
				return
			}
			touched = append(touched, slot)
		}
		sync := f.Sync
		if r.IntN(2) == 0 {
			sync = func() error { return unix.Fdatasync(int(f.Fd())) }
		}
		if sync() != nil {
			return
		}
		w.acknowledge(name, touched)
	}
}

func (w *workload) begin(name string, slot int) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.files[name] == nil {
		w.files[name] = &ledger{}
	}
	w.number++
	w.files[name].written[slot] = w.number
	return w.number
}

func (w *workload) acknowledge(name string, touched []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.files[name]
	for _, slot := range touched {
		l.synced[slot] = l.written[slot]
	}
	w.synced++
}

// count is how many syncs were acknowledged.
func (w *workload) count() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.synced
}

// block is the content of a slot.
func block(number uint64) []byte {
	b := make([]byte, slotSize)
	for i := 0; i < slotSize-8; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], number)
	}
	binary.LittleEndian.PutUint64(b[slotSize-8:], uint64(crc32.ChecksumIEEE(b[:slotSize-8])))
	return b
}

// check finds everything that was acknowledged, or what was written after it.
func (w *workload) check(dir string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, l := range w.files {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && l.synced != [slots]uint64{} {
			return err
		}
		for slot, least := range l.synced {
			at := slot * slotSize
			if least == 0 {
				continue
			}
			if len(content) < at+slotSize {
				return fmt.Errorf("%s has %d bytes, slot %d was synced", name, len(content), slot)
			}
			b := content[at : at+slotSize]
			got := binary.LittleEndian.Uint64(b)
			if string(b) != string(block(got)) || got < least || got > l.written[slot] {
				return fmt.Errorf("%s, slot %d: number %d, want %d to %d", name, slot, got, least, l.written[slot])
			}
			l.synced[slot], l.written[slot] = got, got // what is there now is what is there
		}
	}
	return nil
}
