// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fakeConfigfs keeps entries in a real directory and plays the kernel: it fills new entries with attributes and answers
// a written inblob.
type fakeConfigfs struct {
	osEntries
	provider string
	quote    bool   // answer with a TDX quote, whatever provider says
	aux      []byte // nil for none
	floor    string // the kernel's own privilege level; empty for no such file
	races    int    // how many reports another user spoils
	wrong    bool   // answer with other report data
	fail     string // the attribute or call that fails
}

var errFake = errors.New("fake failure")

func (f *fakeConfigfs) Mkdir(name string) error {
	if f.fail == "mkdir" {
		return errFake
	}
	if err := f.osEntries.Mkdir(name); err != nil {
		return err
	}
	f.put(name, "generation", []byte("0\n"))
	f.put(name, "provider", []byte(f.provider+"\n"))
	if f.aux != nil {
		f.put(name, "auxblob", f.aux)
	}
	if f.floor != "" {
		f.put(name, "privlevel_floor", []byte(f.floor+"\n"))
	}
	return nil
}

func (f *fakeConfigfs) put(dir, name string, b []byte) {
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		panic(err)
	}
}

// Remove removes the attributes too, as the kernel does.
func (f *fakeConfigfs) Remove(name string) error {
	if f.fail == "remove" {
		return errFake
	}
	return os.RemoveAll(name)
}

func (f *fakeConfigfs) ReadFile(name string, limit int64) ([]byte, error) {
	if f.fail == filepath.Base(name) {
		return nil, errFake
	}
	return f.osEntries.ReadFile(name, limit)
}

func (f *fakeConfigfs) WriteFile(name string, b []byte) error {
	if f.fail == filepath.Base(name) {
		return errFake
	}
	dir := filepath.Dir(name)
	if filepath.Base(name) == "privlevel" { // counted by the kernel, too
		f.put(dir, "generation", []byte("1\n"))
		f.put(dir, "privlevel", b)
		return nil
	}
	before, err := os.ReadFile(filepath.Join(dir, "generation"))
	if err != nil {
		return err
	}
	generation, err := strconv.Atoi(strings.TrimSpace(string(before)))
	if err != nil {
		return err
	}
	level, err := os.ReadFile(filepath.Join(dir, "privlevel"))
	if f.floor != "" && f.floor != "0" && (err != nil || string(level) != f.floor) {
		return fmt.Errorf("the kernel refuses level %q below its own, %s", level, f.floor)
	}
	data := [64]byte(b)
	if f.wrong {
		data[0] ^= 1
	}
	generation++
	if f.races > 0 {
		f.races--
		generation, data = generation+1, [64]byte{99}
	}
	f.put(dir, "generation", fmt.Appendf(nil, "%d\n", generation))
	if f.quote {
		f.put(dir, "outblob", quote(4, quoteTDX, data))
	} else {
		f.put(dir, "outblob", report(data))
	}
	return nil
}

func open(t *testing.T, f *fakeConfigfs) *Configfs {
	t.Helper()
	c, err := OpenConfigfs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.fs = f
	return c
}

func TestConfigfsReport(t *testing.T) {
	t.Parallel()
	data := [64]byte{5}
	for _, c := range []struct {
		name string
		fake fakeConfigfs
		want Result
	}{
		{"SNP", fakeConfigfs{provider: "sev_guest"}, Result{Type: TypeSEVSNP, Report: report(data)}},
		{"SNP with certificates", fakeConfigfs{provider: "sev_guest", aux: []byte("table")},
			Result{Type: TypeSEVSNP, Report: report(data), Certificates: []byte("table")}},
		{"SNP of the most privileged level", fakeConfigfs{provider: "sev_guest", floor: "0"},
			Result{Type: TypeSEVSNP, Report: report(data)}},
		{"SNP below a service module", fakeConfigfs{provider: "sev_guest", floor: "2"},
			Result{Type: TypeSEVSNP, Report: report(data)}},
		{"SNP after a race", fakeConfigfs{provider: "sev_guest", races: maxAttempts - 1},
			Result{Type: TypeSEVSNP, Report: report(data)}},
		{"TDX", fakeConfigfs{provider: "tdx_guest", quote: true, aux: []byte("no certificates")},
			Result{Type: TypeTDX, Report: quote(4, quoteTDX, data)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := open(t, &c.fake)
			got, err := p.Report(t.Context(), data)
			if err != nil {
				t.Fatal(err)
			}
			if got.Type != c.want.Type || !bytes.Equal(got.Report, c.want.Report) || !bytes.Equal(got.Certificates, c.want.Certificates) {
				t.Errorf("result is %+v", got)
			}
			left, err := os.ReadDir(p.root)
			if err != nil || len(left) != 0 {
				t.Errorf("%d entries are left, %v", len(left), err)
			}
		})
	}
}

func TestConfigfsFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		fake fakeConfigfs
		want string
	}{
		{"other provider", fakeConfigfs{provider: "arm_cca_guest"}, "arm_cca_guest"},
		{"races without end", fakeConfigfs{provider: "sev_guest", races: maxAttempts}, "generation"},
		{"other report data", fakeConfigfs{provider: "sev_guest", wrong: true}, "report data"},
		{"other report data in a quote", fakeConfigfs{provider: "tdx_guest", quote: true, wrong: true}, "report data"},
		{"report for a quote", fakeConfigfs{provider: "tdx_guest"}, "TEE type"},
		{"no entry", fakeConfigfs{fail: "mkdir"}, "making entry"},
		{"no privilege level", fakeConfigfs{provider: "sev_guest", floor: "2", fail: "privlevel_floor"}, "reading privilege level"},
		{"a level that is no number", fakeConfigfs{provider: "sev_guest", floor: "x"}, "reading privilege level"},
		{"level refused", fakeConfigfs{provider: "sev_guest", floor: "1", fail: "privlevel"}, "choosing privilege level 1"},
		{"no report data", fakeConfigfs{fail: "inblob"}, "writing report data"},
		{"no report", fakeConfigfs{fail: "outblob"}, "reading report"},
		{"no provider", fakeConfigfs{fail: "provider"}, "reading provider"},
		{"no generation", fakeConfigfs{fail: "generation"}, "reading generation"},
		{"certificates unreadable", fakeConfigfs{provider: "sev_guest", fail: "auxblob"}, "reading certificates"},
		{"entry stays", fakeConfigfs{provider: "sev_guest", fail: "remove"}, "removing entry"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := open(t, &c.fake).Report(t.Context(), [64]byte{1})
			if err == nil || r != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, &fakeConfigfs{}).Report(ctx, [64]byte{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
}

func TestConfigfsMustExist(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenConfigfs(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
	if _, err := OpenConfigfs(file); err == nil {
		t.Error("a file is a directory")
	}
	if c := open(t, &fakeConfigfs{}); c.Kind() != "configfs-tsm" {
		t.Errorf("kind is %q", c.Kind())
	}
}

func TestFilesAreBounded(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "attribute")
	if err := os.WriteFile(name, make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := (osEntries{}).ReadFile(name, 11); err != nil || len(b) != 11 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := (osEntries{}).ReadFile(name, 10); err == nil {
		t.Error("11 bytes are read within a limit of 10")
	}
	if err := (osEntries{}).WriteFile(name, []byte("report data")); err != nil {
		t.Error(err)
	}
	if err := (osEntries{}).WriteFile(name+"x", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an attribute that does not exist was written: %v", err)
	}
}

func TestConfigfsProbe(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"sev_guest", "tdx_guest"} {
		c := open(t, &fakeConfigfs{provider: p})
		if err := c.probe(); err != nil {
			t.Errorf("%s: %v", p, err)
		}
		if left, err := os.ReadDir(c.root); err != nil || len(left) != 0 {
			t.Errorf("%s: %d entries are left, %v", p, len(left), err)
		}
	}
	for name, f := range map[string]*fakeConfigfs{
		"no provider": {fail: "mkdir"}, "unknown provider": {provider: "arm_cca_guest"}, "stays": {provider: "sev_guest", fail: "remove"},
	} {
		if err := open(t, f).probe(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestImports keeps the package small: it runs in the measured guest.
func TestImports(t *testing.T) {
	t.Parallel()
	formats := []string{
		"cofferdam.dev/evidence", "cofferdam.dev/evidence/snp", "cofferdam.dev/evidence/tdx", "cofferdam.dev/internal/evidencewire",
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			path := strings.Trim(strings.TrimSpace(line), `"`)
			if strings.HasPrefix(line, "\t\"") && strings.Contains(path, ".") && !slices.Contains(formats, path) {
				t.Errorf("%s imports %s", f, path)
			}
		}
	}
}
