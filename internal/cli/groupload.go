// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy/fragment"
)

// groupLoaded is the document behind `group load -o json`.
type groupLoaded struct {
	Schema string        `json:"schema"`
	Loaded []loadedFacts `json:"loaded"`
}

type loadedFacts struct {
	File    string   `json:"file"`
	Kind    string   `json:"kind"` // "fragment" or "trust-list"
	Issuer  string   `json:"issuer"`
	Feed    string   `json:"feed"` // of a trust list, its subject
	Ledgers []string `json:"ledgers,omitempty"`
}

func (a *app) loadCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "load GROUP FILE...",
		Short: "Load signed fragments and trust lists into a running group",
		Long: `Hand signed policy fragments and trust lists to the guest of a running group, in the order
of the arguments. The guest verifies each, and the group's policy decides whether it counts;
the first that is refused ends the command, with exit code 3. Those before it stay loaded.

A trust list must come before the fragments that need receipts of its ledgers.`,
		Example: `  cofferdam group load web ledgers.cose redis.rego.cose`,
		Args:    arguments(2, -1, "the name of a group, and signed files"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.completeGroups(cmd, args, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.loadInto(ctx, args[0], args[1:])
		},
	}
	a.outputFlag(c)
	return c
}

func (a *app) loadInto(ctx context.Context, ref string, names []string) error {
	var files []signedFile
	kinds := map[string]bool{}
	for _, name := range names { // all are read before the first is loaded
		data, trustList, err := a.readSigned(name)
		if err != nil {
			return err
		}
		files, kinds[name] = append(files, signedFile{name, data}), trustList
	}
	client, err := a.dial(ref)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // the answers are here
	v := groupLoaded{Schema: "cofferdam.dev/group-loaded/v1", Loaded: []loadedFacts{}}
	for _, f := range files {
		var l group.Loaded
		l, err = client.Load(ctx, f.data, kinds[f.name])
		if err != nil {
			err = fmt.Errorf("%s: %w", f.name, err)
			break
		}
		kind := "fragment"
		if kinds[f.name] {
			kind = "trust-list"
		}
		v.Loaded = append(v.Loaded, loadedFacts{f.name, kind, l.Issuer, l.Feed, l.Ledgers})
	}
	return errors.Join(a.answer(v, v.show), err)
}

func (v *groupLoaded) show(w io.Writer) error {
	if len(v.Loaded) == 0 {
		return nil
	}
	rows := [][]string{{"LOADED", "KIND", "FEED", "LEDGERS", "ISSUER"}}
	for _, l := range v.Loaded {
		rows = append(rows, []string{l.File, l.Kind, plain.Printable(l.Feed), plain.Printable(strings.Join(l.Ledgers, ", ")), plain.Printable(l.Issuer)})
	}
	return table(w, rows)
}

// readSigned reads a fragment or a trust list for the guest, and says whether it is a list. The guest verifies it again;
// here a mistake is told before anything is loaded.
func (a *app) readSigned(name string) (data []byte, trustList bool, err error) {
	data, err = readLimited(name, nil, fragment.MaxSize)
	if err != nil {
		return nil, false, fmt.Errorf("reading what to load: %w", err)
	}
	m, err := cose1.Parse(data)
	if err == nil && strings.Contains(m.Header.ContentType, "trust-list") {
		_, err = fragment.OpenTrustList(data)
		trustList = true
	} else if err == nil {
		_, err = fragment.Open(data)
	}
	if err != nil {
		return nil, false, &failure{code: exitRefused, err: fmt.Errorf("%s: %w", name, err)}
	}
	return data, trustList, nil
}
