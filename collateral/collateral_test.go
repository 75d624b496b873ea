// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sourceFunc makes a source of a function.
type sourceFunc func(context.Context, Request) (Item, error)

func (f sourceFunc) Get(ctx context.Context, r Request) (Item, error) { return f(ctx, r) }

func TestEmbeddedAndJoin(t *testing.T) {
	t.Parallel()
	crl, chain, root := CRL("Milan", false), Chain("Milan", false), RootCRL()
	first := Embedded{crl.Name(): {Body: []byte("first")}}
	second := Embedded{crl.Name(): {Body: []byte("second")}, chain.Name(): {Body: []byte("chain")}}
	broken := sourceFunc(func(context.Context, Request) (Item, error) { return Item{}, errors.New("broken") })
	src := Join(nil, first, broken, second)
	for _, c := range []struct {
		name string
		src  Source
		r    Request
		want string
	}{
		{"first has it", src, crl, "first"},
		{"after one that fails", src, chain, "chain"},
		{"none has it", src, root, ""},
		{"joined of nothing", Join(), crl, ""},
		{"nil map", Embedded(nil), crl, ""},
	} {
		it, err := c.src.Get(t.Context(), c.r)
		if string(it.Body) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: body %q, error %v", c.name, it.Body, err)
		}
		if err != nil && !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: error %v does not wrap ErrUnavailable", c.name, err)
		}
	}
	for _, s := range []Source{src, first, Join(), Record(src), Directory(t.TempDir())} {
		if _, err := s.Get(t.Context(), Request{}); err == nil || errors.Is(err, ErrUnavailable) {
			t.Errorf("%T: error of an empty request is %v", s, err)
		}
	}
}

func TestJoinTellsWhoMatters(t *testing.T) {
	t.Parallel()
	fails := func(err error) Source {
		return sourceFunc(func(context.Context, Request) (Item, error) { return Item{}, err })
	}
	other := fmt.Errorf("asking the other vendor: %w", ErrNotOffered)
	one, two := fmt.Errorf("first: %w", ErrUnavailable), &Refusal{URL: "https://x", Status: 404}
	for _, c := range []struct {
		src  Source
		want string
	}{
		{Join(fails(other), fails(one)), one.Error()},
		{Join(fails(one), fails(other), fails(two)), "first: collateral is not available; https://x answered 404 (Not Found)"},
		{Join(fails(other)), other.Error()},
	} {
		_, err := c.src.Get(t.Context(), RootCRL())
		if err == nil || err.Error() != c.want || !errors.Is(err, ErrUnavailable) {
			t.Errorf("error %q, want %q", err, c.want)
		}
	}
	_, err := Join(fails(one), fails(two)).Get(t.Context(), RootCRL())
	if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal != two {
		t.Errorf("the refusal is not found in %v", err)
	}
}

func TestJoinStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	asked := false
	src := Join(
		sourceFunc(func(ctx context.Context, _ Request) (Item, error) { cancel(); return Item{}, ctx.Err() }),
		sourceFunc(func(context.Context, Request) (Item, error) { asked = true; return Item{}, nil }),
	)
	if _, err := src.Get(ctx, RootCRL()); !errors.Is(err, context.Canceled) || asked {
		t.Errorf("error %v, second source asked: %v", err, asked)
	}
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	src := sourceFunc(func(_ context.Context, r Request) (Item, error) {
		if r.Kind == IntelRootCRL {
			return Item{}, ErrUnavailable
		}
		return Item{Body: []byte{byte(calls.Add(1))}}, nil
	})
	rec := Record(src)
	crl := CRL("Milan", false)
	if _, err := rec.Get(t.Context(), RootCRL()); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	answers := make([]byte, 8)
	for i := range answers {
		wg.Go(func() {
			it, err := rec.Get(t.Context(), crl)
			if err != nil {
				t.Error(err)
				return
			}
			answers[i] = it.Body[0]
		})
	}
	wg.Wait()
	used := rec.Used()
	if len(used) != 1 {
		t.Fatalf("recorded %d items, want 1", len(used))
	}
	for _, a := range answers {
		if a != used[crl.Name()].Body[0] {
			t.Errorf("answers %v differ from the recorded %v", answers, used[crl.Name()].Body)
		}
	}
	delete(used, crl.Name())
	if len(rec.Used()) != 1 {
		t.Error("the caller's map is the recorder's own")
	}
	if _, err := Record(nil).Get(t.Context(), crl); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a source: %v", err)
	}
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "collateral")
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("../secret", "outside")
	write("amd/crl/Milan", "list")
	write("intel/tcb-info/tdx/b0c06f000000", "info")
	write("intel/tcb-info/tdx/b0c06f000000.issuer-chain.pem", "chain")
	write("amd/crl/Genoa", strings.Repeat("x", MaxBodySize+1))
	write("intel/qe-identity/sgx", "identity")
	write("intel/qe-identity/sgx.issuer-chain.pem", strings.Repeat("x", MaxIssuerChainSize+1))
	write("amd/crl/Turin/file", "") // a directory where a file should be
	if err := os.Symlink("../../../secret", filepath.Join(dir, "amd", "crl", "Milan-vlek")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "amd", "crl", "Genoa-vlek"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		dir  Directory
		r    Request
		want Item
		err  string
	}{
		{"body alone", Directory(dir), CRL("Milan", false), Item{Body: []byte("list")}, ""},
		{"with issuer chain", Directory(dir), TCBInfo(TDX, [6]byte{0xb0, 0xc0, 0x6f}), Item{Body: []byte("info"), IssuerChain: []byte("chain")}, ""},
		{"no such file", Directory(dir), RootCRL(), Item{}, "intel/root-crl does not exist"},
		{"no such directory", Directory(dir + "-not"), RootCRL(), Item{}, "does not exist"},
		{"too large", Directory(dir), CRL("Genoa", false), Item{}, "more than 1048576 bytes"},
		{"issuer chain too large", Directory(dir), QEIdentity(SGX), Item{}, "more than 32768 bytes"},
		{"directory", Directory(dir), CRL("Turin", false), Item{}, "not that of a plain file"},
		{"link out of it", Directory(dir), CRL("Milan", true), Item{}, "escapes"},
		{"named pipe", Directory(dir), CRL("Genoa", true), Item{}, "not that of a plain file"},
	} {
		it, err := c.dir.Get(t.Context(), c.r)
		if d := cmp.Diff(c.want, it); d != "" {
			t.Errorf("%s: differs (-want +got):\n%s", c.name, d)
		}
		switch {
		case c.err == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.err != "" && (!errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: error %v, want ErrUnavailable with %q", c.name, err, c.err)
		}
	}
}
