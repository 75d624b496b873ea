// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/lockfile"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/policygen"
	"cofferdam.dev/internal/policygen/inject"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// writePolicies puts the policies into the description that they were made from.
func (a *App) writePolicies(in *Input, list []made, yes bool) error {
	data, replaced := in.Data, 0
	for _, m := range list {
		value := base64.StdEncoding.EncodeToString(m.text)
		if m.group.ExistingPolicy != "" && m.group.ExistingPolicy != value {
			replaced++
		}
		var err error
		switch {
		case strings.HasPrefix(m.group.Origin, wholeDocument+"."):
			data, err = inject.Policy(data, m.group.Origin, value)
		case m.group.Platform == spec.PlatformVirtualNode && m.group.Origin != wholeDocument:
			data, err = inject.Annotation(data, m.group.Origin, value)
		default:
			err = errors.New("--write is for ARM templates and for pods of the virtual node (--for vn2); --format base64 prints what belongs elsewhere")
		}
		if err != nil {
			return err
		}
	}
	err := distinct(list)
	if err != nil {
		return err
	}
	if replaced > 0 && !yes {
		err := a.confirm(fmt.Sprintf("%s holds another policy already, in %d of %d groups. Replace?", in.File, replaced, len(list)))
		if err != nil {
			return err
		}
	}
	if !bytes.Equal(data, in.Data) {
		err := lockfile.WriteFile(in.File, data)
		if err != nil {
			return fmt.Errorf("writing the policy into %s: %w", in.File, err)
		}
	}
	o := GenerateOptions{hash: true}
	return a.printPolicies(&o, list)
}

// distinct refuses to write several policies to one place: a resource that a loop multiplies has but one.
func distinct(list []made) error {
	texts := map[string][]byte{}
	for _, m := range list {
		before, ok := texts[m.group.Origin]
		if ok && !bytes.Equal(before, m.text) {
			return fmt.Errorf("the loop at %s makes groups with different policies, and the template has one place for them: compute ccePolicy in the template", m.group.Origin)
		}
		texts[m.group.Origin] = m.text
	}
	return nil
}

// confirm asks a person. Without one, only --yes will do.
func (a *App) confirm(question string) error {
	if !term.IsTerminal(int(a.In.Fd())) {
		return console.Fixed(errors.New(strings.TrimSuffix(question, " Replace?")+" Nothing was written"), "the same command with --yes")
	}
	_, err := fmt.Fprintf(a.Err, "%s [y/N] ", question)
	if err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was written")
}

// policyDifferences is one group in the document of `policy generate --diff -o json`.
type policyDifferences struct {
	Group       string                 `json:"group,omitempty"`
	Origin      string                 `json:"origin,omitempty"`
	Have        string                 `json:"have_sha256"`
	Want        string                 `json:"want_sha256"`
	Differences []policygen.Difference `json:"differences"`
}

// differencesAnswer is the document behind `policy generate --diff -o json` and --validate-sidecar.
type differencesAnswer struct {
	Schema string              `json:"schema"`
	Same   bool                `json:"same"`
	Groups []policyDifferences `json:"groups"`
}

// diffPolicies compares each policy with the one that the description holds.
func (a *App) diffPolicies(list []made) error {
	v := differencesAnswer{Schema: "cofferdam.dev/policy-difference/v1", Same: true, Groups: []policyDifferences{}}
	for _, m := range list {
		d := policyDifferences{Group: m.group.Name, Origin: m.group.Origin, Want: hashOf(m.text), Differences: []policygen.Difference{}}
		text, err := existing(m)
		if err != nil {
			return err
		}
		d.Have = hashOf(text)
		if d.Have != d.Want {
			have, err := policy.Parse(text)
			if err != nil {
				return &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("the policy that the description holds is not a generated one: %w", err), Fix: "cofferdam policy show tells what it allows"}
			}
			d.Differences = append(d.Differences, policygen.Differences(have, m.policy)...)
		}
		v.Same = v.Same && len(d.Differences) == 0
		v.Groups = append(v.Groups, d)
	}
	return a.answerDifferences(v, "holds", "the policy of the description fits")
}

// answerDifferences prints differences, and ends with the exit code for a refusal if there are any.
func (a *App) answerDifferences(v differencesAnswer, have, same string) error {
	err := a.Answer(v, func(w io.Writer) error {
		for _, g := range v.Groups {
			for _, d := range g.Differences {
				where := d.Field
				if d.Container != "" {
					where = d.Container + ": " + d.Field
				}
				_, err := fmt.Fprintf(w, "%s\n  %-6s %s\n  needed %s\n", plain.Printable(where), have, orNothing(d.Have), orNothing(d.Want))
				if err != nil {
					return err
				}
			}
			if len(g.Differences) == 0 && g.Have != g.Want {
				a.Say("the rules are the same in another order: the hash is %s in the description, %s if it is generated now", g.Have, g.Want)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !v.Same:
		return console.Quiet(console.ExitRefused)
	}
	a.Say("%s", same)
	return nil
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return plain.Printable(s)
}

// validateSidecars checks that each sidecar's image may run, as it is, under the rule that its description gives.
func (a *App) validateSidecars(o *GenerateOptions, list []made) error {
	v := differencesAnswer{Schema: "cofferdam.dev/policy-sidecar/v1", Same: true, Groups: []policyDifferences{}}
	found := false
	for _, m := range list {
		d := policyDifferences{Group: m.group.Name, Origin: m.group.Origin, Want: hashOf(m.text), Have: hashOf(m.text), Differences: []policygen.Difference{}}
		for i, c := range m.group.Containers {
			if !policygen.Sidecar(c.Image) {
				continue
			}
			found = true
			bare := m.group
			bare.Containers, bare.Definitions = []spec.Container{bareContainer(c.Name, c.Image)}, nil
			options, err := o.policyOptions(bare.Platform)
			if err != nil {
				return err
			}
			p, err := policygen.Generate(bare, m.facts, options)
			if err != nil {
				return err
			}
			d.Differences = append(d.Differences, policygen.Admits(m.policy.Containers[i], p.Containers[0])...)
		}
		v.Same = v.Same && len(d.Differences) == 0
		v.Groups = append(v.Groups, d)
	}
	if !found {
		return errors.New("there is no sidecar among the images")
	}
	return a.answerDifferences(v, "allows", "the sidecars' images may run as described")
}
