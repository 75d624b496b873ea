// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/appraisal"
	"cofferdam.dev/verify/bundle"
	"cofferdam.dev/verify/check"
)

// bundleOptions say who is trusted to have made a bundle, and how it is judged again.
type bundleOptions struct {
	keys          []string
	unverified    bool
	at            string
	policy        string
	simulatedRoot string
}

// The times of appraisal with a name.
const (
	atRecorded = "recorded"
	atNow      = "now"
)

func (a *App) verifyBundleCommand() *cobra.Command {
	o := bundleOptions{}
	c := &cobra.Command{
		Use:   "bundle FILE|-",
		Short: "Appraise again what an evidence bundle holds",
		Long: `Appraise again what an evidence bundle holds: evidence, collateral and policy, with nothing
else and without a network.

The bundle must be signed by a key that you trust. Its recorded verdict is compared and not
believed: when the same does not come out again, the bundle is refused. Then the verdict of
the time that you chose follows, and what would come out today.

The exit code is 0 when the verdict is accepted and the recorded one came out again, 3 when
something is refused, 4 for undecided.`,
		Example: `  cofferdam verify bundle appraisal.bundle --key appraiser.pem
  cofferdam verify bundle appraisal.bundle --key appraiser.pem --at now
  cofferdam verify bundle appraisal.bundle --key appraiser.pem --at 2027-01-01T00:00:00Z`,
		Args: console.Arguments(1, 1, "one bundle"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.verifyBundle(ctx, cmd, &o, args[0])
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.keys, "key", nil, "trust bundles that the key in this file signed (public key or certificate, PEM)")
	f.BoolVar(&o.unverified, "insecure-unverified", false, "read the bundle without verifying who made it")
	f.StringVar(&o.at, "at", atRecorded, "judge at this time: recorded, now, or a time (RFC 3339)")
	f.StringVar(&o.policy, "appraisal-policy", "", "judge by the policy in this file instead of the recorded one")
	f.StringVar(&o.simulatedRoot, "simulated-root", "", "accept this simulated root: local, a name that was added, or a PEM file")
	a.OutputFlag(c)
	return c
}

// bundleAnswer is the document behind `verify bundle -o json`.
type bundleAnswer struct {
	Schema string `json:"schema"`
	// Signer is the key that signed, and Verified whether it is one that was trusted.
	Signer   string `json:"signer,omitempty"`
	Verified bool   `json:"verified"`
	// Recorded is the recorded outcome, and Reproduced whether it came out again.
	Recorded   verify.Outcome `json:"recorded"`
	RecordedAt time.Time      `json:"recordedAt"`
	Reproduced bool           `json:"reproduced"`
	// Verdict is that of the time that was asked for, Change how it differs from the recorded one.
	Verdict *verify.Verdict  `json:"verdict"`
	Change  appraisal.Change `json:"change"`
	// Today is the outcome of now, and OpenToday which checks do not pass any more.
	Today     verify.Outcome `json:"today"`
	OpenToday []check.Check  `json:"openToday,omitempty"`
}

func (a *App) verifyBundle(ctx context.Context, cmd *cobra.Command, o *bundleOptions, name string) error {
	b, err := a.openBundle(cmd, o.keys, o.unverified, name)
	if err != nil {
		return err
	}
	options, err := a.bundleJudge(ctx, cmd, o)
	if err != nil {
		return err
	}
	v, err := a.rejudge(ctx, b, options)
	if err != nil {
		return err
	}
	v.Verified = !o.unverified
	if err = a.Answer(v, func(w io.Writer) error { return a.showBundle(w, v) }); err != nil {
		return err
	}
	if !v.Reproduced {
		return console.Quiet(console.ExitRefused)
	}
	return outcomeCode(v.Verdict.Outcome)
}

// openBundle reads a bundle. Who is trusted to have made it must be said.
func (a *App) openBundle(cmd *cobra.Command, keyFiles []string, unverified bool, name string) (*bundle.Bundle, error) {
	if (len(keyFiles) == 0) != unverified {
		return nil, console.Usage(cmd, "say who may have made the bundle: either --key FILE, or --insecure-unverified for anybody")
	}
	var keys []*ecdsa.PublicKey
	for _, file := range keyFiles {
		text, err := console.ReadLimited(file, nil, console.MaxPEM)
		if err != nil {
			return nil, fmt.Errorf("reading a key: %w", err)
		}
		key, err := bundle.ParsePublicKey(text)
		if err != nil {
			return nil, console.Fixed(fmt.Errorf("%s: %w", file, err), "openssl pkey -in PRIVATE -pubout")
		}
		keys = append(keys, key)
	}
	data, err := console.ReadLimited(name, a.In, bundle.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading the bundle: %w", err)
	}
	var b *bundle.Bundle
	if unverified {
		b, err = bundle.OpenInsecure(data)
	} else {
		b, err = bundle.Open(data, keys...)
	}
	if err != nil {
		f := &console.Failure{Code: console.ExitRefused, Err: err}
		if errors.Is(err, bundle.ErrUnsigned) {
			f.Fix = "--insecure-unverified, if whoever sent it is trusted otherwise"
		}
		return nil, f
	}
	return b, nil
}

func (a *App) bundleJudge(ctx context.Context, cmd *cobra.Command, o *bundleOptions) (bundle.Options, error) {
	var options bundle.Options
	var err error
	switch o.at {
	case atRecorded:
	case atNow:
		options.At = a.Now()
	default:
		if options.At, err = time.Parse(time.RFC3339, o.at); err != nil {
			return options, console.Usage(cmd, "--at is neither recorded nor now nor a time: "+err.Error())
		}
	}
	if o.policy != "" {
		if options.Appraiser, err = a.ReadAppraisalPolicy(ctx, o.policy); err != nil {
			return options, err
		}
	}
	if o.simulatedRoot != "" {
		root, err := a.ReadSimulatedRoot(o.simulatedRoot)
		if err != nil {
			return options, err
		}
		options.SimulatedRoots = append(options.SimulatedRoots, root)
	}
	return options, nil
}

// rejudge appraises at the recorded time by the recorded policy, then as was asked for, then as of today.
func (a *App) rejudge(ctx context.Context, b *bundle.Bundle, o bundle.Options) (*bundleAnswer, error) {
	v := &bundleAnswer{
		Schema: "cofferdam.dev/bundle-verdict/v1", Signer: b.Signer, Recorded: b.Verdict.Outcome, RecordedAt: b.Time,
	}
	_, again, err := b.Reverify(ctx, bundle.Options{SimulatedRoots: o.SimulatedRoots})
	if err != nil {
		return nil, err
	}
	v.Reproduced = !again.Changed() && len(again.Worse) == 0 && len(again.Better) == 0
	if v.Verdict, v.Change, err = b.Reverify(ctx, o); err != nil {
		return nil, err
	}
	o.At = a.Now()
	today, _, err := b.Reverify(ctx, o)
	if err != nil {
		return nil, err
	}
	v.Today, v.OpenToday = today.Outcome, today.Failures()
	return v, nil
}

func (a *App) showBundle(w io.Writer, v *bundleAnswer) error {
	s := a.Style(a.Out)
	signer := "verified, key " + v.Signer
	if !v.Verified {
		signer = s.Warn("NOT VERIFIED: policy, time and recorded verdict are those of whoever had the file last")
	}
	recorded := fmt.Sprintf("%s at %s", v.Recorded, v.RecordedAt.Format(time.RFC3339))
	if v.Reproduced {
		recorded += ", and comes out again"
	} else {
		recorded += s.Bad(", and does NOT come out again")
	}
	today := string(v.Today)
	for _, c := range v.OpenToday {
		today += fmt.Sprintf("\n             %s %s", c.Name, c.Code)
		if c.Expected != "" && c.Actual != "" {
			today += fmt.Sprintf(": expected %s, actual %s", clipped(plain.Printable(c.Expected)), clipped(plain.Printable(c.Actual)))
		}
	}
	if err := console.Facts(w, [2]string{"signature", signer}, [2]string{"recorded", recorded}, [2]string{"today", today}); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return renderVerdict(w, v.Verdict, s.On)
}

// clipped shortens a value for one line.
func clipped(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
