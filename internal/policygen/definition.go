// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// definition reads a container that is given in the policy's own form. What it leaves out has the default of confcom's
// container definitions; layers have none.
func definition(d spec.Definition) (policy.Container, error) {
	caps := slices.Sorted(slices.Values(defaultCapabilities))
	c := policy.Container{
		AllowStdioAccess: true, User: anyUser(), WorkingDir: "/",
		Capabilities: policy.Capabilities{Bounding: caps, Effective: slices.Clone(caps), Permitted: slices.Clone(caps)},
	}
	dec := json.NewDecoder(bytes.NewReader(d.JSON))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("something follows the definition")
	}
	if err := checkRoots(c.Layers); err != nil {
		return c, err
	}
	if d.Name != "" && c.Name == "" {
		c.Name = d.Name
	}
	return c, nil
}

// checkRoots accepts what can be the layers of a container.
func checkRoots(roots []string) error {
	if len(roots) == 0 {
		return errors.New("there are no layers")
	}
	for i, root := range roots {
		if !Root(root) {
			return fmt.Errorf("layer %d: root %q is no SHA-256 in lower-case hexadecimal", i, root)
		}
	}
	return nil
}

// Root says whether s is written as a layer's root hash is.
func Root(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, b := range []byte(s) {
		if (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return false
		}
	}
	return true
}

// fragments are those that the description imports.
func fragments(list []spec.Fragment) []policy.Fragment {
	var out []policy.Fragment
	for _, f := range list {
		out = append(out, policy.Fragment{Issuer: f.Issuer, Feed: f.Feed, MinimumSVN: f.MinimumSVN, Includes: f.Includes})
	}
	return out
}
