// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// apt runs apt-get and its kin with state of their own.
type apt struct {
	f     Fetcher
	state string
}

// open writes the sources for the suites and reads their indexes.
func (f Fetcher) open(ctx context.Context, suites []string) (*apt, error) {
	keyring := firstOf(f.Keyring, DefaultKeyring)
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("reading Debian's archive keys (package debian-archive-keyring): %w", err)
	}
	dir, err := filepath.Abs(f.Dir)
	if err != nil {
		return nil, fmt.Errorf("preparing apt: %w", err)
	}
	f.Dir = dir
	a := &apt{f: f, state: filepath.Join(dir, "apt")}
	for _, d := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.state, d), 0o700); err != nil {
			return nil, fmt.Errorf("preparing apt: %w", err)
		}
	}
	mirror, security := f.mirrors(ctx)
	if mirror == "" {
		return nil, fmt.Errorf("preparing apt: %w: give --mirror", ErrNoMirror)
	}
	if err := os.WriteFile(filepath.Join(a.state, "sources.list"), []byte(sources(keyring, mirror, security, suites)), 0o600); err != nil {
		return nil, fmt.Errorf("preparing apt: %w", err)
	}
	if err := os.WriteFile(filepath.Join(a.state, "status"), nil, 0o600); err != nil {
		return nil, fmt.Errorf("preparing apt: %w", err)
	}
	if _, err := a.run(ctx, "", "apt-get", "--quiet", "--error-on=any", "update"); err != nil {
		return nil, err
	}
	return a, nil
}

// sources is the content of a sources.list.
func sources(keyring, mirror, security string, suites []string) string {
	var b strings.Builder
	for _, s := range suites {
		base := mirror
		if strings.HasSuffix(s, "-security") {
			base = security
		}
		fmt.Fprintf(&b, "deb [arch=amd64 signed-by=%s] %s %s main\n", keyring, base, s)
	}
	return b.String()
}

// mirrors asks the machine's apt which mirrors of Debian it uses.
func (f Fetcher) mirrors(ctx context.Context) (mirror, security string) {
	mirror, security = f.Mirror, f.SecurityMirror
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		out = nil // apt does not know, or has no lists yet: the sources may
	}
	m, s := parseTargets(string(out))
	if m == "" {
		m, s = MachineMirrors(os.DirFS("/"))
	}
	mirror, security = firstOf(mirror, m), firstOf(security, s)
	if mirror != "" && security == "" {
		security = mirror + "-security" // where Debian's own mirrors have it
	}
	return mirror, security
}

func parseTargets(out string) (mirror, security string) {
	for line := range strings.Lines(out) {
		part := strings.Split(strings.TrimSpace(line), "|")
		if len(part) != 3 || part[0] != "Debian" {
			continue
		}
		uri := strings.TrimSuffix(part[2], "/")
		switch part[1] {
		case "Debian":
			mirror = firstOf(mirror, uri)
		case "Debian-Security":
			security = firstOf(security, uri)
		}
	}
	return mirror, security
}

func firstOf(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// download fetches one version into the cache directory and returns it with the hash of what is there.
func (a *apt) download(ctx context.Context, name, version string) (Package, error) {
	policy, err := a.run(ctx, "", "apt-cache", "madison", name)
	if err != nil {
		return Package{}, err
	}
	if !hasVersion(policy, name, version) {
		return Package{}, fmt.Errorf("%s %s: %w", name, version, ErrNotAvailable)
	}
	temp, err := os.MkdirTemp(a.state, "download-")
	if err != nil {
		return Package{}, fmt.Errorf("downloading %s: %w", name, err)
	}
	defer func() { _ = os.RemoveAll(temp) }() // whatever is left is of no use
	if _, err := a.run(ctx, temp, "apt-get", "--quiet", "download", name+"="+version); err != nil {
		return Package{}, err
	}
	found, err := os.ReadDir(temp)
	if err != nil {
		return Package{}, fmt.Errorf("downloading %s: %w", name, err)
	}
	if len(found) != 1 {
		return Package{}, fmt.Errorf("downloading %s: apt-get left %d files, want 1", name, len(found))
	}
	path := a.f.path(name, version)
	if err := os.Rename(filepath.Join(temp, found[0].Name()), path); err != nil {
		return Package{}, fmt.Errorf("downloading %s: %w", name, err)
	}
	sum, err := fileSHA256(path)
	if err != nil {
		return Package{}, fmt.Errorf("downloading %s: %w", name, err)
	}
	return Package{Name: name, Version: version, SHA256: sum, File: path}, nil
}

// hasVersion reads "name | version | source" lines.
func hasVersion(madison, name, version string) bool {
	for line := range strings.Lines(madison) {
		part := strings.Split(line, "|")
		if len(part) >= 2 && strings.TrimSpace(part[0]) == name && strings.TrimSpace(part[1]) == version {
			return true
		}
	}
	return false
}

// newest returns the name and version of the newest package named prefix…suffix.
func (a *apt) newest(ctx context.Context, prefix, suffix string) (name, version string, err error) {
	names, err := a.run(ctx, "", "apt-cache", "pkgnames", prefix)
	if err != nil {
		return "", "", err
	}
	for n := range strings.FieldsSeq(names) {
		if !strings.HasPrefix(n, prefix) || !strings.HasSuffix(n, suffix) {
			continue
		}
		madison, err := a.run(ctx, "", "apt-cache", "madison", n)
		if err != nil {
			return "", "", err
		}
		for line := range strings.Lines(madison) {
			part := strings.Split(line, "|")
			if len(part) < 2 {
				continue
			}
			v := strings.TrimSpace(part[1])
			if version == "" || newer(ctx, v, version) {
				name, version = n, v
			}
		}
	}
	if name == "" {
		return "", "", fmt.Errorf("%s…%s: %w", prefix, suffix, ErrNotAvailable)
	}
	return name, version, nil
}

func newer(ctx context.Context, a, b string) bool {
	return exec.CommandContext(ctx, "dpkg", "--compare-versions", a, "gt", b).Run() == nil
}

// run runs a command of apt in dir with the private state. The options come last in apt's order of precedence, so
// the machine's own configuration still supplies proxies and credentials.
func (a *apt) run(ctx context.Context, dir, command string, args ...string) (string, error) {
	options := []string{
		"-o", "Dir::State=" + a.state,
		"-o", "Dir::State::lists=" + filepath.Join(a.state, "lists"),
		"-o", "Dir::State::status=" + filepath.Join(a.state, "status"),
		"-o", "Dir::Cache=" + a.state,
		"-o", "Dir::Etc::SourceList=" + filepath.Join(a.state, "sources.list"),
		"-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "APT::Architecture=amd64",
		"-o", "APT::Architectures=amd64",
		"-o", "APT::Sandbox::User=", // the directories are ours alone
		"-o", "APT::Get::AllowUnauthenticated=false",
		"-o", "Acquire::AllowInsecureRepositories=false",
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::Retries=3",
	}
	cmd := exec.CommandContext(ctx, command, append(options, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var failed *exec.ExitError
	out, err := cmd.Output()
	if errors.As(err, &failed) {
		return "", fmt.Errorf("running %s %s: %w: %s", command, strings.Join(args, " "), err, lastLine(failed.Stderr))
	}
	if err != nil {
		return "", fmt.Errorf("running %s: %w", command, err)
	}
	return string(out), nil
}
