// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
)

func TestOneRequestForManyCallers(t *testing.T) {
	t.Parallel()
	s, clk, dir := newServer(t), &clock{}, t.TempDir()
	s.block = make(chan struct{})
	// Two caches of one directory stand for two processes.
	caches := []*Cache{open(t, Options{Dir: dir, Source: s, Now: clk.now}), open(t, Options{Dir: dir, Source: s, Now: clk.now})}
	const callers = 32
	items := make([]collateral.Item, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			var err error
			items[i], err = caches[i%2].Get(t.Context(), vcek)
			if err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, func() bool { return s.calls.Load() > 0 })
	close(s.block)
	wg.Wait()
	if got := s.calls.Load(); got != 1 {
		t.Errorf("the source was asked %d times, want once", got)
	}
	for i := range items {
		if !cmp.Equal(items[0], items[i]) {
			t.Errorf("caller %d got another item", i)
		}
	}
}

func TestManyNamesAtOnce(t *testing.T) {
	t.Parallel()
	s, clk := newServer(t), &clock{}
	cache := open(t, Options{Dir: t.TempDir(), Source: s, Now: clk.now})
	var wg sync.WaitGroup
	for i := range 8 {
		for range 4 {
			wg.Go(func() {
				if _, err := cache.Get(t.Context(), collateral.TCBInfo(collateral.SGX, [6]byte{byte(i)})); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if got := s.calls.Load(); got != 8 {
		t.Errorf("the source was asked %d times, want 8", got)
	}
}

// TestCallerGivesUp cancels the caller that made the request: another one makes it again.
func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	s, clk := newServer(t), &clock{}
	s.block = make(chan struct{})
	cache := open(t, Options{Dir: t.TempDir(), Source: s, Now: clk.now})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := cache.Get(ctx, crl); first <- err }()
	waitFor(t, func() bool { return s.calls.Load() == 1 })
	go func() { _, err := cache.Get(t.Context(), crl); second <- err }()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first caller's error is %v", err)
	}
	waitFor(t, func() bool { return s.calls.Load() == 2 })

	late, giveUp := context.WithCancel(t.Context())
	third := make(chan error, 1)
	go func() { _, err := cache.Get(late, crl); third <- err }()
	giveUp()
	if err := <-third; !errors.Is(err, context.Canceled) || !errors.Is(err, collateral.ErrUnavailable) {
		t.Errorf("the error of a caller that waited is %v", err)
	}
	close(s.block)
	if err := <-second; err != nil {
		t.Errorf("the second caller's error is %v", err)
	}
}

func TestSourcePanics(t *testing.T) {
	t.Parallel()
	cache := open(t, Options{Dir: t.TempDir(), Source: sourceFunc(func(context.Context, collateral.Request) (collateral.Item, error) {
		panic("bug")
	})})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = cache.Get(t.Context(), crl)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	unlock, err := cache.lock(ctx, crl.Name())
	if err != nil {
		t.Fatalf("the lock is still held: %v", err)
	}
	unlock()
	if len(cache.flights) != 0 {
		t.Error("the flight never landed")
	}
}

func TestLockWaits(t *testing.T) {
	t.Parallel()
	cache := open(t, Options{Dir: t.TempDir(), Source: newServer(t), Now: (&clock{}).now})
	unlock, err := cache.lock(t.Context(), crl.Name())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	if _, err := cache.Get(ctx, crl); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, collateral.ErrUnavailable) {
		t.Errorf("while another process holds the lock: %v", err)
	}
	unlock()
	get(t, cache, crl)
}

func TestEviction(t *testing.T) {
	t.Parallel()
	s, clk, dir := newServer(t), &clock{}, t.TempDir()
	cache := open(t, Options{Dir: dir, Source: s, Now: clk.now})
	request := func(i int) collateral.Request {
		return collateral.TCBInfo(collateral.SGX, [6]byte{1, byte(i)})
	}
	path := func(i int) string { return filepath.Join(dir, entryPath(request(i).Name())) }
	const size = blockSize // an entry of these fits into one block
	for i := range 10 {
		get(t, cache, request(i))
		at := start.Add(time.Duration(i-20) * time.Hour)
		if err := os.Chtimes(path(i), at, at); err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path(i))
		if err != nil || info.Size() > blockSize {
			t.Fatalf("entry has %d bytes, error %v", info.Size(), err)
		}
	}
	get(t, cache, request(0)) // the oldest is used again
	old, young := filepath.Join(dir, tempDir, "old"), filepath.Join(dir, tempDir, "young")
	write(t, old, nil)
	write(t, young, nil)
	if err := errors.Join(os.Chtimes(old, start, start.Add(-2*time.Hour)), os.Chtimes(young, start, start)); err != nil {
		t.Fatal(err)
	}
	cache.opts.MaxBytes = 8 * size
	get(t, cache, request(10))
	var kept []int
	for i := range 11 {
		if _, err := os.Lstat(path(i)); err == nil {
			kept = append(kept, i)
		}
	}
	if diff := cmp.Diff([]int{0, 5, 6, 7, 8, 9, 10}, kept); diff != "" {
		t.Errorf("entries left differ (-want +got):\n%s", diff)
	}
	if _, err := os.Lstat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an old temporary file is left: %v", err)
	}
	if _, err := os.Lstat(young); err != nil {
		t.Errorf("a temporary file that may be in use is gone: %v", err)
	}
}

// TestRefusalsTakeNoRoom has a source that refuses whatever it is asked: what is remembered of it stays bounded, and no
// empty directories are left.
func TestRefusalsTakeNoRoom(t *testing.T) {
	t.Parallel()
	s, dir := newServer(t), t.TempDir()
	s.fail(&collateral.Refusal{URL: "u", Status: 404})
	cache := open(t, Options{Dir: dir, Source: s, Now: (&clock{}).now, MaxBytes: 10 * blockSize})
	for i := range 60 {
		id := make([]byte, 64)
		id[0] = byte(i + 1)
		if _, err := cache.Get(t.Context(), collateral.VCEK("Milan", id, [8]byte{})); !errors.Is(err, collateral.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	files, err := cache.files()
	if err != nil {
		t.Fatal(err)
	}
	chips, err := os.ReadDir(filepath.Join(dir, "amd", "vcek", "Milan"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) > 10 || len(files) == 0 || len(chips) != len(files) {
		t.Errorf("%d files in %d directories are left, want at most 10", len(files), len(chips))
	}
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatal("it never happened")
}

// childDir makes the test binary a process that fills the cache in that directory until it is killed.
const childDir = "COFFERDAM_TEST_CACHE_DIR"

func TestChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.SkipNow() // it is TestKilledProcesses that runs this
	}
	cache := open(t, Options{Dir: dir, Source: newServer(t), Now: (&clock{}).now, MaxBytes: 20_000})
	for i := 0; ; i++ {
		it, err := cache.Get(t.Context(), collateral.TCBInfo(collateral.SGX, [6]byte{byte(i % 32)}))
		if err != nil {
			fmt.Println("FAILED:", err)
			os.Exit(1)
		}
		if i == 0 {
			fmt.Println("READY", len(it.Body))
		}
	}
}

// killChild runs such a process, and kills it some time after its first word, however long that took.
func killChild(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return
	}
	said := bufio.NewReader(out)
	first, _ := said.ReadString('\n')                        // judged below
	time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // killed is the point
	rest, _ := io.ReadAll(said)
	err = cmd.Wait()
	if err == nil || !strings.HasPrefix(first, "READY") || strings.Contains(string(rest), "FAILED") {
		t.Errorf("the process ended by itself: %v\n%s%s", err, first, rest)
	}
}

// TestKilledProcesses kills processes that share a directory at arbitrary moments. What is left is whole.
func TestKilledProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Parallel()
	dir := t.TempDir()
	for round := range 6 {
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() { killChild(t, dir, time.Duration(70*round+40*i)*time.Millisecond) })
		}
		wg.Wait()
	}
	cache := open(t, Options{Dir: dir, Now: (&clock{}).now})
	files, err := cache.files()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Error("nothing was stored: the processes did not get that far")
	}
	for _, f := range files {
		rel, err := filepath.Rel(dir, strings.TrimSuffix(f.path, entrySuffix))
		if err != nil {
			t.Fatal(err)
		}
		r, err := collateral.ParseName(filepath.ToSlash(rel))
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := cache.load(r); err != nil {
			t.Error(err)
		}
	}
	cache.opts.Source = newServer(t)
	get(t, cache, vcek) // and it works on
}
