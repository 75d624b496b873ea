// SPDX-License-Identifier: Apache-2.0

package uvm

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/strictpem"
)

// Names of the files in a security-context directory. Each holds standard base64 in one line.
const (
	PolicyFile        = "security-policy-base64"
	ReferenceInfoFile = "reference-info-base64"
	HostAMDCertFile   = "host-amd-cert-base64"
)

// maxFile bounds each of the files.
const maxFile = 2 << 20

// Limits of a host certificate file.
const (
	maxHostCert     = 64 << 10
	maxCertificates = 4
)

// SecurityContext is what the host put beside a container for those who want to be convinced of the group. The host is
// not trusted: each part counts only once it fits the attestation report.
type SecurityContext struct {
	// Policy is the text of the execution policy. Its SHA-256 is to be the report's host data.
	Policy []byte
	// Endorsement is the endorsement of the utility VM, as Parse takes it. Its measurement is to be the report's.
	Endorsement []byte
	// HostCert is the certificate of the chip key and those above it.
	HostCert *HostAMDCert
}

// ReadSecurityContext reads the three files of a security-context directory, which a container finds by the environment
// variable UVM_SECURITY_CONTEXT_DIR.
func ReadSecurityContext(dir fs.FS) (*SecurityContext, error) {
	var errs []error
	read := func(name string) []byte {
		b, err := readFile(dir, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return b
	}
	c := &SecurityContext{Policy: read(PolicyFile), Endorsement: read(ReferenceInfoFile)}
	cert := read(HostAMDCertFile)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("reading security context: %w", err)
	}
	var err error
	c.HostCert, err = ParseHostAMDCert(cert)
	if err != nil {
		return nil, fmt.Errorf("reading security context: %s: %w", HostAMDCertFile, err)
	}
	return c, nil
}

func readFile(dir fs.FS, name string) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	return DecodeFile(text)
}

// DecodeFile decodes the base64 of such a file. A line break at its end does not matter.
func DecodeFile(text []byte) ([]byte, error) {
	s := strings.TrimRight(string(text), "\r\n")
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("decoding base64: %w", err)
	}
	if len(b) == 0 || base64.StdEncoding.EncodedLen(len(b)) != len(s) { // the decoder skips line breaks
		return nil, errors.New("decoding base64: it is empty, or has line breaks")
	}
	return b, nil
}

// HostAMDCert is what the host has of AMD's certificates for its chip.
type HostAMDCert struct {
	// VCEK is the certificate of the chip key, and Chain are those above it, all in DER.
	VCEK  []byte
	Chain [][]byte
	// TCB is the TCB version for which the host asked for the certificate (key "tcbm").
	TCB snp.TCB
	// CacheControl is how many seconds the host's source of certificates wants them kept, as it wrote it.
	CacheControl string
}

// Certificates returns the chip key's certificate and those above it.
func (c *HostAMDCert) Certificates() [][]byte { return append([][]byte{c.VCEK}, c.Chain...) }

// ParseHostAMDCert decodes the JSON of a host certificate file.
func ParseHostAMDCert(b []byte) (*HostAMDCert, error) {
	c, err := parseHostAMDCert(b)
	if err != nil {
		return nil, fmt.Errorf("parsing host certificates: %w", err)
	}
	return c, nil
}

func parseHostAMDCert(b []byte) (*HostAMDCert, error) {
	if len(b) > maxHostCert {
		return nil, fmt.Errorf("size is %d bytes, more than %d", len(b), maxHostCert)
	}
	o, err := strictjson.Parse(b)
	if err == nil {
		err = o.Only("vcekCert", "tcbm", "certificateChain", "cacheControl")
	}
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, key := range []string{"vcekCert", "tcbm", "certificateChain", "cacheControl"} {
		if texts[key], err = o.Text(key); err != nil {
			return nil, err
		}
	}
	c := &HostAMDCert{CacheControl: texts["cacheControl"]}
	tcb, err := hex.DecodeString(texts["tcbm"])
	if err != nil || len(tcb) != len(c.TCB) {
		return nil, fmt.Errorf("tcbm is not a number of %d hexadecimal digits", 2*len(c.TCB))
	}
	binary.LittleEndian.PutUint64(c.TCB[:], binary.BigEndian.Uint64(tcb))
	if c.VCEK, err = strictpem.Certificate([]byte(texts["vcekCert"])); err != nil {
		return nil, fmt.Errorf("vcekCert: %w", err)
	}
	if c.Chain, err = strictpem.Certificates([]byte(texts["certificateChain"]), maxCertificates); err != nil {
		return nil, fmt.Errorf("certificateChain: %w", err)
	}
	return c, nil
}
