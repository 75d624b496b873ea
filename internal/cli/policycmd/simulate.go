// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group/recording"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/replay"
)

// maxRecording bounds a file of recorded requests.
const maxRecording = recording.MaxSize

// simulateAnswer is the document behind `policy simulate -o json`.
type simulateAnswer struct {
	Schema     string         `json:"schema"`
	AsExpected bool           `json:"as_expected"`
	Allowed    int            `json:"allowed"`
	Denied     int            `json:"denied"`
	Steps      []simulateStep `json:"steps"`
}

type simulateStep struct {
	Step    int      `json:"step"`
	Name    string   `json:"name"`
	Allowed bool     `json:"allowed"`
	Reasons []string `json:"reasons,omitempty"`
	Dropped []string `json:"dropped,omitempty"`
	Stdio   bool     `json:"allow_stdio,omitempty"`
	// Recorded is what was said when the request was recorded, where the recording tells.
	Recorded replay.Outcome `json:"recorded,omitempty"`
}

func (a *App) policySimulateCommand() *cobra.Command {
	var policyFile string
	var expect []int
	var asRecorded bool
	c := &cobra.Command{
		Use:   "simulate --policy FILE REQUESTS|-",
		Short: "Put recorded requests to a policy",
		Long: `Decide recorded requests in order, with the engine that guests use and with its state: what
was mounted and started before counts.

REQUESTS is a JSON array of {"name": POINT, "input": {...}}, as Microsoft's policy simulator
reads it, or the same objects one a line, as ` + "`run --record`" + ` writes them. Exits with 3 if a
request is denied; with --expect-denied, if others are denied than the numbered ones; with
--as-recorded, if one is decided otherwise than the recording says.`,
		Example: `  cofferdam policy simulate --policy policy.rego commands.json
  cofferdam policy simulate --policy policy.rego --expect-denied 4,7 commands.json`,
		Args: console.Arguments(1, 1, "one file of requests"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if policyFile == "" {
				return console.Usage(cmd, "--policy is missing")
			}
			text, err := a.PolicyText(policyFile)
			if err != nil {
				return err
			}
			steps, err := a.recording(args[0])
			if err != nil {
				return err
			}
			if asRecorded {
				expect, err = recordedDenials(cmd, steps)
				if err != nil {
					return err
				}
			}
			e, err := engine.New(text, engine.Options{})
			if err != nil {
				return err
			}
			return a.simulate(cmd.Context(), e, steps, expect)
		},
	}
	c.Flags().StringVar(&policyFile, "policy", "", "the policy: a file, - or group:NAME")
	c.Flags().IntSliceVar(&expect, "expect-denied", nil, "numbers of the requests that must be denied, the first is 1")
	c.Flags().BoolVar(&asRecorded, "as-recorded", false, "expect the decisions that the recording tells")
	c.MarkFlagsMutuallyExclusive("expect-denied", "as-recorded")
	a.OutputFlag(c)
	return c
}

// recording reads recorded requests from a file or standard input.
func (a *App) recording(name string) ([]replay.Step, error) {
	data, err := console.ReadLimited(name, a.In, maxRecording)
	if err != nil {
		return nil, fmt.Errorf("reading recorded requests: %w", err)
	}
	return replay.Read(data)
}

// recordedDenials are the numbers of the steps that were denied when they were recorded.
func recordedDenials(cmd *cobra.Command, steps []replay.Step) ([]int, error) {
	var denied []int
	for i, s := range steps {
		switch s.Decision {
		case replay.Allow:
		case replay.Deny:
			denied = append(denied, i+1)
		default:
			return nil, console.Usage(cmd, fmt.Sprintf("--as-recorded: request %d does not tell how it was decided", i+1))
		}
	}
	return denied, nil
}

func (a *App) simulate(ctx context.Context, e *engine.Engine, steps []replay.Step, expect []int) error {
	v := simulateAnswer{Schema: "cofferdam.dev/policy-simulation/v1", AsExpected: true}
	for i, r := range replay.Run(ctx, e, steps) {
		s := simulateStep{
			Step: i + 1, Name: string(r.Step.Name), Allowed: r.Allowed(), Reasons: r.Decision.Reasons, Dropped: r.Dropped,
			Stdio: r.Decision.AllowStdio, Recorded: r.Step.Decision,
		}
		if s.Allowed {
			v.Allowed++
		} else {
			v.Denied++
		}
		v.AsExpected = v.AsExpected && s.Allowed != slices.Contains(expect, s.Step)
		v.Steps = append(v.Steps, s)
	}
	for _, n := range expect {
		v.AsExpected = v.AsExpected && n >= 1 && n <= len(steps)
	}
	err := a.Answer(v, func(w io.Writer) error { return a.showSimulation(w, v) })
	if err != nil {
		return err
	}
	if !v.AsExpected {
		return console.Quiet(console.ExitRefused)
	}
	return nil
}

func (a *App) showSimulation(w io.Writer, v simulateAnswer) error {
	s := a.Style(a.Out)
	width := len(strconv.Itoa(len(v.Steps)))
	for _, x := range v.Steps {
		answer, rest := s.Good("allow"), ""
		if !x.Allowed {
			answer, rest = s.Bad("deny "), strings.Join(x.Reasons, "; ")
		} else if len(x.Dropped) > 0 {
			rest = "dropped: " + strings.Join(x.Dropped, ", ")
		}
		if x.Recorded != "" && x.Allowed != (x.Recorded == replay.Allow) {
			rest = strings.TrimPrefix(rest+"; recorded: "+string(x.Recorded), "; ")
		}
		line := strings.TrimRight(fmt.Sprintf("%*d  %s  %-24s  %s", width, x.Step, answer, plain.Printable(x.Name), plain.Printable(rest)), " ")
		_, err := fmt.Fprintln(w, line)
		if err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d allowed, %d denied\n", v.Allowed, v.Denied)
	return err
}
