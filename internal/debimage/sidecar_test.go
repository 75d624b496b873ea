// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	another     = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n"
)

func TestAuthorities(t *testing.T) {
	t.Parallel()
	s := newFileset()
	s.file(mozillaDir+"/b.crt", 0o644, another)
	s.file(mozillaDir+"/a.crt", 0o644, certificate)
	s.file("usr/sbin/update-ca-certificates", 0o755, "#!/bin/sh\n")
	s.file("usr/share/doc/ca-certificates/copyright", 0o644, "licence\n")
	got, err := authorities(s)
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for name, n := range got.nodes {
		content[name] = string(n.content)
	}
	want := map[string]string{bundleFile: certificate + another, "usr/share/doc/ca-certificates/copyright": "licence\n"}
	if diff := cmp.Diff(want, content); diff != "" {
		t.Errorf("files differ (-want +got):\n%s", diff)
	}
	for name, text := range map[string]string{"no certificate": "text", "two in one file": certificate + another, "key": strings.ReplaceAll(certificate, "CERTIFICATE", "PRIVATE KEY")} {
		bad := newFileset()
		bad.file(mozillaDir+"/a.crt", 0o644, text)
		if _, err := authorities(bad); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	if _, err := authorities(newFileset()); err == nil {
		t.Error("a package without certificates was taken")
	}
}

// TestProgramLayer holds the names by which templates call the sidecars.
func TestProgramLayer(t *testing.T) {
	t.Parallel()
	s := programLayer([]byte("program"))
	if n := s.nodes["bin/cofferdam-sidecar"]; n == nil || n.header.Mode != 0o755 || string(n.content) != "program" {
		t.Errorf("program is %+v", n)
	}
	// A Compose file says what follows an entrypoint, and a template what comes instead of it: neither may be in the way.
	if c := sidecarRecipe().config; len(c.Entrypoint) > 0 || len(c.Cmd) != 1 || c.Cmd[0] != "/skr.sh" {
		t.Errorf("the image's command is %q %q", c.Entrypoint, c.Cmd)
	}
	for _, name := range []string{"skr.sh", "bin/skr", "encfs.sh", "bin/encfs", "bin/remotefs"} {
		if n := s.nodes[name]; n == nil || n.header.Typeflag != tar.TypeSymlink || n.header.Linkname != "/bin/cofferdam-sidecar" {
			t.Errorf("%s is %+v", name, n)
		}
	}
}

// TestProgramIsRead says what can be wrong with the program, and when an image must be built again.
func TestProgramIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "sidecar.tar")
	for name, text := range map[string]string{file: "archive", filepath.Join(dir, "text"): "#!/bin/sh\n", filepath.Join(dir, "program"): "\x7fELF"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := sidecarRecipe()
	for _, name := range []string{"", "text", "absent"} {
		from := name
		if name != "" {
			from = filepath.Join(dir, name)
		}
		if _, err := r.readProgram(from); err == nil {
			t.Errorf("program %q was taken", name)
		}
	}
	program, err := r.readProgram(filepath.Join(dir, "program"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := (recipe{}).readProgram(""); b != nil || err != nil {
		t.Errorf("an image of packages alone: %q, %v", b, err)
	}
	x := &Index{Images: map[string]Built{sidecarName: {File: "sidecar.tar", Size: int64(len("archive")), Program: programSum(program)}}}
	if !x.current(dir, sidecarName, programSum(program)) {
		t.Error("the image of this program is not current")
	}
	if x.current(dir, sidecarName, programSum([]byte("\x7fELF2"))) {
		t.Error("the image of an older program is current")
	}
}

// TestSidecarSameBytes makes the image's layers twice.
func TestSidecarSameBytes(t *testing.T) {
	t.Parallel()
	r := sidecarRecipe()
	var digests []string
	for range 2 {
		sets, err := r.ownLayers([]*fileset{newFileset()})
		if err != nil {
			t.Fatal(err)
		}
		layers, err := tars(append(sets, programLayer([]byte("\x7fELF"))))
		if err != nil {
			t.Fatal(err)
		}
		_, d, err := archive(r.name, r.config, layers)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("digests are %s", digests)
	}
}
