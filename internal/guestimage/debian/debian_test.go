// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// content is what the fake mirror serves as every package.
const content = "a package"

// fakeApt puts an apt in front of the path whose mirror has two kernels, and which writes down how it was called.
func fakeApt(t *testing.T) (calls string) {
	t.Helper()
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	const prologue = "#!/bin/sh\nset -eu\necho \"$(basename $0) $*\" >>\"$(dirname $0)/calls\"\nwhile [ \"$1\" = -o ]; do shift 2; done\n"
	for name, script := range map[string]string{
		"apt-get": `case "$1" in
indextargets) echo 'Debian|Debian|http://mirror.example/debian/' ;;
--quiet) case "$*" in
  *download*) printf 'a package' >linux.deb ;;
  esac ;;
esac`,
		"apt-cache": `case "$1 $2" in
'pkgnames linux-image-6.12.') printf '%s\n' linux-image-6.12.9+deb12-cloud-amd64 linux-image-6.12.10+deb12-cloud-amd64 \
  linux-image-6.12.11+deb12-amd64 linux-image-6.12.12+deb12-cloud-amd64-unsigned ;;
'madison linux-image-6.12.9+deb12-cloud-amd64') echo ' linux-image-6.12.9+deb12-cloud-amd64 | 6.12.9-1 | http://mirror.example' ;;
'madison linux-image-6.12.10+deb12-cloud-amd64') echo ' linux-image-6.12.10+deb12-cloud-amd64 | 6.12.10-1 | http://mirror.example' ;;
esac`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(prologue+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return calls
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestFetch(t *testing.T) {
	const name = "linux-image-6.12.9+deb12-cloud-amd64"
	for title, c := range map[string]struct {
		want    Want
		isErr   error
		message string
	}{
		"as pinned":     {Want{name, "6.12.9-1", sum(content), []string{"a"}}, nil, ""},
		"other bytes":   {Want{name, "6.12.9-1", sum("else"), []string{"a"}}, nil, "the lock says"},
		"other version": {Want{name, "6.12.9-2", sum(content), []string{"a"}}, ErrNotAvailable, ""},
		"unknown":       {Want{"linux-image-7", "7-1", sum(content), []string{"a"}}, ErrNotAvailable, ""},
	} {
		t.Run(title, func(t *testing.T) {
			calls := fakeApt(t)
			f := Fetcher{Dir: t.TempDir(), Keyring: os.DevNull}
			p, err := f.Fetch(context.Background(), c.want)
			if c.isErr == nil && c.message == "" {
				if err != nil {
					t.Fatal(err)
				}
				checkFetched(t, f, c.want, p, calls)
				return
			}
			if err == nil || (c.isErr != nil && !errors.Is(err, c.isErr)) || !strings.Contains(err.Error(), c.message) {
				t.Errorf("got %v, want %v %q", err, c.isErr, c.message)
			}
			if _, ok := f.Cached(c.want); ok {
				t.Error("the refused package counts as cached")
			}
		})
	}
}

// checkFetched also fetches again, which must not call apt, and once more after damage, which must.
func checkFetched(t *testing.T, f Fetcher, w Want, p Package, calls string) {
	t.Helper()
	want := Package{Name: w.Name, Version: w.Version, SHA256: w.SHA256, File: f.path(w.Name, w.Version)}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	count := func() int {
		text, err := os.ReadFile(calls)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "indextargets") && !strings.Contains(line, "Dir::Etc::SourceParts=/dev/null") {
				t.Errorf("apt ran with the machine's sources: %s", line)
			}
		}
		return strings.Count(string(text), "\n")
	}
	before := count()
	if _, err := f.Fetch(context.Background(), w); err != nil || count() != before {
		t.Errorf("second fetch: %v, %d calls of apt", err, count()-before)
	}
	if err := os.WriteFile(p.File, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Fetch(context.Background(), w); err != nil || count() == before {
		t.Errorf("fetch after damage: %v, %d calls of apt", err, count()-before)
	}
}

func TestFetchNewest(t *testing.T) {
	fakeApt(t)
	f := Fetcher{Dir: t.TempDir(), Keyring: os.DevNull}
	p, err := f.FetchNewest(context.Background(), "linux-image-6.12.", "-cloud-amd64", []string{"a", "b-security"})
	if err != nil {
		t.Fatal(err)
	}
	const name, version = "linux-image-6.12.10+deb12-cloud-amd64", "6.12.10-1"
	want := Package{Name: name, Version: version, SHA256: sum(content), File: f.path(name, version)}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	list, err := os.ReadFile(filepath.Join(f.Dir, "apt", "sources.list"))
	if err != nil {
		t.Fatal(err)
	}
	wantList := "deb [arch=amd64 signed-by=" + os.DevNull + "] http://mirror.example/debian a main\n" +
		"deb [arch=amd64 signed-by=" + os.DevNull + "] http://mirror.example/debian-security b-security main\n"
	if diff := cmp.Diff(wantList, string(list)); diff != "" {
		t.Error(diff)
	}
	if _, err := f.FetchNewest(context.Background(), "linux-image-7.", "-cloud-amd64", nil); !errors.Is(err, ErrNotAvailable) {
		t.Errorf("got %v, want ErrNotAvailable", err)
	}
}

func TestParseTargets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ out, mirror, security string }{
		"nothing":      {},
		"Debian":       {"Debian|Debian|http://a/debian/\nDebian|Debian-Security|http://b/security/\n", "http://a/debian", "http://b/security"},
		"first counts": {"Debian|Debian|http://a/\nDebian|Debian|http://b/\n", "http://a", ""},
		"others":       {"Ubuntu|Ubuntu|http://u/\nDebian|Other|http://o/\n||\n|\nDebian|Debian\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mirror, security := parseTargets(c.out)
			if mirror != c.mirror || security != c.security {
				t.Errorf("got %q and %q, want %q and %q", mirror, security, c.mirror, c.security)
			}
		})
	}
}

func TestUnpackReplaces(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "root")
	p := Package{Name: "broken", File: filepath.Join(t.TempDir(), "broken.deb")}
	if err := os.WriteFile(p.File, []byte("not a package"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(context.Background(), p, dir); err == nil {
		t.Error("a file that is no package was unpacked")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left in its place: %v", err)
	}
}
