// SPDX-License-Identifier: Apache-2.0

package lockfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cofferdam.dev/internal/policygen"
	"cofferdam.dev/internal/testcap"

	"github.com/google/go-cmp/cmp"
)

const scheme = "tar2ext4-verity-v1"

var (
	root   = strings.Repeat("ab", 32)
	digest = "sha256:" + strings.Repeat("cd", 32)
)

func facts() policygen.ImageFacts {
	return policygen.ImageFacts{LayerRoots: []string{root}, Config: policygen.ImageConfig{
		Env: []string{"A=<&>"}, Entrypoint: []string{"/e"}, Cmd: []string{"c"}, User: "1", WorkingDir: "/w", StopSignal: "SIGINT",
		Volumes: []string{"/v"},
	}}
}

func locked(t testing.TB, refs ...string) *File {
	t.Helper()
	var f File
	for _, ref := range refs {
		if err := f.Set(ref, digest, scheme, facts()); err != nil {
			t.Fatal(err)
		}
	}
	return &f
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	f := locked(t, "r.example/b:1", "r.example/a@"+digest)
	data, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, again); diff != "" {
		t.Error(diff)
	}
	same, err := locked(t, "r.example/a@"+digest, "r.example/b:1").Bytes()
	if err != nil || !bytes.Equal(data, same) {
		t.Errorf("the order of locking shows: %v", err)
	}
	got, ok, err := again.Facts("r.example/b:1", scheme)
	want := facts()
	want.Reference = "r.example/b:1"
	if diff := cmp.Diff(want, got); diff != "" || !ok || err != nil {
		t.Errorf("%v, %v: %s", ok, err, diff)
	}
	if _, ok, err := again.Facts("r.example/c", scheme); ok || err != nil {
		t.Errorf("an image that is not locked: %v, %v", ok, err)
	}
	if _, ok, err := again.Facts("r.example/b:1", "other"); ok || err == nil || !strings.Contains(err.Error(), `scheme "tar2ext4-verity-v1", this version makes "other"`) {
		t.Errorf("roots of another scheme: %v, %v", ok, err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good, err := locked(t, "r.example/b:1").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"other schema":      {"lock/v1", "lock/v2", `expected "cofferdam.dev/lock/v1"`},
		"unknown key":       {`"platform"`, `"more": 1, "platform"`, `unknown field "more"`},
		"key twice":         {`"platform"`, `"digest": "x", "platform"`, "images.r.example/b:1.digest is given twice"},
		"key in other case": {`"platform"`, `"Layers": [], "platform"`, "is given twice"},
		"digest":            {"sha256:cd", "sha512:cd", "expected sha256: and 64 hex digits"},
		"platform":          {"linux/amd64", "linux/arm64", `platform is "linux/arm64"`},
		"no scheme":         {scheme, "", "scheme of the layer roots is missing"},
		"root in capitals":  {root, strings.ToUpper(root), "layer 0: root"},
		"no layers":         {"\"" + root + "\"", "", "there are no layers"},
		"empty reference":   {"r.example/b:1", "", "the reference is empty"},
		"pinned otherwise":  {"r.example/b:1", "r.example/b@sha256:00", "but the reference pins sha256:00"},
		"wrong type":        {`"user": "1"`, `"user": 1`, "cannot unmarshal number"},
		"not UTF-8":         {"/w", "\xff", "not UTF-8"},
		"truncated":         {"}\n}\n", "", "unexpected"},
		"something after":   {"  }\n}\n", "  }\n}\n{}", "something follows"},
		"deep":              {`"/e"`, strings.Repeat("[", 50) + strings.Repeat("]", 50), "deep"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(string(good), c.old, c.new, 1)
			if text == string(good) {
				t.Fatal("the case changes nothing")
			}
			if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := Parse(make([]byte, MaxSize+1)); err == nil {
		t.Error("an oversized file was accepted")
	}
	if err := new(File).Set("r", digest, scheme, policygen.ImageFacts{}); err == nil {
		t.Error("an image without layers was locked")
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	f, err := OpenFacts(testcap.Vectors(t, "confcom/image-facts.json"))
	if err != nil {
		t.Fatal(err)
	}
	const ref = "mcr.microsoft.com/acc/samples/aci/helloworld@sha256:86da7a2c5e55b72bf6bc7cf465b860e49c075395d854877124de63a9342ac777"
	if got := f[ref]; len(got.LayerRoots) != 7 || got.Config.WorkingDir != "/app" || got.Reference != ref {
		t.Errorf("facts %+v", got)
	}
}

func TestFactsRefuse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":  {`{"r": {"config": {"Shell": []}, "layers": ["` + root + `"]}}`, `unknown field "Shell"`},
		"layers twice": {`{"r": {"layers": ["` + root + `"], "Layers": []}}`, "given twice"},
		"image twice":  {`{"r": {"layers": ["` + root + `"]}, "r": {"layers": ["` + root + `"]}}`, "r is given twice"},
		"no layers":    {`{"r": {"config": {}}}`, `image "r": there are no layers`},
		"bad root":     {`{"r": {"layers": ["x"]}}`, `layer 0: root "x"`},
		"no reference": {`{"": {"layers": ["` + root + `"]}}`, "the reference is empty"},
		"list":         {`[]`, "cannot unmarshal array"},
		"empty":        {``, "EOF"},
	} {
		if _, err := ParseFacts([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	upper := `{"r:A": {"layers": ["` + root + `"]}, "r:a": {"layers": ["` + root + `"]}}`
	if f, err := ParseFacts([]byte(upper)); err != nil || len(f) != 2 {
		t.Errorf("tags that differ by case: %v, %v", f, err)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), Name)
	var group sync.WaitGroup
	const writers = 8
	for n := range writers {
		group.Go(func() {
			err := Update(path, func(f *File) error { return f.Set(fmt.Sprintf("r.example/%d", n), digest, scheme, facts()) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	f, err := Open(path)
	if err != nil || len(f.Images) != writers {
		t.Fatalf("%d images after %d updates at a time, %v", len(f.Images), writers, err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	if err := Update(path, func(f *File) error { f.Images = nil; return boom }); !errors.Is(err, boom) {
		t.Errorf("error %v, want boom", err)
	}
	if err := Update(path, func(*File) error { return nil }); err != nil {
		t.Error(err)
	}
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("an update that changes nothing replaced the file, %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOpenWithoutFile(t *testing.T) {
	t.Parallel()
	f, err := Open(filepath.Join(t.TempDir(), Name))
	if err != nil || len(f.Images) != 0 {
		t.Errorf("%v, %v", f, err)
	}
	if _, err := OpenFacts(filepath.Join(t.TempDir(), "facts")); err == nil {
		t.Error("facts that do not exist were read")
	}
}

func TestWriteFileKeepsModeAndLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("a"), 0o640), os.Symlink("file", link)); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(link, []byte("b")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(file)
	data, readErr := os.ReadFile(file)
	if err != nil || readErr != nil || info.Mode() != 0o640 || string(data) != "b" {
		t.Errorf("%v %q, %v, %v", info.Mode(), data, err, readErr)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	good, err := locked(f, "r.example/b:1").Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":"cofferdam.dev/lock/v1","images":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err != nil {
			return
		}
		once, err := file.Bytes()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := Parse(once)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		twice, err := again.Bytes()
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("written twice: %q and %q, %v", once, twice, err)
		}
	})
}

func FuzzParseFacts(f *testing.F) {
	f.Add([]byte(`{"r": {"config": {"Env": ["A=b"], "Cmd": null}, "layers": ["` + root + `"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		facts, err := ParseFacts(data)
		for ref, i := range facts {
			if err == nil && (ref == "" || len(i.LayerRoots) == 0) {
				t.Errorf("accepted %q with layers %v", ref, i.LayerRoots)
			}
		}
	})
}
