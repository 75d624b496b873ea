// SPDX-License-Identifier: Apache-2.0

package pcs

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxDocumentSize bounds a document in bytes. Real ones have less than 40,000.
const MaxDocumentSize = 1 << 20

// Limits of the lists in a document. Real ones have less than 40 elements.
const (
	maxLevels     = 512
	maxModules    = 64
	maxAdvisories = 256
)

// Signed is the part that is the same in all documents of the service.
type Signed struct {
	// Body is the member that the signature covers, byte for byte as it was served.
	Body []byte
	// Signature is the ECDSA P-256 signature over the SHA-256 of Body: r and s, 32 bytes each, big-endian.
	Signature [64]byte
	// Version is the version of the document's format.
	Version int
	// IssueDate is when the document was made.
	IssueDate time.Time
	// NextUpdate is when the next one is due; after it this one says nothing any more.
	NextUpdate time.Time
	// EvaluationNumber counts Intel's TCB recovery events; a document with a higher number knows of more
	// vulnerabilities. Documents with several numbers are valid at the same time.
	EvaluationNumber uint32
}

// open splits a document into its signed member, of which names has the possible ones, and the signature.
func (r *reader) open(doc []byte, names []string, members []string) (Signed, object) {
	var s Signed
	if len(doc) > MaxDocumentSize {
		r.fail("document", "has %d bytes, more than %d", len(doc), MaxDocumentSize)
		return s, object{}
	}
	outer := object{r: r, members: map[string]json.RawMessage{}}
	if err := outer.split(doc); err != nil {
		r.malformed(err, doc, names, members)
		return s, object{}
	}
	if len(outer.members) > 2 {
		r.fail("document", "has %d members, not the signed one and its signature alone: nothing vouches for others", len(outer.members))
		return s, object{}
	}
	for _, name := range names {
		if outer.has(name) {
			s.Body = bytes.Clone(outer.members[name])
			outer.hex("signature", s.Signature[:])
			if text := hex.EncodeToString(s.Signature[:]); len(r.errs) == 0 && string(outer.members["signature"]) != `"`+text+`"` {
				r.fail("signature", "is not in plain lower-case hexadecimal") // nothing covers its spelling
			}
			return s, r.object(name, s.Body)
		}
	}
	r.fail(strings.Join(names, " or "), "is missing")
	return s, object{}
}

// malformed explains a document that is no JSON by the members that it has not even in its text: a document whose member
// lost its name is no JSON any more, and whoever has to mend it wants to know which.
func (r *reader) malformed(err error, doc []byte, names, members []string) {
	occurs := func(name string) bool { return bytes.Contains(doc, []byte(`"`+name+`"`)) }
	var missing []string
	named := false
	for _, name := range names {
		named = named || occurs(name)
	}
	if !named {
		missing = append(missing, strings.Join(names, " or "))
	}
	for _, name := range members {
		if !occurs(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 || len(missing) == len(members)+1 { // it is something else entirely
		r.fail("document", "is no JSON object: %w", err)
		return
	}
	r.fail("document", "is no JSON object (%w), and it nowhere names %s", err, strings.Join(missing, ", "))
}

// dates reads the members that all versions have, and number those that the later versions have.
func (s *Signed) dates(o object) {
	s.IssueDate, s.NextUpdate = o.time("issueDate"), o.time("nextUpdate")
	if len(o.r.errs) == 0 && !s.NextUpdate.After(s.IssueDate) {
		o.r.fail(o.at("nextUpdate"), "is not after the issue date")
	}
}

func (s *Signed) number(o object) {
	s.EvaluationNumber = uint32(o.number("tcbEvaluationDataNumber", 1<<31))
}

func (r *reader) err(what string) error {
	if len(r.errs) == 0 {
		return nil
	}
	return fmt.Errorf("parsing %s: %w", what, errors.Join(r.errs...))
}
