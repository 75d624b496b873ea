// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/verity"
)

func TestReuse(t *testing.T) {
	t.Parallel()
	c := openCache(t)
	l := layerOf(makeTar(t, reg("a", strings.Repeat("a", 3<<20))))
	var events []Event
	first, err := c.Get(t.Context(), l, func(e Event) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	last := events[len(events)-1]
	if len(events) < 3 || !last.Done || last.Cached || last.Read < 3<<20 {
		t.Errorf("events are %+v, want several and a last one that is done", events)
	}
	l.open = func() (io.ReadCloser, error) { return nil, errors.New("the layer was read again") }
	events = nil
	again, err := c.Get(t.Context(), l, func(e Event) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("entries differ (-first +again):\n%s", diff)
	}
	if diff := cmp.Diff([]Event{{DiffID: l.DiffID(), Cached: true, Done: true}}, events); diff != "" {
		t.Errorf("events differ (-want +got):\n%s", diff)
	}
}

// TestDamage checks that what does not fit together is made anew, and that Verify finds every changed byte.
func TestDamage(t *testing.T) {
	t.Parallel()
	l := layerOf(makeTar(t, reg("a", strings.Repeat("a", 1<<20))))
	remade := map[string]func(e Entry) error{
		"short disk":       func(e Entry) error { return os.Truncate(e.Path, e.Size-1) },
		"no disk":          func(e Entry) error { return os.Remove(e.Path) },
		"no record":        func(e Entry) error { return os.Remove(recordOf(e)) },
		"truncated record": func(e Entry) error { return os.Truncate(recordOf(e), 20) },
		"foreign record":   func(e Entry) error { return os.WriteFile(recordOf(e), []byte(`{"scheme":"other"}`), 0o600) },
	}
	for name, damage := range remade {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := openCache(t)
			want, err := c.Get(t.Context(), l, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = damage(want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Get(t.Context(), l, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("entries differ (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("changed byte", func(t *testing.T) {
		t.Parallel()
		c := openCache(t)
		e, err := c.Get(t.Context(), l, nil)
		if err != nil {
			t.Fatal(err)
		}
		end := int64(e.DataBlocks) * verity.BlockSize
		for _, at := range []int64{0, 5000, end - 1, end, end + 100, end + verity.BlockSize, e.Size - verity.BlockSize, e.Size - 1} {
			flip(t, e.Path, at)
			err = c.Verify(t.Context(), e)
			if !errors.Is(err, verity.ErrMismatch) {
				t.Errorf("byte %d changed: error is %v, want one that wraps %v", at, err, verity.ErrMismatch)
			}
			flip(t, e.Path, at)
		}
		err = c.Verify(t.Context(), e)
		if err != nil {
			t.Errorf("after undoing the changes: %v", err)
		}
	})
}

func recordOf(e Entry) string { return strings.TrimSuffix(e.Path, ".img") + ".json" }

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	if err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	_, err = f.WriteAt(b[:], at)
	if err != nil {
		t.Fatal(err)
	}
}

// TestGetAll converts several layers, one of them three times in the list, and expects each to be read once.
func TestGetAll(t *testing.T) {
	t.Parallel()
	c := openCache(t)
	var opened atomic.Int64
	var layers []memory
	for i := range 6 {
		b := makeTar(t, reg("f", fmt.Sprint(i%4)))
		layers = append(layers, memory{diffID: digestOf(b), open: func() (io.ReadCloser, error) {
			opened.Add(1)
			return io.NopCloser(bytes.NewReader(b)), nil
		}})
	}
	done := 0
	entries, err := c.GetAll(t.Context(), Sources(layers), func(e Event) {
		if e.Done {
			done++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		if e.DiffID != layers[i].diffID {
			t.Errorf("entry %d is of layer %s, want %s", i, e.DiffID, layers[i].diffID)
		}
	}
	if opened.Load() != 4 || done != 6 {
		t.Errorf("%d layers were read and %d done, want 4 and 6", opened.Load(), done)
	}
}

func TestGetAllFails(t *testing.T) {
	t.Parallel()
	c := openCache(t)
	bad := layerOf(makeTar(t, reg("twice", "1"), reg("twice", "2")))
	good := layerOf(makeTar(t, reg("a", "1")))
	entries, err := c.GetAll(t.Context(), Sources([]memory{good, bad}), nil)
	if !errors.Is(err, ErrConvert) || entries != nil {
		t.Errorf("got %v and error %v, want nothing and one that wraps %v", entries, err, ErrConvert)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	c := openCache(t)
	l := layerOf(makeTar(t, reg("a", strings.Repeat("a", 8<<20))))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Get(ctx, l, func(Event) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want one that wraps %v", err, context.Canceled)
	}
	checkNothingLeft(t, c)
}

// TestWaitsForLock checks that a second user waits for the first one, as long as its context allows.
func TestWaitsForLock(t *testing.T) {
	t.Parallel()
	c := openCache(t)
	l := layerOf(makeTar(t, reg("a", "1")))
	key, err := keyOf(l.DiffID())
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := c.tryLock(key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	_, err = c.Get(ctx, l, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want one that wraps %v", err, context.DeadlineExceeded)
	}
	unlock()
	_, err = c.Get(t.Context(), l, nil)
	if err != nil {
		t.Errorf("after unlocking: %v", err)
	}
}

// TestStaleFiles checks that files of dead makers go and files of living ones stay.
func TestStaleFiles(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	c, err := OpenCache(base)
	if err != nil {
		t.Fatal(err)
	}
	dead, alive := strings.Repeat("d", 64), strings.Repeat("a", 64)
	for _, key := range []string{dead, alive} {
		for _, kind := range []string{"disk", "leaves"} {
			err = os.WriteFile(filepath.Join(filepath.Join(c.dir, tmpDir), key+"-"+kind+"-1"), nil, 0o600)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	unlock, err := c.tryLock(alive)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	_, err = OpenCache(base)
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Join(c.dir, tmpDir), "*"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(filepath.Join(c.dir, tmpDir), alive+"-disk-1"), filepath.Join(filepath.Join(c.dir, tmpDir), alive+"-leaves-1")}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("temporary files differ (-want +got):\n%s", diff)
	}
}

const childDir, childHang = "LAYER_TEST_CHILD_DIR", "LAYER_TEST_CHILD_HANG"

// childLayer is the same in every process of TestProcesses.
func childLayer(t testing.TB) memory {
	return layerOf(makeTar(t, reg("a", strings.Repeat("a", 2<<20))))
}

// TestChild is not a test of its own: TestProcesses runs it in other processes.
func TestChild(t *testing.T) {
	base := os.Getenv(childDir)
	if base == "" {
		t.Skip("runs in processes that TestProcesses starts")
	}
	c, err := OpenCache(base)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(t.Context(), childLayer(t), func(e Event) {
		if os.Getenv(childHang) != "" && !e.Done {
			fmt.Println("converting")
			select {}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func child(t *testing.T, base string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(append(os.Environ(), childDir+"="+base), env...)
	return cmd
}

// TestProcesses kills a process in the middle of a conversion, then lets several convert the same layer at once.
func TestProcesses(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	hanging := child(t, base, childHang+"=1")
	out, err := hanging.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = hanging.Start()
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadFull(out, make([]byte, len("converting")))
	if err != nil {
		t.Fatal(err)
	}
	err = hanging.Process.Kill()
	if err != nil {
		t.Fatal(err)
	}
	_ = hanging.Wait() // killed
	left, err := filepath.Glob(filepath.Join(base, Scheme, "tmp", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) == 0 {
		t.Error("the killed process left nothing: it was not converting")
	}
	var children []*exec.Cmd
	for range 3 {
		cmd := child(t, base)
		err = cmd.Start()
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, cmd)
	}
	for _, cmd := range children {
		err = cmd.Wait()
		if err != nil {
			t.Errorf("a process failed: %v", err)
		}
	}
	left, err = filepath.Glob(filepath.Join(base, Scheme, "tmp", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	c, err := OpenCache(base)
	if err != nil {
		t.Fatal(err)
	}
	l := childLayer(t)
	l.open = func() (io.ReadCloser, error) { return nil, errors.New("the layer was read again") }
	e, err := c.Get(t.Context(), l, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = c.Verify(ctx, e)
	if err != nil {
		t.Error(err)
	}
}
