// SPDX-License-Identifier: Apache-2.0

package gitrepo

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// git runs git in dir with an identity and returns its output.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=maintenance.auto", "GIT_CONFIG_VALUE_0=false") // nothing goes on in a directory that is removed
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// origin makes a repository of two commits and returns it with their hashes. Everything in it that could do something
// on a checkout would leave a file at trap.
func origin(t *testing.T) (dir, trap, first, second string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git on this machine")
	}
	dir, trap = t.TempDir(), filepath.Join(t.TempDir(), "trap")
	git(t, dir, "init", "--quiet", "-b", "main")
	write := func(name, text string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, []byte(text), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("README", "first\n", 0o644)
	git(t, dir, "add", ".")
	git(t, dir, "commit", "--quiet", "-m", "one")
	first = git(t, dir, "rev-parse", "HEAD")
	write("README", "second\n", 0o644)
	write("bin/run", "#!/bin/sh\n", 0o755)
	write("ünï code", strings.Repeat("x", 3<<20), 0o644)
	write(".gitattributes", "* filter=evil export-ignore\n", 0o644)
	write(".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = ext::touch "+trap+"\n", 0o644)
	err := os.Symlink("/etc/passwd", filepath.Join(dir, "link"))
	if err != nil {
		t.Fatal(err)
	}
	git(t, dir, "config", "filter.evil.smudge", "touch "+trap)
	git(t, dir, "config", "filter.evil.clean", "cat")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "--quiet", "-m", "two")
	write(".git/hooks/post-checkout", "#!/bin/sh\ntouch "+trap+"\n", 0o755)
	return dir, trap, first, git(t, dir, "rev-parse", "HEAD")
}

func read(t *testing.T, o Options) (map[string]string, *Result, error) {
	t.Helper()
	o.Dir = filepath.Join(t.TempDir(), "clone")
	if o.Protocols == nil {
		o.Protocols = []string{"file"}
	}
	got := map[string]string{}
	res, err := Read(t.Context(), o, func(f File) error {
		b, err := io.ReadAll(f.Content)
		if err != nil {
			return err
		}
		text := string(b)
		if len(b) > 100 {
			text = fmt.Sprintf("%d bytes", len(b))
		}
		if f.Executable {
			text = "x " + text
		}
		got[f.Path] = text
		return nil
	})
	if _, serr := os.Stat(o.Dir); serr == nil {
		t.Error("the clone was left behind")
	}
	return got, res, err
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir, trap, first, second := origin(t)
	got, res, err := read(t, Options{URL: "file://" + dir, Commit: first})
	if err != nil || res.Commit != first || res.Files != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if d := cmp.Diff(map[string]string{"README": "first\n"}, got); d != "" {
		t.Error(d)
	}
	got, res, err = read(t, Options{URL: "file://" + dir})
	if err != nil || res.Commit != second || res.Left != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	delete(got, ".gitmodules")
	want := map[string]string{
		"README": "second\n", "bin/run": "x #!/bin/sh\n", "ünï code": "3145728 bytes", ".gitattributes": "* filter=evil export-ignore\n",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err = os.Stat(trap); err == nil {
		t.Error("something of the repository was run")
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	dir, _, first, _ := origin(t)
	tree := git(t, dir, "rev-parse", first+"^{tree}")
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no protocol of ours": {Options{URL: "file://" + dir, Protocols: []string{"https", "http"}}, `the protocol is "file"`},
		"a helper":            {Options{URL: "ext::sh -c false"}, `the protocol is "ext"`},
		"a name":              {Options{URL: "file://" + dir, Commit: "main"}, "not the whole hash"},
		"an option":           {Options{URL: "file://" + dir, Commit: "--upload-pack=touch x"}, "not the whole hash"},
		"an abbreviation":     {Options{URL: "file://" + dir, Commit: first[:12]}, "not the whole hash"},
		"another commit":      {Options{URL: "file://" + dir, Commit: strings.Repeat("0", 39) + "1"}, "no commit"},
		"a tree":              {Options{URL: "file://" + dir, Commit: tree}, ""},
		"too many bytes":      {Options{URL: "file://" + dir, MaxBytes: 1 << 20}, "more than 1048576 bytes"},
		"too many files":      {Options{URL: "file://" + dir, MaxFiles: 2}, "more than 2 files"},
		"no time":             {Options{URL: "file://" + dir, Timeout: time.Nanosecond}, "took longer"},
		"a password":          {Options{URL: "https://u:hunter2@localhost:1/x", Protocols: []string{"https"}}, "u:xxxxx@localhost"},
		"a token":             {Options{URL: "https://hunter2@localhost:1/x", Protocols: []string{"https"}}, "xxxxx@localhost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, res, err := read(t, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %+v, error %v, want %q", res, err, c.want)
			}
		})
	}
}
