// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// generatedPolicy is one policy in the document of `policy generate -o json`.
type generatedPolicy struct {
	Group     string `json:"group,omitempty"`  // name of the group, where it has one
	Origin    string `json:"origin,omitempty"` // where in the description it was found
	SHA256    string `json:"sha256"`
	CCEPolicy string `json:"cce_policy"` // base64 of the text
	Text      string `json:"text"`
}

// generatedAnswer is the document behind `policy generate -o json`.
type generatedAnswer struct {
	Schema   string            `json:"schema"`
	Policies []generatedPolicy `json:"policies"`
}

func hashOf(text []byte) string {
	h := policy.Hash(text)
	return hex.EncodeToString(h[:])
}

func (a *App) printPolicies(o *GenerateOptions, list []made) error {
	if o.file != "" {
		if len(list) > 1 {
			return &console.Failure{Code: console.ExitUsage, Err: fmt.Errorf("--file is for one policy, the description gives %d", len(list)), Fix: "leave --file out and split the output, or -o json"}
		}
		err := os.WriteFile(o.file, list[0].text, 0o644) //nolint:gosec // a policy is public
		if err != nil {
			return fmt.Errorf("writing the policy: %w", err)
		}
	}
	v := generatedAnswer{Schema: "cofferdam.dev/policy-generate/v1", Policies: []generatedPolicy{}}
	for _, m := range list {
		v.Policies = append(v.Policies, generatedPolicy{
			Group: m.group.Name, Origin: m.group.Origin, SHA256: hashOf(m.text),
			CCEPolicy: base64.StdEncoding.EncodeToString(m.text), Text: string(m.text),
		})
	}
	return a.Answer(v, func(w io.Writer) error {
		for i, m := range list {
			err := o.print(w, m, o.asConfcom || i+1 < len(list))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// print writes one policy. A text stands alone without a newline of ours, so that its bytes are those that are hashed;
// between several there are two empty lines, as confcom has them.
func (o *GenerateOptions) print(w io.Writer, m made, more bool) error {
	text := m.text
	end := "\n"
	switch {
	case o.hash:
		text = []byte(hashOf(m.text))
	case o.form == "base64":
		text = []byte(base64.StdEncoding.EncodeToString(m.text))
		if o.asConfcom {
			end = "\n\n\n"
		}
	default:
		if o.form == "pretty" {
			text = m.policy.PrettyText()
		}
		end = ""
		if more {
			end = "\n\n\n"
		}
	}
	_, err := fmt.Fprintf(w, "%s%s", text, end)
	return err
}

// existing is the policy that a description already holds.
func existing(m made) ([]byte, error) {
	if m.group.ExistingPolicy == "" {
		return nil, errors.New("the description holds no policy")
	}
	text, err := base64.StdEncoding.DecodeString(m.group.ExistingPolicy)
	if err != nil {
		return nil, fmt.Errorf("the policy that the description holds is not in base64: %w", err)
	}
	return text, nil
}

// WarnSecrets names what looks like a secret: it becomes part of the policy's text, which is public, and passes through
// the host. What a description itself calls secret was named when it was read.
func (a *App) WarnSecrets(g *spec.Group, p *policy.Policy) {
	named := map[string]bool{}
	for _, c := range g.Containers {
		for _, v := range c.Env {
			named[c.Name+"\x00"+v.Name] = v.Secret
		}
	}
	for _, s := range p.Secrets() {
		if named[s.Container+"\x00"+s.Place] {
			continue
		}
		place := s.Place
		if len(p.Containers) > 1 {
			place = "container " + s.Container + ": " + place
		}
		a.Say("%s %s looks like a secret; its value stands in the policy, which is public, and the host sees it",
			a.Style(a.Err).Warn("warning:"), plain.Printable(place))
	}
}
