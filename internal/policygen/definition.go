// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// definition reads a container that is given in the policy's own form. What it leaves out is as for a container of which
// nothing was said; layers have no default.
func definition(d spec.Definition, debug bool, o Options) (policy.Container, error) {
	caps, err := capabilities(spec.Container{})
	if err != nil {
		return policy.Container{}, err
	}
	in := struct {
		policy.Container
		Platform string `json:"platform"`
	}{Container: policy.Container{
		AllowStdioAccess: true, Capabilities: caps, Name: d.Name, User: anyUser(), WorkingDir: "/",
	}}
	if !o.OmitSignals {
		in.Signals = []int{9, 15}
	}
	dec := json.NewDecoder(bytes.NewReader(d.JSON))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return policy.Container{}, err
	}
	c := in.Container
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("something follows the definition")
	}
	if in.Platform != "" && in.Platform != "linux/amd64" {
		return c, fmt.Errorf("platform %q is not supported, only linux/amd64", in.Platform)
	}
	if err := checkRoots(c.Layers); err != nil {
		return c, err
	}
	if o.WithoutStdio {
		c.AllowStdioAccess = false
	}
	if debug {
		for _, command := range debugCommands {
			c.ExecProcesses = append(c.ExecProcesses, policy.ExecProcess{Command: command})
		}
	}
	if o.OmitID {
		if c.Name == c.ID {
			c.Name = ""
		}
		c.ID = ""
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
		out = append(out, policy.Fragment{
			Issuer: f.Issuer, Feed: f.Feed, MinimumSVN: f.MinimumSVN, Includes: f.Includes, RequiredReceipts: f.RequiredReceipts,
		})
	}
	return out
}
