// SPDX-License-Identifier: Apache-2.0

package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
	"cofferdam.dev/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s, err := boltstore.Open(filepath.Join(t.TempDir(), "store"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}

func TestOneProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store")
	s, err := boltstore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = boltstore.Open(path); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("opened twice: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if err = s.Close(); err != nil {
		t.Fatal(err)
	}
	err = s.View(t.Context(), func(store.Reader) error { return nil })
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a closed store: %v", err)
	}
}

// TestMain is also the process that TestKill kills: it counts up in one transaction of two keys and says each number
// once it is stored.
func TestMain(m *testing.M) {
	path := os.Getenv("BOLTSTORE_TEST_COUNT")
	if path == "" {
		os.Exit(m.Run())
	}
	s, err := boltstore.Open(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		var n int
		err = s.Update(context.Background(), func(tx store.Tx) error {
			v, err := tx.Get("a")
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			n, _ = strconv.Atoi(string(v)) // empty is 0
			n++
			return errors.Join(tx.Put("a", []byte(strconv.Itoa(n))), tx.Put("b", []byte(strconv.Itoa(n))))
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(n)
	}
}

// TestKill kills the writer at random times: nothing acknowledged is lost, nothing is half-written.
func TestKill(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	path := filepath.Join(t.TempDir(), "store")
	last := 0
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "BOLTSTORE_TEST_COUNT="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err = cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for said := 0; ; said++ {
			var n int
			if _, err := fmt.Fscanln(out, &n); err != nil {
				break
			}
			last = n
			if said == 0 { // it works, however long it took to start
				time.AfterFunc(time.Duration(17*round)*time.Millisecond, func() { _ = cmd.Process.Kill() }) // killed is the point
			}
		}
		_ = cmd.Wait() // it was killed
		s, err := boltstore.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		err = s.View(t.Context(), func(r store.Reader) error {
			a, errA := r.Get("a")
			b, errB := r.Get("b")
			if last == 0 && errors.Is(errA, store.ErrNotFound) && errors.Is(errB, store.ErrNotFound) {
				return nil
			}
			n, _ := strconv.Atoi(string(a)) // compared below
			if string(a) != string(b) || n < last {
				return fmt.Errorf("a is %q, b is %q, %d was acknowledged: %w", a, b, last, errors.Join(errA, errB))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if err = s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if last == 0 {
		t.Error("nothing was ever written")
	}
}
