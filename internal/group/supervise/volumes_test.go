// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/sandbox/sandboxtest"
	"cofferdam.dev/internal/spec"
)

const secretText = "hunter2-hunter2-hunter2"

// withSecret adds a volume of two files to a plan; the played guest keeps them in dir.
func withSecret(p *group.Plan, dir string) group.Contents {
	p.Boot.Cmdline += " " + sandboxtest.VolumesWord + dir
	files := []spec.File{
		{Path: "token", Content: spec.Content(secretText), Mode: 0o400},
		{Path: "deep/er/big", Content: bytes.Repeat([]byte("0123456789abcdef"), 200_000)}, // 3.2 MB, in four pieces
		{Path: "empty", Content: spec.Content{}},
	}
	v := spec.Volume{Name: "keys", Kind: spec.MountSecret, Files: files}
	p.Volumes = append(p.Volumes, group.Volume{Source: "sandbox:///tmp/atlas/secretsVolume/n-keys", Volume: v})
	return group.Contents{"keys": files}
}

// begin starts a group, which may be one that was reset, and waits until it runs.
func (b *bench) begin(c *group.Created, contents group.Contents) *group.Client {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := group.Start(c, group.StartOptions{Command: []string{self, "test-supervise", b.home}, Contents: contents})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		b.leaveNothing(c)
		<-s.Exited()
		_ = s.Close()
	})
	err = s.Wait(b.t.Context(), group.StageRunning)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.dial(c)
}

// TestSecretVolume fills a volume, and finds nothing of its content on the disk or in any log; and starts the group once
// more, which needs the content once more.
func TestSecretVolume(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	volumes := t.TempDir()
	p := b.plan("secret", "/bin/sh", "-c", "echo run; exec sleep 100")
	p.ScratchMiB = 1
	contents := withSecret(p, volumes)
	c, err := b.store.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	_, err = group.Start(c, group.StartOptions{Command: []string{"/bin/false"}})
	if !errors.Is(err, group.ErrContentsNeeded) {
		t.Errorf("started without contents: %v", err)
	}
	client := b.begin(c, contents)
	for _, f := range contents["keys"] {
		got, err := os.ReadFile(filepath.Join(volumes, "n-keys", f.Path))
		if err != nil || !bytes.Equal(got, f.Content) {
			t.Errorf("%s has %d bytes, want %d; %v", f.Path, len(got), len(f.Content), err)
		}
	}
	b.logged("secret", "run\n")
	noTrace(t, b.home)
	_ = client.Stop(t.Context(), 10*time.Millisecond)
	_ = client.Close()
	b.waitDead("secret")
	noTrace(t, b.home)
	first, _ := b.store.Lookup("secret")

	_ = os.RemoveAll(filepath.Join(volumes, "n-keys"))
	again, err := b.store.Reset("secret")
	if err != nil {
		t.Fatal(err)
	}
	_, err = group.Start(again, group.StartOptions{Command: []string{"/bin/false"}})
	if !errors.Is(err, group.ErrContentsNeeded) {
		t.Errorf("started again without contents: %v", err)
	}
	client = b.begin(again, contents)
	_, err = b.store.Reset("secret")
	if !errors.Is(err, group.ErrRunning) {
		t.Errorf("a running group was reset: %v", err)
	}
	r, err := client.Inspect(t.Context())
	if err != nil || r.Runs != 2 || r.ID != first.Record.ID || r.Containers[0].ID == first.Record.Containers[0].ID || r.Reason != "" {
		t.Errorf("record is %+v, %v", r, err)
	}
	b.logged("secret", "run\nrun\n")
	_ = client.Stop(t.Context(), 10*time.Millisecond)
	_ = client.Close()
	b.waitDead("secret")
}

// logged waits until the log of a group's container holds exactly this.
func (b *bench) logged(name, want string) {
	b.t.Helper()
	got := ""
	for range attempts {
		got = b.logOf(name, "main")
		if got == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("log of %s is %q, want %q", name, got, want)
}

// noTrace looks for the secret in everything below dir.
func noTrace(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // files come and go
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte(secretText)) {
			t.Errorf("%s holds the secret", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRepositoryVolume fills a volume with a commit, and tells why it can not.
func TestRepositoryVolume(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	origin, commit := repository(t)
	volumes := t.TempDir()
	plan := func(name, revision string) *group.Plan {
		p := b.plan(name, "/bin/true")
		p.Boot.Cmdline += " " + sandboxtest.VolumesWord + volumes
		p.Volumes = []group.Volume{{Source: "sandbox:///tmp/atlas/gitRepoVolume/n-" + name, Volume: spec.Volume{
			Name: "code", Kind: spec.MountGitRepo, Repository: &spec.Repository{URL: "file://" + origin, Revision: revision},
		}}}
		return p
	}
	b.let(plan("cloned", commit))
	b.waitDead("cloned")
	text, err := os.ReadFile(filepath.Join(volumes, "n-cloned", filepath.Base(origin), "run.sh"))
	info, _ := os.Stat(filepath.Join(volumes, "n-cloned", filepath.Base(origin), "run.sh"))
	if err != nil || string(text) != "#!/bin/sh\n" || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("the file is %q, %v", text, err)
	}
	b.wants("cloned", " VolumeReady Normal Volume code holds commit "+commit)

	_, s := b.create(plan("missing", strings.Repeat("1", 40)))
	err = s.Wait(t.Context(), group.StageRunning)
	if err == nil || !strings.Contains(err.Error(), "volume code") {
		t.Errorf("error is %v", err)
	}
	b.waitDead("missing")
	b.wants("missing", " VolumeFailed Warning volume code: reading file://")
}

func repository(t *testing.T) (dir, commit string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git on this machine")
	}
	dir = t.TempDir()
	err := os.WriteFile(filepath.Join(dir, "run.sh"), []byte("#!/bin/sh\n"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "."}, {"commit", "--quiet", "-m", "one"}, {"rev-parse", "HEAD"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=maintenance.auto", "GIT_CONFIG_VALUE_0=false") // nothing goes on in a directory that is removed
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v: %s", args, err, out)
		}
		commit = strings.TrimSpace(string(out))
	}
	return dir, commit
}

// TestSharedVolume serves a directory of this machine, and one that is not there.
func TestSharedVolume(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dir, volumes := t.TempDir(), t.TempDir()
	plan := func(name, dir string) *group.Plan {
		p := b.plan(name, "/bin/sleep", "100")
		p.Boot.Cmdline += " " + sandboxtest.VolumesWord + volumes
		p.Volumes = []group.Volume{{HostDir: dir, Source: "sandbox:///tmp/atlas/azureFileVolume/" + name, Volume: spec.Volume{
			Name: "data", Kind: spec.MountAzureFile, Share: &spec.Share{ReadOnly: true},
		}}}
		return p
	}
	_, client := b.start(plan("shared", dir))
	var text []byte
	for range attempts {
		text, _ = os.ReadFile(filepath.Join(volumes, "shared"))
		if len(text) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if string(text) != "0 64" {
		t.Errorf("the answer is %q", text)
	}
	_ = client.Stop(t.Context(), 10*time.Millisecond)
	b.wants("shared", " VolumeReady Normal Volume data is "+dir)
	_, s := b.create(plan("unshared", filepath.Join(dir, "missing")))
	err := s.Wait(t.Context(), group.StageRunning)
	if err == nil || !strings.Contains(err.Error(), "volume data: sharing "+dir) {
		t.Errorf("error is %v", err)
	}
	b.wants("unshared", " VolumeFailed Warning volume data: ")
}

// TestNetworkIsConfigured hands over a resolver before the first container; the played guest insists on that.
func TestNetworkIsConfigured(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.plan("dns", "/bin/true")
	p.DNS = spec.DNS{Servers: []string{"192.0.2.1"}}
	p.HostAliases = []spec.HostAlias{{Address: "192.0.2.2", Names: []string{"db"}}}
	b.let(p)
	if r := b.waitDead("dns").Record; r.State != group.StateExited {
		t.Errorf("group is %s (%s)", r.State, r.Reason)
	}
}
