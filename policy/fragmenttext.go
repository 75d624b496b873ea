// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// FragmentText is what a policy fragment says, before it is signed: containers, and further fragments, that a policy
// allows by naming the fragment's signer. Its zero value has no namespace and can not be written.
type FragmentText struct {
	Namespace        string // the Rego package
	SVN              string // the security version, a decimal number
	FrameworkVersion string
	Fragments        []Fragment
	Containers       []Container
}

// Compiled when first used: the guest imports the package, and starts on an emulated processor.
var (
	namespaceForm = form(`^[A-Za-z_][A-Za-z0-9_]*$`)
	svnForm       = form(`^(0|[1-9][0-9]{0,17})$`)
	versionForm   = form(`^[0-9]+\.[0-9]+\.[0-9]+$`)
)

// reservedNamespaces are the documents of the enforcement framework and of the policy itself, and the words of Rego.
var reservedNamespaces = strings.Fields(`framework api policy metadata facts given
	defaultMounts privilegedMounts data input as contains default else every false if
	import in not null package some true with`)

// Text writes the fragment as the confcom extension does, one value after another, lists indented.
func (f *FragmentText) Text() ([]byte, error) {
	switch {
	case !namespaceForm().MatchString(f.Namespace):
		return nil, fmt.Errorf("namespace %q is not a letter or _ and then letters, digits and _", f.Namespace)
	case slices.Contains(reservedNamespaces, f.Namespace):
		return nil, fmt.Errorf("namespace %q is reserved", f.Namespace)
	case !svnForm().MatchString(f.SVN):
		return nil, fmt.Errorf("svn %q is not a number from 0 on", f.SVN)
	case !versionForm().MatchString(f.FrameworkVersion):
		return nil, fmt.Errorf("framework_version %q is not of the form 0.2.3", f.FrameworkVersion)
	case len(f.Containers) == 0 && len(f.Fragments) == 0:
		return nil, errors.New("fragment has neither containers nor fragments")
	}
	fragments := make([]Fragment, 0, len(f.Fragments))
	for _, i := range f.Fragments {
		i.Includes = filled(i.Includes)
		fragments = append(fragments, i)
	}
	containers := make([]Container, 0, len(f.Containers))
	for _, c := range f.Containers {
		containers = append(containers, c.filled())
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "package %s\n\n", f.Namespace)
	fmt.Fprintf(&b, "svn := %s\n", quote(f.SVN))
	fmt.Fprintf(&b, "framework_version := %s\n\n", quote(f.FrameworkVersion))
	fmt.Fprintf(&b, "fragments := %s\n\n", encode(fragments, true))
	fmt.Fprintf(&b, "containers := %s\n", encode(containers, true))
	return b.Bytes(), nil
}

func form(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}
