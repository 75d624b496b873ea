// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/anchor"
)

// CollateralCommand returns `collateral` with all that is below it.
func (a *App) CollateralCommand() *cobra.Command {
	return console.Noun("collateral", "Get certificates, revocation lists and TCB statements: fetch and show them",
		a.collateralFetchCommand(), a.collateralShowCommand())
}

// Values of heldItem.State.
const (
	stateCurrent = "current"
	stateNotYet  = "not yet"
	stateExpired = "expired"
	stateDamaged = "damaged"
)

// heldItem is a piece of collateral as commands show it.
type heldItem struct {
	Name  string     `json:"name"`
	State string     `json:"state"`
	From  *time.Time `json:"from,omitempty"`
	Until *time.Time `json:"until,omitempty"`
	Error string     `json:"error,omitempty"`
}

// collateralAnswer is the document behind `collateral fetch|show -o json`.
type collateralAnswer struct {
	Schema    string     `json:"schema"`
	Directory string     `json:"directory"`
	Items     []heldItem `json:"items"`
}

// held judges the form and the period of an item, and nothing else.
func held(r collateral.Request, it collateral.Item, err error, now time.Time) heldItem {
	h := heldItem{Name: r.Name()}
	var w collateral.Window
	if err == nil {
		w, err = collateral.Inspect(r, it)
	}
	if err != nil {
		h.State, h.Error = stateDamaged, console.OneLine(err.Error())
		return h
	}
	from, until := w.From.UTC(), w.Until.UTC()
	h.State, h.From, h.Until = stateCurrent, &from, &until
	switch {
	case now.Before(from):
		h.State = stateNotYet
	case now.After(until):
		h.State = stateExpired
	}
	return h
}

func (a *App) answerItems(dir string, items []heldItem) error {
	v := collateralAnswer{Schema: "cofferdam.dev/collateral-list/v1", Directory: dir, Items: items}
	return a.Answer(v, func(w io.Writer) error {
		rows := [][]string{{"STATE", "FROM", "UNTIL", "NAME"}}
		for _, i := range items {
			from, until := "-", "-"
			if i.From != nil {
				from, until = i.From.Format(time.RFC3339), i.Until.Format(time.RFC3339)
			}
			rows = append(rows, []string{i.State, from, until, i.Name})
		}
		return console.Table(w, rows)
	})
}

func (a *App) collateralShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show DIR",
		Short: "Show what a directory of collateral has",
		Long: `Show what a directory of collateral has, and whether it is current: the periods that the
issuers give. No signature is verified here.`,
		Example: `  cofferdam collateral show ./collateral`,
		Args:    console.Arguments(1, 1, "a directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := collateral.Directory(args[0])
			requests, err := dir.Requests()
			if err != nil {
				return err
			}
			items := []heldItem{}
			for _, r := range requests {
				it, err := dir.Get(cmd.Context(), r)
				items = append(items, held(r, it, err, a.Now()))
			}
			return a.answerItems(args[0], items)
		},
	}
	a.OutputFlag(c)
	return c
}

// fetchOptions are the flags of `collateral fetch`.
type fetchOptions struct {
	CollateralOptions
	out, evidence, simulatedRoot string
}

func (a *App) collateralFetchCommand() *cobra.Command {
	o := fetchOptions{CollateralOptions: CollateralOptions{Fetch: true}}
	c := &cobra.Command{
		Use:   "fetch [NAME...] --out DIR",
		Short: "Fetch collateral into a directory, to verify without a network",
		Long: `Fetch collateral from the vendors' servers into a directory, for --collateral of
` + "`cofferdam verify`" + ` on a machine without a network.

Name the pieces, or the evidence that is to be verified, whose missing pieces are found out
by appraising it. The servers learn which chips and platforms you ask about. Chip
certificates never change; revocation lists and TCB statements have to be fetched again
before their next update.`,
		Example: `  cofferdam collateral fetch --evidence evidence.json --out ./collateral
  cofferdam collateral fetch amd/crl/Milan amd/chain/Milan/vcek --out ./collateral
  cofferdam collateral fetch intel/tcb-info/tdx/b0c06f000000 --out ./collateral`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.fetchCollateral(ctx, cmd, &o, args)
		},
	}
	c.Flags().StringVar(&o.out, "out", "", "write here: a directory")
	c.Flags().StringVar(&o.evidence, "evidence", "", "fetch what the evidence in this file lacks")
	c.Flags().StringVar(&o.simulatedRoot, "simulated-root", "", "the evidence is of this simulated root, and the servers are its own")
	o.serverFlags(c)
	a.OutputFlag(c)
	return c
}

func (a *App) fetchCollateral(ctx context.Context, cmd *cobra.Command, o *fetchOptions, names []string) error {
	if o.out == "" || len(names) == 0 && o.evidence == "" {
		return console.Usage(cmd, "say what to fetch (names, or --evidence FILE), and where to (--out DIR)")
	}
	var requests []collateral.Request
	for _, n := range names {
		r, err := collateral.ParseName(n)
		if err != nil {
			return console.Usage(cmd, err.Error())
		}
		requests = append(requests, r)
	}
	source, err := a.CollateralSource(cmd, &o.CollateralOptions)
	if err != nil {
		return err
	}
	rec := noteOn(source)
	for _, r := range requests {
		_, _ = rec.Get(ctx, r) // noted
	}
	if o.evidence != "" {
		if err := a.appraiseFor(ctx, o, rec); err != nil {
			return err
		}
	}
	items := []heldItem{}
	for _, name := range slices.Sorted(maps.Keys(rec.got)) {
		r, err := collateral.ParseName(name)
		if err != nil {
			return err
		}
		if err := collateral.Directory(o.out).Put(r, rec.got[name]); err != nil {
			return err
		}
		items = append(items, held(r, rec.got[name], nil, a.Now()))
	}
	if err := a.answerItems(o.out, items); err != nil {
		return err
	}
	if len(rec.failed) == 0 {
		return nil
	}
	return &console.Failure{
		Code: console.ExitError, Err: errors.New("some of the collateral is not to be had"), Details: rec.failures(nil),
		Fix: "the same again later; servers that were asked too often rest for minutes",
	}
}

// appraiseFor appraises evidence only to find out what is asked for. The verdict is nobody's.
func (a *App) appraiseFor(ctx context.Context, o *fetchOptions, source collateral.Source) error {
	b, err := console.ReadLimited(o.evidence, nil, evidence.MaxDocumentSize)
	if err != nil {
		return fmt.Errorf("getting the evidence: %w", err)
	}
	doc, err := evidence.ParseDocument(b)
	if err != nil {
		return &console.Failure{Code: console.ExitRefused, Err: err}
	}
	opts := verify.Options{Roots: append(anchor.AMDRoots(), anchor.IntelRoot()), Now: a.Now(), Collateral: source}
	if o.simulatedRoot != "" {
		root, err := a.ReadSimulatedRoot(o.simulatedRoot)
		if err != nil {
			return err
		}
		opts.Roots, opts.AllowSimulated = []anchor.Root{root}, true
	}
	_ = verify.Appraise(ctx, doc, opts)
	return ctx.Err()
}

// noting passes requests on and notes what came of them.
type noting struct {
	source collateral.Source

	mu     sync.Mutex
	got    collateral.Embedded
	failed map[string]error
}

// noteOn returns a source that notes, or nil when there is nothing to pass requests on to.
func noteOn(source collateral.Source) *noting {
	if source == nil {
		return nil
	}
	return &noting{source: source, got: collateral.Embedded{}, failed: map[string]error{}}
}

// failures says what was not to be had and why, one line each, but for what came from elsewhere. A nil noting has none.
func (n *noting) failures(elsewhere func(name string) bool) []string {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(n.failed)) {
		if elsewhere != nil && elsewhere(name) {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: %s", name, console.OneLine(n.failed[name].Error())))
	}
	return lines
}

// Get asks the source.
func (n *noting) Get(ctx context.Context, r collateral.Request) (collateral.Item, error) {
	it, err := n.source.Get(ctx, r)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.failed[plain.Printable(r.Name())] = err
		return it, err
	}
	n.got[r.Name()] = it
	if r.Kind == collateral.AMDVCEK { // old reports do not name the product line: several are tried
		maps.DeleteFunc(n.failed, func(name string, _ error) bool {
			return strings.HasSuffix(name, fmt.Sprintf("/%x/%x", r.ChipID, r.TCB))
		})
	}
	return it, nil
}
