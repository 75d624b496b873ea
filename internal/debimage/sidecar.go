// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// sidecarName is the name of the image whose program is ours.
const sidecarName = "sidecar"

// Where things are in the sidecar image. The names at the root are those by which container groups call the originals.
const (
	sidecarProgram = "bin/cofferdam-sidecar"
	bundleFile     = "etc/ssl/certs/ca-certificates.crt"
	mozillaDir     = "usr/share/ca-certificates/mozilla"
)

// sidecarNames are the names by which the program is called, each a sidecar.
var sidecarNames = []string{"skr.sh", "bin/skr", "encfs.sh", "bin/encfs", "bin/remotefs"}

// sidecarRecipe is an image of the certificate authorities that Debian trusts, and of one program. It has no shell. It runs
// as root, as the originals do: templates name log files that only root can make.
func sidecarRecipe() recipe {
	return recipe{
		name: sidecarName, packages: []string{"ca-certificates"}, alone: true, reshape: authorities, configure: configureSidecar, program: true,
		config: ocispec.ImageConfig{
			// No entrypoint, as the originals have none: Compose files give their commands as what follows it.
			Cmd: []string{"/skr.sh"}, Env: []string{searchPath}, WorkingDir: "/", StopSignal: "SIGTERM",
		},
	}
}

func configureSidecar(s *fileset) error {
	s.file("etc/passwd", 0o644, passwd)
	s.file("etc/group", 0o644, group)
	s.dir("tmp", 0o1777, 0, 0)
	for _, d := range []string{"dev", "proc", "run", "sys"} {
		s.dir(d, 0o755, 0, 0)
	}
	return nil
}

// authorities replaces the package's certificates by the one file that programs read, as the package's own tool writes it,
// and keeps its licence.
func authorities(from *fileset) (*fileset, error) {
	to := newFileset()
	var bundle bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(from.nodes)) {
		n := from.nodes[name]
		switch {
		case path.Dir(name) == mozillaDir && n.header.Typeflag == tar.TypeReg:
			block, rest := pem.Decode(n.content)
			if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
				return nil, fmt.Errorf("%s is not one certificate in PEM", name)
			}
			bundle.Write(n.content)
		case strings.HasPrefix(name, "usr/share/doc/"):
			to.nodes[name] = n
		}
	}
	if bundle.Len() == 0 {
		return nil, errors.New("the package ca-certificates has none")
	}
	to.file(bundleFile, 0o644, bundle.String())
	return to, nil
}

// programLayer has the program under all of its names.
func programLayer(program []byte) *fileset {
	s := newFileset()
	s.file(sidecarProgram, 0o755, string(program))
	for _, name := range sidecarNames {
		s.symlink(name, "/"+sidecarProgram)
	}
	return s
}

// readProgram reads the program of an image that has one of ours.
func (r recipe) readProgram(name string) ([]byte, error) {
	if !r.program {
		return nil, nil
	}
	if name == "" {
		return nil, errors.New("its program is not named: it is what `make bin/cofferdam-sidecar` builds")
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, []byte("\x7fELF")) {
		return nil, fmt.Errorf("%s is no program for Linux", name)
	}
	return b, nil
}

// programSum is what the index says about a program.
func programSum(program []byte) string {
	if program == nil {
		return ""
	}
	return sha256Hex(program)
}
