// SPDX-License-Identifier: Apache-2.0

package gitrepo

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestBomb reads a repository of a dozen objects that lists a million million files, or links.
func TestBomb(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]string{"files": "100644", "links": "120000"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("git"); err != nil {
				t.Skip("no git on this machine")
			}
			dir := t.TempDir()
			git(t, dir, "init", "--quiet", "--bare", "-b", "main")
			object, kind := gitWith(t, dir, "x", "hash-object", "-w", "--stdin"), "blob"
			for range 12 {
				var tree strings.Builder
				for i := range 10 {
					fmt.Fprintf(&tree, "%s %s %s\tf%d\n", mode, kind, object, i)
				}
				object, kind, mode = gitWith(t, dir, tree.String(), "mktree"), "tree", "040000"
			}
			commit := gitWith(t, dir, "bomb", "commit-tree", object)
			git(t, dir, "update-ref", "refs/heads/main", commit)
			_, res, err := read(t, Options{URL: "file://" + dir, Commit: commit})
			if err == nil || !strings.Contains(err.Error(), "more than 20000 files") {
				t.Errorf("got %+v, error %v", res, err)
			}
		})
	}
}

// gitWith is git with an input.
func gitWith(t *testing.T, dir, input string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// TestTail keeps the end of what a server may say without end.
func TestTail(t *testing.T) {
	t.Parallel()
	var said tail
	for i := range 10_000 {
		n, err := fmt.Fprintf(&said, "remote: line %d\n", i)
		if n == 0 || err != nil {
			t.Fatal(err)
		}
	}
	_, _ = said.Write([]byte(strings.Repeat("x", 1<<20) + "end"))
	if len(said.kept) > 4*maxErrorText || cap(said.kept) > 64*maxErrorText || !strings.HasSuffix(string(said.kept), "xend") {
		t.Errorf("%d bytes are kept in %d, which end with %q", len(said.kept), cap(said.kept), said.kept[len(said.kept)-4:])
	}
}

// TestHeavyObject fetches a commit whose message is a few kilobytes on the way, and more than git may take where it arrives.
func TestHeavyObject(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds, and much memory for a moment")
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git on this machine")
	}
	dir := t.TempDir()
	git(t, dir, "init", "--quiet", "--bare", "-b", "main")
	tree := gitWith(t, dir, "", "mktree")
	head := "tree " + tree + "\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\n"
	commit := gitWith(t, dir, head+strings.Repeat("x", 96<<20), "hash-object", "-t", "commit", "-w", "--stdin")
	git(t, dir, "update-ref", "refs/heads/main", commit)
	_, res, err := read(t, Options{URL: "file://" + dir, Commit: commit, maxMemory: 64 << 20})
	if err == nil {
		t.Errorf("it was read: %+v", res)
	}
	_, _, err = read(t, Options{URL: "file://" + dir, Commit: commit})
	if err != nil {
		t.Errorf("with enough memory: %v", err)
	}
}
