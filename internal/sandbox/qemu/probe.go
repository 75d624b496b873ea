// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultBinary is the emulator's name on the command path.
const DefaultBinary = "qemu-system-x86_64"

// probeTimeout bounds each question to the emulator.
const probeTimeout = time.Minute

// Version is a version of QEMU.
type Version struct{ Major, Minor, Patch int }

// Less reports whether v is older than o.
func (v Version) Less(o Version) bool {
	if v.Major != o.Major {
		return v.Major < o.Major
	}
	if v.Minor != o.Minor {
		return v.Minor < o.Minor
	}
	return v.Patch < o.Patch
}

// String returns v as "7.2.22".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

var versionLine = regexp.MustCompile(`(?m)^QEMU emulator version ([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?`)

// ParseVersion reads the answer of `qemu -version`.
func ParseVersion(output string) (Version, error) {
	m := versionLine.FindStringSubmatch(output)
	if m == nil {
		return Version{}, fmt.Errorf("no QEMU version in %q", firstLine(output))
	}
	var n [3]int
	for i, s := range m[1:] {
		if s == "" {
			continue
		}
		var err error
		n[i], err = strconv.Atoi(s)
		if err != nil {
			return Version{}, fmt.Errorf("reading the QEMU version: %w", err)
		}
	}
	return Version{n[0], n[1], n[2]}, nil
}

// Emulator is a QEMU binary and what it was built with.
type Emulator struct {
	Path    string
	Version Version
	// StreamNetwork says that it has the "stream" network backend; SNP and TDX that it has the launch objects.
	StreamNetwork, SNP, TDX bool
}

// Probe asks the emulator at path (empty: DefaultBinary on the command path) what it is.
func Probe(ctx context.Context, path string) (*Emulator, error) {
	if path == "" {
		path = DefaultBinary
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return nil, fmt.Errorf("finding QEMU (on Debian: package qemu-system-x86): %w", err)
	}
	e := &Emulator{Path: found}
	out, err := ask(ctx, found, "-version")
	if err != nil {
		return nil, err
	}
	e.Version, err = ParseVersion(out)
	if err != nil {
		return nil, err
	}
	objects, err := ask(ctx, found, "-object", "help")
	if err != nil {
		return nil, err
	}
	e.SNP, e.TDX = listed(objects, "sev-snp-guest"), listed(objects, "tdx-guest")
	backends, err := ask(ctx, found, "-machine", "none", "-netdev", "help")
	if err != nil {
		return nil, err
	}
	e.StreamNetwork = listed(backends, "stream")
	return e, nil
}

func ask(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, firstLine(string(exit.Stderr)))
		}
		return "", fmt.Errorf("running %s %s: %w", path, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// listed reports whether a line of output begins with the word name.
func listed(output, name string) bool {
	return slices.ContainsFunc(strings.Split(output, "\n"), func(line string) bool {
		f := strings.Fields(line)
		return len(f) > 0 && f[0] == name
	})
}

func firstLine(s string) string {
	line, _, _ := bytes.Cut([]byte(s), []byte{'\n'})
	return string(line[:min(len(line), 200)])
}
