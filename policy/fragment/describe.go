// SPDX-License-Identifier: Apache-2.0

package fragment

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"cofferdam.dev/policy"
)

// Description is what the lines of a fragment's text seem to say. It is for people and for making import statements; an
// enforcer evaluates the text, and only after it has accepted the signer.
type Description struct {
	Namespace string
	SVN       string   // empty where no line gives it as a literal
	Defines   []string // of what a policy may include: see definitions
}

// Compiled when first used: the guest imports the package, and starts on an emulated processor.
var (
	packageLine = form(`^package ([A-Za-z_][A-Za-z0-9_]*)$`)
	svnLine     = form(`(?m)^svn\s*:?=\s*(?:"([0-9]{1,18})"|([0-9]{1,18}))\s*$`)
	ruleLine    = form(`(?m)^(` + strings.Join(definitions, "|") + `)\s*:?=(\s*\[\s*\]\s*$)?`)
)

// definitions are what a policy may include of a fragment, besides its namespace.
var definitions = []string{"containers", "external_processes", "fragments", "platform_rules", "transparency_trust_lists"}

// Describe reads the lines of a fragment's text.
func Describe(text []byte) (*Description, error) {
	first, _, _ := bytes.Cut(text, []byte("\n"))
	m := packageLine().FindSubmatch(first)
	if m == nil {
		return nil, errors.New(`fragment's first line is not "package NAME"`)
	}
	d := &Description{Namespace: string(m[1])}
	if m = svnLine().FindSubmatch(text); m != nil {
		d.SVN = string(m[1]) + string(m[2])
	}
	for _, name := range definitions {
		for _, m := range ruleLine().FindAllSubmatch(text, -1) {
			if string(m[1]) == name && len(m[2]) == 0 {
				d.Defines = append(d.Defines, name)
				break
			}
		}
	}
	return d, nil
}

// Import makes the statement by which a policy accepts the fragment and newer ones of its feed. Without a minimum, the
// fragment's own security version is it.
func (s *Signed) Import(minimum string, includes []string) (policy.Fragment, error) {
	d, err := Describe(s.Text)
	if err != nil {
		return policy.Fragment{}, err
	}
	if minimum == "" {
		minimum = d.SVN
	}
	if minimum == "" && s.SVN != nil {
		minimum = strconv.FormatInt(*s.SVN, 10)
	}
	if minimum == "" {
		return policy.Fragment{}, errors.New("fragment names no svn; say which minimum to require")
	}
	if len(includes) == 0 {
		includes = d.Defines
	}
	return policy.Fragment{Feed: s.Feed, Includes: includes, Issuer: s.Issuer, MinimumSVN: minimum}, nil
}

func form(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}
