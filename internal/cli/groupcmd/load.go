// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/policycmd"
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

func (a *App) loadCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "load GROUP FILE...",
		Short: "Load signed fragments and trust lists into a running group",
		Long: `Hand signed policy fragments and trust lists to the guest of a running group, in the order
of the arguments. The guest verifies each, and the group's policy decides whether it counts;
the first that is refused ends the command, with exit code 3. Those before it stay loaded.

A trust list must come before the fragments that need receipts of its ledgers.`,
		Example: `  cofferdam group load web ledgers.cose redis.rego.cose`,
		Args:    console.Arguments(2, -1, "the name of a group, and signed files"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.CompleteGroups(cmd, args, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.loadInto(ctx, args[0], args[1:])
		},
	}
	a.OutputFlag(c)
	return c
}

func (a *App) loadInto(ctx context.Context, ref string, names []string) error {
	var files []policycmd.SignedFile
	kinds := map[string]bool{}
	for _, name := range names { // all are read before the first is loaded
		data, trustList, err := a.readSigned(name)
		if err != nil {
			return err
		}
		files, kinds[name] = append(files, policycmd.SignedFile{Name: name, Data: data}), trustList
	}
	client, err := a.Dial(ref)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // the answers are here
	v := groupLoaded{Schema: "cofferdam.dev/group-loaded/v1", Loaded: []loadedFacts{}}
	for _, f := range files {
		var l group.Loaded
		l, err = client.Load(ctx, f.Data, kinds[f.Name])
		if err != nil {
			err = fmt.Errorf("%s: %w", f.Name, err)
			break
		}
		kind := "fragment"
		if kinds[f.Name] {
			kind = "trust-list"
		}
		v.Loaded = append(v.Loaded, loadedFacts{f.Name, kind, l.Issuer, l.Feed, l.Ledgers})
	}
	return errors.Join(a.Answer(v, v.show), err)
}

func (v *groupLoaded) show(w io.Writer) error {
	if len(v.Loaded) == 0 {
		return nil
	}
	rows := [][]string{{"LOADED", "KIND", "FEED", "LEDGERS", "ISSUER"}}
	for _, l := range v.Loaded {
		rows = append(rows, []string{l.File, l.Kind, plain.Printable(l.Feed), plain.Printable(strings.Join(l.Ledgers, ", ")), plain.Printable(l.Issuer)})
	}
	return console.Table(w, rows)
}

// readSigned reads a fragment or a trust list for the guest, and says whether it is a list. The guest verifies it again;
// here a mistake is told before anything is loaded.
func (a *App) readSigned(name string) (data []byte, trustList bool, err error) {
	data, err = console.ReadLimited(name, nil, fragment.MaxSize)
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
		return nil, false, &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("%s: %w", name, err)}
	}
	return data, trustList, nil
}
