// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/verify/anchor"
)

// MaxFileSize bounds a file that a policy names, in bytes.
const MaxFileSize = 1 << 20

// fileList is a key whose values are names of files.
type fileList struct {
	path  string
	names []string
}

// files returns the keys that name files.
func (p *Policy) files() []fileList {
	list := []fileList{{"hostData.policyFiles", p.HostData.PolicyFiles}, {"rules.files", p.Rules.Files}}
	if p.SNP != nil {
		list = append(list, fileList{"snp.measurementFiles", p.SNP.MeasurementFiles})
		if e := p.SNP.Endorsements; e != nil {
			list = append(list, fileList{"snp.endorsements.files", e.Files})
			for name, l := range e.Ledgers {
				if l.File != "" {
					list = append(list, fileList{"snp.endorsements.ledgers." + name + ".file", []string{l.File}})
				}
			}
		}
	}
	if p.TDX != nil {
		list = append(list, fileList{"tdx.mrtdFiles", p.TDX.MRTDFiles})
	}
	if p.SGX != nil {
		list = append(list, fileList{"sgx.sigstructFiles", p.SGX.SigstructFiles})
	}
	return list
}

// Resolve reads the files that the policy names and puts what they say in the place of their names, so that the policy
// means the same from then on, whatever becomes of the files. Names are slash paths relative to the policy's own place;
// read must not follow them out of there.
func (p *Policy) Resolve(read func(name string) ([]byte, error)) error {
	if err := p.Validate(); err != nil {
		return err
	}
	r := resolver{read: read, simulated: p.trusts(anchor.Simulated)}
	r.each(&p.HostData.PolicyFiles, "hostData.policyFiles", func(b []byte) error {
		p.HostData.PolicyHashes = append(p.HostData.PolicyHashes, sha256.Sum256(b))
		return nil
	})
	r.each(&p.Rules.Files, "rules.files", func(b []byte) error {
		p.Rules.Modules = append(p.Rules.Modules, string(b))
		return nil
	})
	if p.TDX != nil {
		r.each(&p.TDX.MRTDFiles, "tdx.mrtdFiles", func(b []byte) error { return r.measurements(&p.TDX.MRTD, b, "tdx") })
	}
	if p.SGX != nil {
		r.each(&p.SGX.SigstructFiles, "sgx.sigstructFiles", func(b []byte) error { return enclave(p.SGX, b) })
	}
	if p.SNP != nil {
		r.each(&p.SNP.MeasurementFiles, "snp.measurementFiles", func(b []byte) error { return r.measurements(&p.SNP.Measurements, b, "snp") })
		if p.SNP.Endorsements != nil {
			r.endorsements(p.SNP.Endorsements)
		}
	}
	if len(r.list) > 0 {
		return fmt.Errorf("reading the files of an appraisal policy: %w", r.list)
	}
	return p.Validate()
}

// enclave trusts the enclave that a SIGSTRUCT is for. Nobody else's signature counts by it.
func enclave(s *SGX, b []byte) error {
	sig, err := sgx.ParseSigstruct(b)
	if err == nil {
		err = sig.CheckSignature()
	}
	if err != nil {
		return err
	}
	s.MRENCLAVE = append(s.MRENCLAVE, sig.EnclaveHash)
	return nil
}

type resolver struct {
	validation

	read      func(name string) ([]byte, error)
	simulated bool
}

// each reads the files of a list and empties it.
func (r *resolver) each(names *[]string, path string, use func([]byte) error) {
	for i, name := range *names {
		b, err := r.read(name)
		switch {
		case err != nil:
		case len(b) == 0:
			err = errors.New("it is empty")
		case len(b) > MaxFileSize:
			err = fmt.Errorf("it has %d bytes, more than %d", len(b), MaxFileSize)
		default:
			err = use(b)
		}
		r.require(err == nil, fmt.Sprintf("%s[%d]", path, i), "reading %q: %v", name, err)
	}
	*names = nil
}

func (r *resolver) endorsements(e *Endorsements) {
	r.each(&e.Files, "snp.endorsements.files", func(b []byte) error {
		e.Documents = append(e.Documents, b)
		return nil
	})
	for name, l := range e.Ledgers {
		if l.File == "" {
			continue
		}
		files := []string{l.File}
		r.each(&files, "snp.endorsements.ledgers."+name+".file", func(b []byte) error {
			if !utf8.Valid(b) {
				return errors.New("it is not UTF-8")
			}
			e.Ledgers[name] = Ledger{Keys: string(b)}
			return nil
		})
	}
}

// guestMeasurement is what `cofferdam guest measure -o json` prints, as far as it matters here.
type guestMeasurement struct {
	Schema string `json:"schema"`
	TEE    string `json:"tee"`
	Digest Digest `json:"digest"`
}

const guestMeasurementSchema = "cofferdam.dev/guest-measurement/v1"

// measurements reads launch digests: a JSON document of one, which says for what TEE it is, or lines of hexadecimal
// digits.
func (r *resolver) measurements(list *[]Digest, b []byte, tee string) error {
	if text := bytes.TrimSpace(b); len(text) > 0 && text[0] == '{' {
		var m guestMeasurement
		if err := json.Unmarshal(text, &m); err != nil {
			return err
		}
		switch {
		case m.Schema != guestMeasurementSchema:
			return fmt.Errorf("its schema is %q, not %q", m.Schema, guestMeasurementSchema)
		case m.TEE != tee && (m.TEE != "simulated" || tee != "snp" || !r.simulated):
			return fmt.Errorf("it is a measurement for %q, not for %q", m.TEE, tee)
		}
		*list = append(*list, m.Digest)
		return nil
	}
	before := len(*list)
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		var d Digest
		if err := d.UnmarshalText([]byte(line)); err != nil {
			return fmt.Errorf("line %.100q: %w", line, err)
		}
		*list = append(*list, d)
	}
	if len(*list) == before {
		return errors.New("it has no measurement")
	}
	return nil
}
