// SPDX-License-Identifier: Apache-2.0

// Package gitrepo reads the files of one commit of a git repository, for a volume.
//
// It runs the machine's git, fetches into a bare repository and reads the objects: nothing is checked out, so no hook,
// filter, attribute or submodule of the repository has any effect, and the user's own configuration of git has none
// either. Whoever serves the repository is trusted for nothing but the content of the commit, and not even for that when
// the commit is named: git computes the hash of all that it receives. What comes is bounded in size and time.
package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/internal/spec"
)

// The usual bounds.
const (
	DefaultTimeout   = 10 * time.Minute
	DefaultMaxBytes  = 512 << 20 // on the disk while it is fetched, and of the files together
	DefaultMaxFiles  = 20_000
	sizeInterval     = 500 * time.Millisecond
	commitHexDigits  = 40
	commitHexDigits2 = 64 // of a repository that uses SHA-256
)

// Options say what to read.
type Options struct {
	// Dir is made for the repository and removed at the end.
	Dir string
	// URL is https or http, unless Protocols says otherwise. It may hold a password, which shows up nowhere.
	URL string
	// Commit is a whole hash; empty is the newest commit of the default branch.
	Commit string
	// Protocols that git may use; empty is https and http.
	Protocols []string
	// Timeout, MaxBytes and MaxFiles bound it all; 0 is the usual bound. MaxFiles counts what is left out, too.
	Timeout  time.Duration
	MaxBytes int64
	MaxFiles int

	maxMemory uint64 // of git and each of its helpers; 0 is the usual bound
}

// File is one file of the commit.
type File struct {
	Path       string // relative
	Executable bool
	Size       int64
	Content    io.Reader // to be read before the next file
}

// Result says what was read.
type Result struct {
	Commit string
	Files  int
	// Left is how many entries were left out: symbolic links and submodules.
	Left int
}

var hash = regexp.MustCompile(`^[0-9a-f]+$`)

// Read fetches the commit and calls fn for each of its files.
func Read(ctx context.Context, o Options, fn func(File) error) (*Result, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = DefaultMaxFiles
	}
	if o.maxMemory == 0 {
		o.maxMemory = maxMemory
	}
	if len(o.Protocols) == 0 {
		o.Protocols = []string{"https", "http"}
	}
	r, err := newRepository(o)
	if err != nil {
		return nil, err
	}
	err = os.Mkdir(o.Dir, 0o700)
	if err != nil {
		return nil, fmt.Errorf("fetching %s: %w", r.shown, err)
	}
	defer func() { _ = os.RemoveAll(o.Dir) }() // what is left of it is removed with the group
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("it took longer than %v", o.Timeout))
	defer cancel()
	res, err := r.read(ctx, fn)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("reading %s: %w", r.shown, err)
	}
	return res, nil
}

// repository is a bare repository and how git is run in it.
type repository struct {
	o     Options
	shown string // the URL without a password
	git   string // the program
}

func newRepository(o Options) (*repository, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, errors.New("the URL of a repository can not be parsed") // the error would quote it
	}
	shown := (&spec.Repository{URL: o.URL}).Shown()
	if !slices.Contains(o.Protocols, u.Scheme) {
		return nil, fmt.Errorf("repository %s: the protocol is %q, want %s", shown, u.Scheme, strings.Join(o.Protocols, " or "))
	}
	n := len(o.Commit)
	if n != 0 && (n != commitHexDigits && n != commitHexDigits2 || !hash.MatchString(o.Commit)) {
		return nil, fmt.Errorf("repository %s: revision %q is not the whole hash of a commit", shown, o.Commit)
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", shown, err)
	}
	git, err = filepath.Abs(git)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", shown, err)
	}
	return &repository{o: o, shown: shown, git: git}, nil
}

func (r *repository) read(ctx context.Context, fn func(File) error) (*Result, error) {
	commit, err := r.fetch(ctx)
	if err != nil {
		return nil, err
	}
	entries, left, err := r.list(ctx, commit)
	if err != nil {
		return nil, err
	}
	err = r.contents(ctx, entries, fn)
	if err != nil {
		return nil, err
	}
	return &Result{Commit: commit, Files: len(entries), Left: left}, nil
}

// fetch gets the commit and returns its hash. Servers that do not give out a single commit are asked for all branches.
func (r *repository) fetch(ctx context.Context) (string, error) {
	init := []string{"init", "--quiet", "--bare", "--template="}
	if len(r.o.Commit) == commitHexDigits2 {
		init = append(init, "--object-format=sha256")
	}
	_, err := r.run(ctx, append(init, ".")...)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go r.watchSize(ctx, cancel)
	want := r.o.Commit
	if want == "" {
		want = "HEAD"
	}
	quiet := []string{"fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"}
	_, err = r.run(ctx, append(quiet, "--depth=1", "origin", "+"+want+":refs/cofferdam/wanted")...)
	if err != nil && r.o.Commit != "" && ctx.Err() == nil {
		_, err = r.run(ctx, append(quiet, "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")...)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return "", err
	}
	name := r.o.Commit
	if name == "" {
		name = "refs/cofferdam/wanted"
	}
	out, err := r.run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("it has no commit %s: %w", name, err)
	}
	commit := strings.TrimSpace(string(out))
	if r.o.Commit != "" && commit != r.o.Commit {
		return "", fmt.Errorf("revision %s is not a commit but leads to %s", r.o.Commit, commit)
	}
	return commit, nil
}

// watchSize ends a fetch that takes too much of the disk.
func (r *repository) watchSize(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(sizeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if size := diskSize(r.o.Dir); size > r.o.MaxBytes {
			cancel(fmt.Errorf("it takes more than %d bytes", r.o.MaxBytes))
			return
		}
	}
}

func diskSize(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files come and go
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
