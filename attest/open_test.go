// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// quote is a quote with report data and nothing else.
func quote(version uint16, tee uint32, data [64]byte) []byte {
	b := make([]byte, 4000)
	binary.LittleEndian.PutUint16(b, version)
	binary.LittleEndian.PutUint32(b[4:], tee)
	at := 48 + 320
	if tee == quoteTDX {
		at = 48 + 520
	}
	if version == 5 {
		at += 6
	}
	copy(b[at:], data[:])
	return b
}

func TestCheckQuote(t *testing.T) {
	t.Parallel()
	data := [64]byte{1, 63: 2}
	for name, q := range map[string][]byte{"SGX": quote(3, quoteSGX, data)} {
		if err := checkQuote(q, quoteSGX, data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, v := range []uint16{4, 5} {
		if err := checkQuote(quote(v, quoteTDX, data), quoteTDX, data); err != nil {
			t.Errorf("TDX version %d: %v", v, err)
		}
	}
	for name, c := range map[string]struct {
		quote []byte
		tee   uint32
	}{
		"empty":           {nil, quoteTDX},
		"header alone":    {quote(4, quoteTDX, data)[:48], quoteTDX},
		"cut report data": {quote(4, quoteTDX, data)[:48+520+63], quoteTDX},
		"EPID":            {quote(2, quoteSGX, data), quoteSGX},
		"other TEE":       {quote(3, quoteSGX, data), quoteTDX},
		"TDX version 3":   {quote(3, quoteTDX, data), quoteTDX},
		"SGX version 5":   {quote(5, quoteSGX, data), quoteSGX},
		"other data":      {quote(3, quoteSGX, [64]byte{1}), quoteSGX},
	} {
		if err := checkQuote(c.quote, c.tee, data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzCheckQuote(f *testing.F) {
	f.Add(quote(5, quoteTDX, [64]byte{1}), uint32(quoteTDX))
	f.Add(quote(3, quoteSGX, [64]byte{1}), uint32(quoteSGX))
	f.Fuzz(func(_ *testing.T, b []byte, tee uint32) { _ = checkQuote(b, tee, [64]byte{1}) })
}

// fakeSGX plays the library operating system: what is written as report data comes back in a quote.
type fakeSGX struct {
	osEntries
	version uint16
	stale   bool
}

func (f *fakeSGX) WriteFile(name string, b []byte) error {
	if err := f.osEntries.WriteFile(name, b); err != nil || f.stale {
		return err
	}
	return os.WriteFile(filepath.Join(filepath.Dir(name), "quote"), quote(f.version, quoteSGX, [64]byte(b)), 0o600)
}

// sgxFiles makes the files below a root; an empty kind leaves out the file that names it.
func sgxFiles(t *testing.T, root, kind string) string {
	t.Helper()
	dir := root + SGXRoot
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"user_report_data": nil, "quote": nil}
	if kind != "" {
		files["attestation_type"] = []byte(kind)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSGX(t *testing.T) {
	t.Parallel()
	data := [64]byte{8}
	for _, kind := range []string{"dcap", "dcap\n", ""} {
		s, err := OpenSGX(sgxFiles(t, t.TempDir(), kind))
		if err != nil {
			t.Fatalf("attestation type %q: %v", kind, err)
		}
		s.fs = &fakeSGX{version: 3}
		for range 2 {
			r, err := s.Report(t.Context(), data)
			if err != nil || r.Type != TypeSGX || s.Kind() != KindSGX || len(r.Report) != 4000 {
				t.Errorf("attestation type %q: %v", kind, err)
			}
		}
		for name, f := range map[string]*fakeSGX{"EPID": {version: 2}, "stale quote": {version: 3, stale: true}} {
			s.fs = f
			if r, err := s.Report(t.Context(), [64]byte{9}); err == nil || r != nil {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
		if err := os.Remove(s.name("quote")); err != nil {
			t.Fatal(err)
		}
		s.fs = osEntries{}
		if _, err := s.Report(t.Context(), data); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no quote: %v", err)
		}
	}
	for _, kind := range []string{"none", "epid"} {
		if _, err := OpenSGX(sgxFiles(t, t.TempDir(), kind)); err == nil || !strings.Contains(err.Error(), kind) {
			t.Errorf("attestation type %q: %v", kind, err)
		}
	}
	s, err := OpenSGX(sgxFiles(t, t.TempDir(), "dcap"))
	if err != nil {
		t.Fatal(err)
	}
	<-s.turn // somebody else's
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Report(ctx, data); !errors.Is(err, context.Canceled) {
		t.Errorf("while another request goes on: %v", err)
	}
}

func TestOpenNamesWhatItTried(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	p, err := machine{root}.open(t.Context(), Kinds())
	var unavailable *UnavailableError
	if p != nil || !errors.As(err, &unavailable) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v, %v", p, err)
	}
	var kinds []string
	for _, a := range unavailable.Attempts {
		kinds = append(kinds, a.Kind)
	}
	if !slices.Equal(kinds, Kinds()) {
		t.Errorf("tried %v, not %v", kinds, Kinds())
	}
	for _, path := range []string{ConfigfsRoot, TDXDevice, SEVGuestDevice, SEVDevice, SGXRoot} {
		if !strings.Contains(err.Error(), root+path) {
			t.Errorf("%q does not name %s", err, path)
		}
	}
	for name, kinds := range map[string][]string{
		"none": nil, "unknown": {"simulated"}, "unknown beside a known one": {KindSGX, "sample"}, "empty": {""},
	} {
		if _, err := (machine{root}).open(t.Context(), kinds); err == nil || errors.As(err, &unavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (machine{root}).open(ctx, Kinds()); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
}

func TestOpenTakesTheFirstThatIsThere(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	// The kernel's framework without a provider: the directory is there, but entries have no attributes.
	if err := os.MkdirAll(root+ConfigfsRoot, 0o700); err != nil {
		t.Fatal(err)
	}
	sgxFiles(t, root, "dcap")
	p, err := machine{root}.open(t.Context(), Kinds())
	if err != nil || p.Kind() != KindSGX {
		t.Fatalf("%v, %v", p, err)
	}
	if _, err := (machine{root}).open(t.Context(), []string{KindSEVGuest}); err == nil {
		t.Error("another kind than the one asked for was opened")
	}
}
