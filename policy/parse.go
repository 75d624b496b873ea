// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxTextSize bounds a policy's text.
const MaxTextSize = 1 << 20

// Parse reads a policy text of the generated form, plain or pretty. It accepts exactly what Text and PrettyText write,
// followed by any number of newlines; any other text is an error that names the line and what was expected there.
func Parse(text []byte) (*Policy, error) {
	p, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("parsing policy: %w", err)
	}
	return p, nil
}

func parse(text []byte) (*Policy, error) {
	if len(text) > MaxTextSize {
		return nil, fmt.Errorf("text has %d bytes, at most %d are allowed", len(text), MaxTextSize)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("text is not UTF-8")
	}
	text = bytes.TrimRight(text, "\n")
	var p Policy
	r := reader{text: text}
	r.literal(header)
	p.APIVersion = r.version("api_version := ")
	p.FrameworkVersion = r.version("framework_version := ")
	r.literal("\nfragments := ")
	r.json(&p.Fragments, "the list of fragments")
	if r.next("\n\n" + trustListsLine) {
		r.literal("\n\n" + trustListsLine)
		r.json(&p.TrustLists, "the list of trust lists")
	}
	if r.next("\n\n" + egressLine) {
		r.literal("\n\n" + egressLine)
		var list json.RawMessage
		r.json(&list, "the list of what may be connected to")
		p.Egress = r.egress(list)
	}
	r.literal("\n\ncontainers := ")
	r.json(&p.Containers, "the list of containers")
	r.literal("\n\n")
	for _, a := range p.allows() {
		r.literal(a.name + " := ")
		*a.value = r.bool()
		r.literal("\n")
	}
	r.literal("\n")
	for _, point := range p.points() {
		if point == rwMountDevice && !p.prerelease() && !r.next(rule(point)) {
			p.OmitRWMountDevice = true
			break
		}
		r.literal(rule(point))
	}
	r.literal(footer)
	if r.err == nil && r.pos != len(text) {
		r.fail("the end of the text")
	}
	if r.err != nil {
		return nil, r.err
	}
	return &p, unchanged(&p, text)
}

// ParseTrustLists reads a JSON list of statements about trust lists, in which every field must be set.
func ParseTrustLists(data []byte) ([]TrustList, error) {
	var list []TrustList
	err := strictUnmarshal(data, &list)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("there are none")
	}
	for i, l := range list {
		_, err = strconv.ParseUint(l.MinimumSVN, 10, 63)
		if err != nil || l.Issuer == "" || l.Subject == "" || len(l.AllowedLedgers) == 0 {
			return nil, fmt.Errorf("trust list %d has not each of issuer, subject, minimum_svn (a number in a string) and allowed_ledgers", i)
		}
	}
	return list, nil
}

// unchanged checks that nothing of the text would be lost or written otherwise: spelling of JSON, order of keys,
// missing and repeated keys.
func unchanged(p *Policy, text []byte) error {
	plain := bytes.TrimRight(p.Text(), "\n")
	if bytes.Equal(plain, text) || bytes.Equal(bytes.TrimRight(p.PrettyText(), "\n"), text) {
		return nil
	}
	at := 0
	for at < len(plain) && at < len(text) && plain[at] == text[at] {
		at++
	}
	return fmt.Errorf("line %d: found %s, expected %s as a generated policy has it",
		1+bytes.Count(text[:at], []byte("\n")), excerpt(text[at:]), excerpt(plain[at:]))
}

// reader walks through the text; after the first error it does nothing.
type reader struct {
	text []byte
	pos  int
	err  error
}

func (r *reader) next(s string) bool { return bytes.HasPrefix(r.text[r.pos:], []byte(s)) }

func (r *reader) fail(expected string) {
	if r.err == nil {
		line := 1 + bytes.Count(r.text[:r.pos], []byte("\n"))
		r.err = fmt.Errorf("line %d: found %s, expected %s", line, excerpt(r.text[r.pos:]), expected)
	}
}

// literal reads a fixed piece of text, line by line so that an error names the right one.
func (r *reader) literal(s string) {
	for part := range strings.Lines(s) {
		switch {
		case r.err != nil:
			return
		case !r.next(part):
			r.fail(strconv.Quote(part))
			return
		}
		r.pos += len(part)
	}
}

func (r *reader) version(key string) string {
	r.literal(key)
	if r.err != nil {
		return ""
	}
	line, _, _ := bytes.Cut(r.text[r.pos:], []byte("\n"))
	v, err := strconv.Unquote(string(line))
	if err != nil || strings.Trim(v, "0123456789.") != "" {
		r.fail(`a version such as "0.11.0"`)
		return ""
	}
	r.pos += len(line)
	r.literal("\n")
	return v
}

func (r *reader) bool() bool {
	for _, v := range []bool{true, false} {
		if s := strconv.FormatBool(v); r.err == nil && r.next(s) {
			r.pos += len(s)
			return v
		}
	}
	r.fail("true or false")
	return false
}

func (r *reader) egress(list json.RawMessage) *Egress {
	if r.err != nil {
		return nil
	}
	e, err := ParseEgress(list)
	if err != nil {
		r.err = fmt.Errorf("line %d: %s: %w", 1+bytes.Count(r.text[:r.pos], []byte("\n")), EgressRuleName, err)
	}
	return e
}

func (r *reader) json(to any, what string) {
	if r.err != nil {
		return
	}
	if !r.next("[") {
		r.fail(what)
		return
	}
	d := json.NewDecoder(bytes.NewReader(r.text[r.pos:]))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		r.pos += min(int(d.InputOffset()), len(r.text)-r.pos)
		r.fail(what)
		r.err = fmt.Errorf("%w: %w", r.err, err)
		return
	}
	r.pos += int(d.InputOffset())
}

func excerpt(b []byte) string {
	const most = 40
	if len(b) == 0 {
		return "the end of the text"
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if len(line) > most {
		line = line[:most]
	}
	return strconv.Quote(string(line))
}
