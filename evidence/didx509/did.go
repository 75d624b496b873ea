// SPDX-License-Identifier: Apache-2.0

package didx509

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of an identifier.
const (
	MaxLength   = 4096
	maxPolicies = 16
)

const prefix = "did:x509:0:"

// hashes are the fingerprint algorithms by their names in an identifier.
var hashes = map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}

// DID is a parsed identifier. Its zero value matches no chain.
type DID struct {
	text        string
	algorithm   crypto.Hash
	fingerprint []byte
	policies    []leafPolicy
}

// leafPolicy is one condition on the leaf certificate.
type leafPolicy struct {
	name string
	// args are what follows the name, decoded: attribute and value in turn for subject, type and value for san, one
	// value for eku and fulcio-issuer.
	args []string
}

// String returns the identifier as it was parsed.
func (d *DID) String() string { return d.text }

// Parse reads an identifier. It accepts exactly the method's grammar, so that whatever else a text contains can not be
// taken for a weaker identifier.
func Parse(s string) (*DID, error) {
	d, err := parse(s)
	if err != nil {
		return nil, fmt.Errorf("parsing did:x509: %w", err)
	}
	return d, nil
}

func parse(s string) (*DID, error) {
	if len(s) > MaxLength {
		return nil, fmt.Errorf("identifier has %d bytes, at most %d are allowed", len(s), MaxLength)
	}
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return nil, fmt.Errorf("identifier does not start with %q", prefix)
	}
	parts := strings.Split(rest, "::")
	name, fingerprint, ok := strings.Cut(parts[0], ":")
	hash, known := hashes[name]
	if !ok || !known {
		return nil, errors.New("fingerprint is not sha256:…, sha384:… or sha512:…")
	}
	d := &DID{text: s, algorithm: hash}
	var err error
	d.fingerprint, err = base64.RawURLEncoding.Strict().DecodeString(fingerprint)
	if err != nil || len(d.fingerprint) != hash.Size() || strings.ContainsAny(fingerprint, "\r\n") {
		return nil, fmt.Errorf("fingerprint is not %d bytes in base64url without padding", hash.Size())
	}
	if n := len(parts) - 1; n < 1 || n > maxPolicies {
		return nil, fmt.Errorf("identifier has %d policies, want 1 to %d", n, maxPolicies)
	}
	for _, part := range parts[1:] {
		p, err := parsePolicy(part)
		if err != nil {
			return nil, fmt.Errorf("policy %q: %w", part, err)
		}
		d.policies = append(d.policies, p)
	}
	return d, nil
}

func parsePolicy(s string) (leafPolicy, error) {
	fields := strings.Split(s, ":")
	p := leafPolicy{name: fields[0]}
	for _, f := range fields[1:] {
		v, err := decode(f)
		if err != nil {
			return p, err
		}
		p.args = append(p.args, v)
	}
	return p, p.check(fields[1:])
}

// check holds the number and form of a policy's arguments against its name. raw are the arguments before decoding.
func (p *leafPolicy) check(raw []string) error {
	switch p.name {
	case "subject":
		if len(raw) == 0 || len(raw)%2 != 0 {
			return errors.New("subject has no pairs of attribute and value")
		}
		seen := map[string]bool{}
		for i := 0; i < len(raw); i += 2 {
			oid, known := attributes[raw[i]]
			if !known {
				oid = raw[i]
			}
			if !isOID(oid) {
				return fmt.Errorf("attribute %q is not known", raw[i])
			}
			if seen[oid] {
				return fmt.Errorf("attribute %q is repeated", raw[i])
			}
			seen[oid] = true
			p.args[i] = oid
		}
	case "san":
		if len(raw) != 2 || sanTags[raw[0]] == 0 {
			return errors.New("san is not email:…, dns:… or uri:…")
		}
	case "eku":
		if len(raw) != 1 || !isOID(raw[0]) {
			return errors.New("eku is not one object identifier")
		}
	case "fulcio-issuer":
		if len(raw) != 1 {
			return errors.New("fulcio-issuer is not one value")
		}
	default:
		return errors.New("its name is not subject, san, eku or fulcio-issuer")
	}
	return nil
}

// decode undoes percent-encoding. Only letters, digits and -._ may stand for themselves.
func decode(s string) (string, error) {
	if s == "" {
		return "", errors.New("a value is empty")
	}
	var out bytes.Buffer
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case plain(c):
			out.WriteByte(c)
		case c == '%' && i+2 < len(s) && digit(s[i+1]) >= 0 && digit(s[i+2]) >= 0:
			out.WriteByte(byte(digit(s[i+1])<<4 | digit(s[i+2])))
			i += 2
		default:
			return "", fmt.Errorf("character %q is not percent-encoded", c)
		}
	}
	if !utf8.Valid(out.Bytes()) {
		return "", errors.New("a value is not UTF-8")
	}
	return out.String(), nil
}

// encode is the inverse of decode.
func encode(s string) string {
	var out strings.Builder
	for i := range len(s) {
		if plain(s[i]) {
			out.WriteByte(s[i])
		} else {
			fmt.Fprintf(&out, "%%%02X", s[i])
		}
	}
	return out.String()
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_'
}

func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// isOID tells whether s is an object identifier in dotted decimal, without leading zeros.
func isOID(s string) bool {
	arcs := strings.Split(s, ".")
	if len(arcs) < 2 {
		return false
	}
	for _, a := range arcs {
		if a == "" || len(a) > 1 && a[0] == '0' || strings.Trim(a, "0123456789") != "" {
			return false
		}
	}
	return true
}
