// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// definition is a container that is described in the policy's own form. What it leaves out is as for a container of
// which nothing was said.
func definition(d spec.Definition, debug bool, o Options) (policy.Container, error) {
	caps, err := capabilities(spec.Container{})
	if err != nil {
		return policy.Container{}, err
	}
	in := struct {
		policy.Container
		Platform string `json:"platform"`
	}{Container: policy.Container{AllowStdioAccess: true, Capabilities: caps, User: anyUser(), WorkingDir: "/"}}
	if !o.OmitSignals {
		in.Signals = []int{9, 15}
	}
	dec := json.NewDecoder(bytes.NewReader(d.JSON))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return policy.Container{}, fmt.Errorf("%s: %w", d.Path, err)
	}
	if in.Platform != "" && in.Platform != "linux/amd64" {
		return policy.Container{}, fmt.Errorf("%s: platform %q is not supported, only linux/amd64", d.Path, in.Platform)
	}
	c := in.Container
	if err := checkLayers(c.Layers); err != nil {
		return c, fmt.Errorf("%s: %w", d.Path, err)
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

func checkLayers(roots []string) error {
	if len(roots) == 0 {
		return fmt.Errorf("the image has no layers")
	}
	for _, root := range roots {
		if len(root) != 64 || strings.Trim(root, "0123456789abcdef") != "" {
			return fmt.Errorf("layer root %q is no SHA-256 in lower-case hexadecimal", root)
		}
	}
	return nil
}
