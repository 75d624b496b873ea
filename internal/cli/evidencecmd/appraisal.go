// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/appraisal"
	"cofferdam.dev/verify/bundle"
	"cofferdam.dev/verify/check"
)

// AppraisalCommand returns `appraisal` with all that is below it.
func (a *App) AppraisalCommand() *cobra.Command {
	return console.Noun("appraisal", "Appraisal policies: check them, and try them on stored evidence",
		a.appraisalCheckCommand(), a.appraisalTestCommand(), a.appraisalSchemaCommand())
}

// appraisalFacts is the document behind `appraisal check -o json`.
type appraisalFacts struct {
	Schema string            `json:"schema"`
	File   string            `json:"file"`
	Digest string            `json:"digest"`
	Policy *appraisal.Policy `json:"policy"`
}

func (a *App) appraisalCheckCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Read an appraisal policy and say what is wrong with it",
		Long: `Read an appraisal policy, the files that it names, and its rules, and say all that is wrong
with it, each with its line. What is right is told in short; -o json prints the policy with
the files' content in it, as bundles keep it.`,
		Example: `  cofferdam appraisal check appraisal.yaml
  cofferdam appraisal check appraisal.yaml -o json`,
		Args: console.Arguments(1, 1, "an appraisal policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			appraiser, err := a.ReadAppraisalPolicy(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p := appraiser.Policy()
			digest, err := policyDigest(p)
			if err != nil {
				return err
			}
			v := appraisalFacts{"cofferdam.dev/appraisal-check/v1", args[0], digest, p}
			return a.Answer(v, func(w io.Writer) error { return showAppraisalPolicy(w, &v) })
		},
	}
	a.OutputFlag(c)
	return c
}

func showAppraisalPolicy(w io.Writer, v *appraisalFacts) error {
	p := v.Policy
	simulated := "no"
	if p.AllowSimulated {
		simulated = fmt.Sprintf("YES, under %d roots: says nothing about hardware", len(p.SimulatedRoots))
	}
	binding := "report data of another form"
	if p.Binding.Source != "" {
		binding = fmt.Sprintf("a nonce of at least %d bytes, for %s", max(p.Binding.MinimumNonceSize, evidence.MinNonceSize), p.Binding.Source)
	}
	return console.Facts(w, [2]string{"policy", plain.Printable(v.File)}, [2]string{"name", plain.Printable(p.Name)}, [2]string{"digest", v.Digest},
		[2]string{"evidence", words(p.Evidence)}, [2]string{"domains", words(p.Domains)}, [2]string{"simulated", simulated},
		[2]string{"binding", binding}, [2]string{"host data", fmt.Sprintf("%d trusted policies", len(p.HostData.PolicyHashes))},
		[2]string{"rules", fmt.Sprintf("%d modules", len(p.Rules.Modules))})
}

func words[S ~string](list []S) string {
	var s []string
	for _, v := range list {
		s = append(s, string(v))
	}
	return strings.Join(s, ", ")
}

func (a *App) appraisalSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of appraisal policies",
		Long: `Print a JSON Schema (draft 7) of appraisal policies, for editors that complete and check
while one writes. The program itself checks more: cofferdam appraisal check.`,
		Example: `  cofferdam appraisal schema > appraisal-policy.schema.json`,
		Args:    console.Arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			b, err := appraisal.JSONSchema()
			if err != nil {
				return err
			}
			_, err = a.Out.Write(b)
			return err
		},
	}
}

// trialOptions say on what a policy is tried.
type trialOptions struct {
	against       string
	keys          []string
	unverified    bool
	at            string
	simulatedRoot string
	collateral    CollateralOptions
}

func (a *App) appraisalTestCommand() *cobra.Command {
	var o trialOptions
	c := &cobra.Command{
		Use:   "test POLICY FILE|DIR...",
		Short: "Try an appraisal policy on stored evidence and bundles",
		Long: `Try an appraisal policy on evidence and bundles that were stored, and say which verdicts
change and by which checks.

A bundle is judged at its recorded time, against its recorded verdict. Evidence is judged
now, or at --at, against the policy of --against. Its nonce is taken from itself: what is
tried is the policy, not whether the evidence is fresh. Of a directory, the files that are
neither evidence nor a bundle are passed over.

The exit code is 3 when something that was accepted would not be any more.`,
		Example: `  cofferdam appraisal test new.yaml archive/ --key appraiser.pem
  cofferdam appraisal test new.yaml evidence.json --against old.yaml`,
		Args: console.Arguments(2, -1, "a policy, and evidence or bundles"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.testAppraisal(ctx, cmd, &o, args[0], args[1:])
		},
	}
	f := c.Flags()
	f.StringVar(&o.against, "against", "", "compare evidence with what this policy says")
	f.StringArrayVar(&o.keys, "key", nil, "trust bundles that the key in this file signed")
	f.BoolVar(&o.unverified, "insecure-unverified", false, "read bundles without verifying who made them")
	f.StringVar(&o.at, "at", "", "judge evidence at this time (RFC 3339) instead of now")
	f.StringVar(&o.simulatedRoot, "simulated-root", "", "know this simulated root: local, a name that was added, or a PEM file")
	f.StringArrayVar(&o.collateral.Dirs, "collateral", nil, "look for collateral in this directory, or this file")
	a.OutputFlag(c)
	return c
}

// trial is what a new policy says about one piece.
type trial struct {
	File   string         `json:"file"`
	Before verify.Outcome `json:"before,omitempty"`
	After  verify.Outcome `json:"after"`
	Worse  []check.Check  `json:"worse,omitempty"`
	Better []check.Check  `json:"better,omitempty"`
}

// trialAnswer is the document behind `appraisal test -o json`.
type trialAnswer struct {
	Schema  string  `json:"schema"`
	Changed int     `json:"changed"`
	Lost    int     `json:"lost"`
	Results []trial `json:"results"`
}

// trier has what judging all pieces has in common.
type trier struct {
	*App

	cmd           *cobra.Command
	o             *trialOptions
	after, before *appraisal.Appraiser
	roots         []anchor.Root
	request       appraisal.Request
}

func (a *App) testAppraisal(ctx context.Context, cmd *cobra.Command, o *trialOptions, policy string, names []string) error {
	t := trier{App: a, cmd: cmd, o: o}
	if err := t.prepare(ctx, policy); err != nil {
		return err
	}
	v := trialAnswer{Schema: "cofferdam.dev/appraisal-test/v1", Results: []trial{}}
	for _, name := range names {
		files, whole, err := stored(name)
		if err != nil {
			return err
		}
		for _, file := range files {
			r, err := t.try(ctx, file)
			if errors.Is(err, errNeither) && !whole {
				continue
			}
			if err != nil {
				return err
			}
			v.Results = append(v.Results, *r)
			if r.Before != "" && r.Before != r.After {
				v.Changed++
			}
			if r.Before == verify.Accepted && r.After != verify.Accepted {
				v.Lost++
			}
		}
	}
	if err := a.Answer(v, func(w io.Writer) error { return showTrials(w, &v) }); err != nil {
		return err
	}
	if v.Lost > 0 {
		return console.Quiet(console.ExitRefused)
	}
	return nil
}

func (t *trier) prepare(ctx context.Context, policy string) error {
	var err error
	if t.after, err = t.ReadAppraisalPolicy(ctx, policy); err != nil {
		return err
	}
	if t.o.against != "" {
		if t.before, err = t.ReadAppraisalPolicy(ctx, t.o.against); err != nil {
			return err
		}
	}
	if t.roots, err = t.SimulatedRoots(t.o.simulatedRoot); err != nil {
		return err
	}
	t.request = appraisal.Request{Now: t.Now(), SimulatedRoots: t.roots}
	if t.o.at != "" {
		if t.request.Now, err = time.Parse(time.RFC3339, t.o.at); err != nil {
			return console.Usage(t.cmd, "--at: "+err.Error())
		}
	}
	t.request.Collateral, err = t.CollateralSource(t.cmd, &t.o.collateral)
	return err
}

// errNeither says that a file is neither evidence nor a bundle.
var errNeither = errors.New("it is neither evidence nor a bundle")

// try judges a file.
func (t *trier) try(ctx context.Context, name string) (*trial, error) {
	data, err := console.ReadLimited(name, nil, bundle.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading stored evidence: %w", err)
	}
	r := &trial{File: name}
	switch {
	case bytes.Contains(data[:min(len(data), evidence.MaxDocumentSize)], []byte(evidence.Schema)) && !bytes.Contains(data, []byte(bundle.PayloadType)):
		return r, t.tryDocument(ctx, r, data)
	case bytes.Contains(data, []byte(bundle.PayloadType)):
		return r, t.tryBundle(ctx, r, name)
	}
	return nil, fmt.Errorf("%s: %w", name, errNeither)
}

func (t *trier) tryDocument(ctx context.Context, r *trial, data []byte) error {
	doc, err := evidence.ParseDocument(data)
	if err != nil {
		return &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("%s: %w", r.File, err)}
	}
	q := t.request
	q.Nonce = doc.Nonce
	after := t.after.Appraise(ctx, doc, q)
	r.After, r.Worse = after.Outcome, after.Failures()
	if t.before != nil {
		c := appraisal.Compare(t.before.Appraise(ctx, doc, q), after)
		r.Before, r.Worse, r.Better = c.Before, c.Worse, c.Better
	}
	return ctx.Err()
}

func (t *trier) tryBundle(ctx context.Context, r *trial, name string) error {
	b, err := t.openBundle(t.cmd, t.o.keys, t.o.unverified, name)
	if err != nil {
		return err
	}
	_, c, err := b.Reverify(ctx, bundle.Options{Appraiser: t.after, SimulatedRoots: t.roots})
	r.Before, r.After, r.Worse, r.Better = c.Before, c.After, c.Worse, c.Better
	return err
}

// stored lists the files of a directory, or the one file; whole tells that it was named itself.
func stored(name string) (files []string, whole bool, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, false, fmt.Errorf("reading stored evidence: %w", err)
	}
	if !info.IsDir() {
		return []string{name}, true, nil
	}
	err = filepath.WalkDir(name, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("reading stored evidence: %w", err)
	}
	return files, false, nil
}

func showTrials(w io.Writer, v *trialAnswer) error {
	rows := [][]string{{"BEFORE", "AFTER", "FILE", "CHECKS"}}
	for _, r := range v.Results {
		var changes []string
		for _, c := range r.Worse {
			changes = append(changes, fmt.Sprintf("+%s %s", c.Name, c.Code))
		}
		for _, c := range r.Better {
			changes = append(changes, fmt.Sprintf("-%s %s", c.Name, c.Code))
		}
		before := string(r.Before)
		if before == "" {
			before = "-"
		}
		rows = append(rows, []string{before, string(r.After), plain.Printable(r.File), strings.Join(changes, ", ")})
	}
	if err := console.Table(w, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d of %d change, %d would not be accepted any more\n", v.Changed, len(v.Results), v.Lost)
	return err
}
