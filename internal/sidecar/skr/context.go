// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cofferdam.dev/evidence/uvm"
)

// Names in the environment by which the host gives a container the security context: a directory, or, in older hosts, the
// contents of its files.
const (
	EnvContextDir = "UVM_SECURITY_CONTEXT_DIR"
	EnvPolicy     = "UVM_SECURITY_POLICY"
	EnvReference  = "UVM_REFERENCE_INFO"
	EnvHostCert   = "UVM_HOST_AMD_CERTIFICATE"
)

// contextGlob finds the directory of hosts that set no variable.
const contextGlob = "/security-context-*"

// maxContextFile bounds each part of the security context, in bytes.
const maxContextFile = 2 << 20

// ReadContext returns what the host put beside the container for those who want to be convinced of the group. Each part
// may be absent; one that is there and can not be read is an error. Root is the file system's root, and empty but in tests.
func ReadContext(lookup func(string) (string, bool), root string) (*uvm.SecurityContext, error) {
	read, where, err := contextParts(lookup, root)
	if err != nil {
		return nil, fmt.Errorf("reading the security context: %w", err)
	}
	c := &uvm.SecurityContext{}
	var cert []byte
	for name, to := range map[string]*[]byte{uvm.PolicyFile: &c.Policy, uvm.ReferenceInfoFile: &c.Endorsement, uvm.HostAMDCertFile: &cert} {
		text, err := read(name)
		if err == nil && strings.TrimSpace(string(text)) != "" {
			*to, err = uvm.DecodeFile(text)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the security context: %s of %s: %w", name, where, err)
		}
	}
	if len(cert) > 0 {
		if c.HostCert, err = uvm.ParseHostAMDCert(cert); err != nil {
			return nil, fmt.Errorf("reading the security context: %s of %s: %w", uvm.HostAMDCertFile, where, err)
		}
	}
	return c, nil
}

// contextParts says where the parts are, and how they are read by their files' names.
func contextParts(lookup func(string) (string, bool), root string) (read func(string) ([]byte, error), where string, err error) {
	dir, _ := lookup(EnvContextDir)
	if dir == "" {
		found, err := filepath.Glob(filepath.Join(root, "/", contextGlob))
		if err != nil {
			return nil, "", err
		}
		switch {
		case len(found) > 1:
			return nil, "", fmt.Errorf("there are %d directories %s: name one by %s", len(found), contextGlob, EnvContextDir)
		case len(found) == 1:
			dir = found[0]
		}
	}
	if dir == "" {
		names := map[string]string{uvm.PolicyFile: EnvPolicy, uvm.ReferenceInfoFile: EnvReference, uvm.HostAMDCertFile: EnvHostCert}
		return func(file string) ([]byte, error) {
			text, _ := lookup(names[file])
			return []byte(text), nil
		}, "the environment", nil
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, "", errors.Join(err, fmt.Errorf("%s is no directory", dir))
	}
	return func(file string) ([]byte, error) { return readPart(dir, file) }, dir, nil
}

func readPart(dir, name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxContextFile+1))
	if err == nil && len(text) > maxContextFile {
		err = fmt.Errorf("it has more than %d bytes", maxContextFile)
	}
	return text, err
}
