// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy/denial"
	reading "cofferdam.dev/policy/explain"
)

// maxDenial bounds a text with a denial in it.
const maxDenial = 1 << 20

// explainAnswer is the document behind `policy explain -o json`.
type explainAnswer struct {
	Schema string         `json:"schema"`
	Input  map[string]any `json:"input,omitempty"` // of a denial
	*reading.Explanation
}

func (a *App) policyExplainCommand() *cobra.Command {
	var policyFile, requestFile string
	c := &cobra.Command{
		Use:   "explain [DENIAL|FILE|-|group:NAME] [--policy FILE] [--request FILE]",
		Short: "Say why a request was denied, and what would admit it",
		Long: `Decode a denial out of an error message or log, or decide requests from a file, and say what
was at fault. With a policy: the container that comes nearest, each field that differs with
what was expected and what came, and the smallest change that would admit the request, as
the engine itself confirmed it.

group:NAME explains what that group's guest refused last, under the policy that it has.

A denial holds no values of variables; what was assumed is said. --request takes recorded
requests as ` + "`policy simulate`" + ` does; the first one that is denied is explained.`,
		Example: `  cofferdam policy explain group:db
  cofferdam policy explain 'policyDecision< eyJkZWNpc2lvbiI6ImRlbnkifQ== >policyDecision'
  journalctl -u containerd | cofferdam policy explain - --policy policy.rego
  cofferdam policy explain --policy policy.rego --request commands.json`,
		Args: console.Arguments(0, 1, "one denial"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (requestFile != "") {
				return console.Usage(cmd, "give either a denial or --request")
			}
			if requestFile != "" && policyFile == "" {
				return console.Usage(cmd, "--request needs --policy")
			}
			if len(args) == 1 && policyFile == "" && strings.HasPrefix(args[0], console.GroupPrefix) {
				policyFile = args[0]
			}
			var text []byte
			var err error
			if policyFile != "" {
				text, err = a.PolicyText(policyFile)
				if err != nil {
					return err
				}
			}
			if requestFile != "" {
				return a.explainRequest(cmd.Context(), text, requestFile)
			}
			return a.explainDenial(cmd.Context(), text, args[0])
		},
	}
	c.Flags().StringVar(&policyFile, "policy", "", "the policy: a file, - or group:NAME")
	c.Flags().StringVar(&requestFile, "request", "", "recorded requests, a file or -")
	a.OutputFlag(c)
	return c
}

// denialText is the argument itself, unless it names standard input or a file.
func (a *App) denialText(arg string) (string, error) {
	if arg != "-" {
		_, err := os.Stat(arg)
		if err != nil {
			return arg, nil
		}
	}
	data, err := console.ReadLimited(arg, a.In, maxDenial)
	if err != nil {
		return "", fmt.Errorf("reading the denial: %w", err)
	}
	return string(data), nil
}

// lastDenial is what a group's guest refused last, out of the supervisor's log.
func (a *App) lastDenial(ref string) (*denial.Denial, error) {
	_, g, err := a.Lookup(ref)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(group.SupervisorLogPath(g.Dir))
	if err != nil {
		return nil, fmt.Errorf("reading the group's log: %w", err)
	}
	defer func() { _ = f.Close() }() // opened for reading only
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the group's log: %w", err)
	}
	log, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-maxDenial), maxDenial))
	if err != nil {
		return nil, fmt.Errorf("reading the group's log: %w", err)
	}
	d, err := denial.Last(string(log))
	if errors.Is(err, denial.ErrNone) {
		return nil, fmt.Errorf("group %s: its policy has refused nothing", g.Record.Name)
	}
	return d, err
}

// denialOfArgument finds the denial that a person means.
func (a *App) denialOfArgument(arg string) (*denial.Denial, error) {
	if ref, ok := strings.CutPrefix(arg, console.GroupPrefix); ok {
		return a.lastDenial(ref)
	}
	message, err := a.denialText(arg)
	if err != nil {
		return nil, err
	}
	d, err := denial.Decode(message)
	if err != nil && message == arg {
		return nil, console.Fixed(err, "a file of that name that exists, or group:NAME")
	}
	return d, err
}

func (a *App) explainDenial(ctx context.Context, text []byte, arg string) error {
	d, err := a.denialOfArgument(arg)
	if err != nil {
		return err
	}
	x, err := reading.Denial(ctx, text, d)
	if err != nil {
		return err
	}
	return a.showExplanation(explainAnswer{Schema: "cofferdam.dev/policy-explanation/v1", Input: d.Input, Explanation: x})
}

func (a *App) explainRequest(ctx context.Context, text []byte, file string) error {
	steps, err := a.recording(file)
	if err != nil {
		return err
	}
	x, err := reading.First(ctx, text, steps)
	if err != nil {
		return err
	}
	return a.showExplanation(explainAnswer{Schema: "cofferdam.dev/policy-explanation/v1", Explanation: x})
}

func (a *App) showExplanation(v explainAnswer) error {
	return a.Answer(v, func(w io.Writer) error {
		var b strings.Builder
		x := v.Explanation
		if x.Allowed {
			b.WriteString("every request is allowed\n")
		} else {
			fmt.Fprintf(&b, "%s was denied\n", plain.Printable(string(x.Point)))
		}
		for _, r := range x.Reasons {
			fmt.Fprintf(&b, "  reason: %s\n", plain.Printable(r))
		}
		writeFaults(&b, "", x.Faults)
		if n := x.Nearest; n != nil {
			fmt.Fprintf(&b, "\nnearest container: %s\n", plain.Printable(strings.TrimSpace(fmt.Sprintf("containers[%d] %s", n.Index, n.Name))))
			writeFaults(&b, "  ", n.Faults)
			if n.Proven && len(n.Faults) > 0 {
				b.WriteString("  With these changes, and not with fewer, the policy admits the request.\n")
			}
		}
		for _, note := range x.Notes {
			fmt.Fprintf(&b, "note: %s\n", plain.Printable(note))
		}
		_, err := io.WriteString(w, b.String())
		return err
	})
}

func writeFaults(b *strings.Builder, indent string, faults []reading.Fault) {
	for _, f := range faults {
		for _, line := range [][2]string{
			{"field", f.Field}, {"rule", f.Rule}, {"expected", f.Expected}, {"actual", f.Actual}, {"fix", f.Fix},
		} {
			if line[1] != "" {
				fmt.Fprintf(b, "%s  %-9s %s\n", indent, line[0]+":", plain.Printable(line[1]))
			}
		}
	}
}
