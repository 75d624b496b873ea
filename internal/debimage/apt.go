// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/internal/guestimage/debian"
)

const (
	suite          = "bookworm"
	architecture   = "amd64"
	archiveKeyring = debian.DefaultKeyring
	// listsMaxAge is how old package lists may be before they are fetched again.
	listsMaxAge = 24 * time.Hour
)

// A deb is one package file as apt resolved it.
type deb struct {
	Name   string // package name
	File   string // file name in the archive directory
	Size   int64
	SHA256 string // hex
}

// apt runs apt-get with a configuration, lists, cache and (empty) package database of its own. Nothing of the
// machine's package state is read or changed; only its mirror and its settings for reaching it are taken over.
type apt struct {
	dir string
	log *slog.Logger
}

// newApt prepares the private configuration in dir.
func newApt(ctx context.Context, dir string, log *slog.Logger) (*apt, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("preparing apt: %w", err)
	}
	_, err = os.Stat(archiveKeyring)
	if err != nil {
		return nil, fmt.Errorf("preparing apt: Debian's archive keyring is missing (package debian-archive-keyring): %w", err)
	}
	a := &apt{dir: dir, log: log}
	for _, d := range []string{"lists/partial", "archives/partial", "empty"} {
		err = os.MkdirAll(filepath.Join(dir, d), 0o700)
		if err != nil {
			return nil, fmt.Errorf("preparing apt: %w", err)
		}
	}
	mirror, security := debian.MachineMirrors(os.DirFS("/"))
	if mirror == "" {
		return nil, fmt.Errorf("preparing apt: %w", debian.ErrNoMirror)
	}
	files := map[string]string{
		"status":       "",
		"sources.list": sourcesList(mirror, security),
		"apt.conf":     a.config(machineSettings(ctx)),
	}
	for name, text := range files {
		err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
		if err != nil {
			return nil, fmt.Errorf("preparing apt: %w", err)
		}
	}
	return a, nil
}

func (a *apt) config(settings []string) string {
	var b strings.Builder
	set := func(name, value string) { fmt.Fprintf(&b, "%s %q;\n", name, value) }
	for _, s := range settings {
		b.WriteString(s + "\n")
	}
	set("Dir", a.dir)
	set("Dir::State", a.dir)
	set("Dir::State::status", filepath.Join(a.dir, "status"))
	set("Dir::State::lists", filepath.Join(a.dir, "lists"))
	set("Dir::Cache", a.dir)
	set("Dir::Cache::archives", filepath.Join(a.dir, "archives"))
	set("Dir::Cache::pkgcache", "")
	set("Dir::Cache::srcpkgcache", "")
	set("Dir::Etc", a.dir)
	set("Dir::Etc::sourcelist", filepath.Join(a.dir, "sources.list"))
	for _, parts := range []string{"sourceparts", "parts", "main", "preferences", "preferencesparts", "trusted", "trustedparts", "netrc", "netrcparts"} {
		set("Dir::Etc::"+parts, filepath.Join(a.dir, "empty"))
	}
	set("APT::Architecture", architecture)
	set("APT::Architectures", architecture)
	set("APT::Install-Recommends", "false")
	set("APT::Sandbox::User", "")
	set("Acquire::Languages", "none")
	set("Acquire::ForceHash", "SHA256") // the hash that --print-uris prints
	return b.String()
}

// machineSettings returns what the machine's own apt says about acquiring files, such as proxies.
func machineSettings(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "apt-config", "dump", "Acquire").Output()
	if err != nil {
		return nil // then there is nothing to take over
	}
	var lines []string
	for l := range strings.Lines(string(out)) {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "Acquire::") && !strings.HasPrefix(l, "Acquire::IndexTargets") && !strings.HasPrefix(l, "Acquire::Languages") {
			lines = append(lines, l)
		}
	}
	return lines
}

// update fetches the package lists unless they are recent. Old lists serve when the network does not.
func (a *apt) update(ctx context.Context, force bool) error {
	stamp := filepath.Join(a.dir, "lists", "updated")
	info, statErr := os.Stat(stamp)
	if !force && statErr == nil && time.Since(info.ModTime()) < listsMaxAge {
		return nil
	}
	a.log.InfoContext(ctx, "fetching package lists")
	_, err := a.run(ctx, "update", "-qq", "-o", "APT::Update::Error-Mode=any")
	if err != nil && statErr == nil && !force {
		a.log.WarnContext(ctx, "package lists cannot be fetched, going on with the ones from earlier", slog.Time("from", info.ModTime()), slog.Any("error", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("fetching package lists: %w", err)
	}
	err = os.WriteFile(stamp, nil, 0o600)
	if err != nil {
		return fmt.Errorf("noting the time of the package lists: %w", err)
	}
	return nil
}

// resolve returns the packages and everything that they depend on, from an empty package database, sorted by name.
func (a *apt) resolve(ctx context.Context, packages []string) ([]deb, error) {
	out, err := a.run(ctx, append([]string{"install", "-qq", "--print-uris", "--no-install-recommends",
		"-o", "Dir::Cache::archives=" + filepath.Join(a.dir, "empty"), "-o", "Debug::NoLocking=true"}, packages...)...)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: %w", strings.Join(packages, ", "), err)
	}
	debs, err := parseURIs(out)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: %w", strings.Join(packages, ", "), err)
	}
	return debs, nil
}

// parseURIs reads lines of the form 'URI' FILE SIZE HASH:HEX.
func parseURIs(out []byte) ([]deb, error) {
	var debs []deb
	s := bufio.NewScanner(bytes.NewReader(out))
	for s.Scan() {
		line := s.Text()
		if !strings.HasPrefix(line, "'") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 4 || !strings.HasPrefix(f[3], "SHA256:") {
			return nil, fmt.Errorf("apt-get printed %q, expected a URI, a file name, a size and a SHA-256", line)
		}
		size, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("apt-get printed %q: %w", line, err)
		}
		name, _, ok := strings.Cut(f[1], "_")
		if !ok || filepath.Base(f[1]) != f[1] {
			return nil, fmt.Errorf("apt-get printed the file name %q", f[1])
		}
		debs = append(debs, deb{Name: name, File: f[1], Size: size, SHA256: strings.TrimPrefix(f[3], "SHA256:")})
	}
	if len(debs) == 0 {
		return nil, errors.New("apt-get named no package file")
	}
	slices.SortFunc(debs, func(x, y deb) int { return strings.Compare(x.Name, y.Name) })
	return debs, nil
}

// download fetches the packages unless each file is there already, and checks every one.
func (a *apt) download(ctx context.Context, packages []string, debs []deb) error {
	missing := slices.ContainsFunc(debs, func(d deb) bool { return a.check(d) != nil })
	if missing {
		a.log.InfoContext(ctx, "downloading packages", slog.String("for", strings.Join(packages, " ")))
		_, err := a.run(ctx, append([]string{"install", "-qq", "-y", "--download-only", "--no-install-recommends"}, packages...)...)
		if err != nil {
			return fmt.Errorf("downloading %s: %w", strings.Join(packages, ", "), err)
		}
	}
	for _, d := range debs {
		err := a.check(d)
		if err != nil {
			return fmt.Errorf("checking package %s: %w", d.Name, err)
		}
	}
	return nil
}

// check compares a downloaded file with the size and digest of the signed package lists.
func (a *apt) check(d deb) error {
	f, err := os.Open(a.path(d))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if n != d.Size || sum != d.SHA256 {
		return fmt.Errorf("expected %d bytes with SHA-256 %s, got %d bytes with %s", d.Size, d.SHA256, n, sum)
	}
	return nil
}

func (a *apt) path(d deb) string { return filepath.Join(a.dir, "archives", d.File) }

func (a *apt) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		return nil, fmt.Errorf("apt-get %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}
