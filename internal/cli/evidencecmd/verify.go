// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/groupcmd"
	"cofferdam.dev/internal/cli/imagecmd"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/trust"
	"cofferdam.dev/policy"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/appraisal"
)

const (
	// LocalRoot names this installation's own simulated root.
	LocalRoot = trust.Local
	// measurementSize is that of an SNP launch digest.
	measurementSize = 48
)

// verifyOptions is what a relying party says.
type verifyOptions struct {
	policyFiles, policyHashes []string
	measurements              []string
	nonce, runtimeData        string
	source                    string
	simulatedRoot             string
	at                        string
	reportData                []string
	collateral                CollateralOptions
	evidence                  sourceOptions
	appraisal                 policyOptions

	// notes say on what the verdict will rest besides the flags. They are told once there is something to judge: an
	// error comes first, and alone.
	notes []string
}

func (o *verifyOptions) note(format string, args ...any) {
	o.notes = append(o.notes, fmt.Sprintf(format, args...))
}

// VerifyCommand returns `verify` with all that is below it.
func (a *App) VerifyCommand() *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify FILE|URL|-|group:NAME",
		Short: "Appraise evidence",
		Long: `Appraise evidence and show every check, with what was expected and what was found.

You say what you trust: the policy (by text or hash), the launch measurement, the nonce
that you chose, and the root. What you leave out is refused, with three exceptions that are
said on standard error: the measurement is that of this installation's guest image; the
roots of AMD and Intel are trusted; and for group:NAME fresh evidence is fetched with a
nonce made here.

A simulated root is no hardware: it is accepted only if --simulated-root names it, local for
this installation's own or a name that ` + "`cofferdam trust add`" + ` gave it, and the verdict says
"simulated".

All that can be asked of machines and guests is said in an appraisal policy, a file:
--appraisal-policy. Evidence of Intel's processors and of Azure's VMs needs one. Not to be
confused: --policy is the execution policy that the guest was launched with. With
--bundle-out, evidence, collateral, policy and verdict are kept in one signed file.

Nothing is fetched unless you ask for it. Certificates, revocation lists and TCB statements
that are not in the evidence come from --collateral (a directory, or a file that quote tools
write), and with --fetch from the vendors' servers, which then learn which chips you meet.
What was fetched is kept and used again until its next update. None of it is trusted before
it is verified.

A URL is fetched by HTTPS; that proves nothing about the evidence. A bare report or quote is
read with --type, and its report data are then named by --report-data in place of a nonce.

The exit code is 0 for accepted, 3 for refused, 4 for undecided.`,
		Example: `  cofferdam verify evidence.json --policy policy.rego --nonce 0011223344556677
  cofferdam verify group:db --policy policy.rego --simulated-root local
  cofferdam verify evidence.json --policy policy.rego --nonce HEX --measurement HEX --fetch
  cofferdam verify https://db.example/evidence --appraisal-policy appraisal.yaml --nonce HEX
  cofferdam verify quote.bin --type tdx --collateral tdx.json --appraisal-policy td.yaml
  cofferdam verify evidence.json --appraisal-policy appraisal.yaml --nonce HEX \
      --bundle-out appraisal.bundle --bundle-key key.pem
  cofferdam verify - --policy-hash HEX --measurement HEX --nonce HEX -o json < evidence.json`,
		Args: console.Arguments(1, 1, "one piece of evidence"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.verify(ctx, cmd, &o, args[0])
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.policyFiles, "policy", nil, "trust this policy: a file with its text (or group:NAME, the host's word)")
	f.StringArrayVar(&o.policyHashes, "policy-hash", nil, "trust the policy with this SHA-256, in hexadecimal")
	f.StringArrayVar(&o.measurements, "measurement", nil, "trust this launch measurement, in hexadecimal (default: the current guest image's)")
	f.StringVar(&o.nonce, "nonce", "", "the nonce that you chose, in hexadecimal")
	f.StringVar(&o.runtimeData, "runtime-data", "", "file of the runtime data that the report must commit to (default: whatever the evidence holds)")
	f.StringVar(&o.source, "source", string(evidence.SourceHost), "on whose behalf the report must have been made: host or workload")
	f.StringVar(&o.simulatedRoot, "simulated-root", "", "accept this simulated root: local, a name that was added, or a PEM file")
	f.StringVar(&o.at, "at", "", "judge at this time (RFC 3339) instead of now")
	f.StringArrayVar(&o.reportData, "report-data", nil, "trust these report data, in hexadecimal: for evidence that was not made for a nonce")
	f.StringArrayVar(&o.collateral.Dirs, "collateral", nil, "look for collateral in this directory, or this file")
	f.BoolVar(&o.collateral.Fetch, "fetch", false, "fetch missing collateral from the vendors' servers")
	o.collateral.serverFlags(c)
	o.evidence.flags(c)
	o.appraisal.flags(c)
	a.OutputFlag(c)
	c.AddCommand(a.verifyBundleCommand())
	return c
}

func (a *App) verify(ctx context.Context, cmd *cobra.Command, o *verifyOptions, name string) error {
	r, err := a.request(cmd, o)
	if err != nil {
		return err
	}
	appraise, err := a.judge(ctx, cmd, o)
	if err != nil {
		return err
	}
	doc, err := a.evidence(ctx, cmd, o, name, &r)
	if err != nil {
		return err
	}
	for _, n := range o.notes {
		a.Say("%s", n)
	}
	asked := noteOn(r.Collateral)
	if asked != nil {
		r.Collateral = asked
	}
	v, err := appraise(ctx, doc, r)
	if err != nil {
		return err
	}
	if v.Outcome == verify.Undecided {
		embedded := func(name string) bool { return len(doc.Collateral[name].Body) > 0 }
		for _, f := range asked.failures(embedded) {
			a.Say("collateral: %s", f)
		}
	}
	err = a.Answer(v, func(w io.Writer) error { return renderVerdict(w, v, a.Style(a.Out).On) })
	if err != nil {
		return err
	}
	return outcomeCode(v.Outcome)
}

// outcomeCode ends the command with the exit code of an outcome.
func outcomeCode(o verify.Outcome) error {
	switch o {
	case verify.Accepted:
		return nil
	case verify.Undecided:
		return console.Quiet(console.ExitUndecided)
	}
	return console.Quiet(console.ExitRefused)
}

func renderVerdict(w io.Writer, v *verify.Verdict, color bool) error {
	var b strings.Builder
	err := verify.Render(&b, v, color)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, plain.Drawing(b.String()))
	return err
}

// request turns the flags into what the relying party knows about this one appraisal.
func (a *App) request(cmd *cobra.Command, o *verifyOptions) (appraisal.Request, error) {
	r := appraisal.Request{Now: a.Now()}
	var err error
	if o.nonce != "" {
		r.Nonce, err = groupcmd.ParseNonce(cmd, o.nonce)
		if err != nil {
			return r, err
		}
	}
	if o.at != "" {
		r.Now, err = time.Parse(time.RFC3339, o.at)
		if err != nil {
			return r, console.Usage(cmd, "--at: "+err.Error())
		}
	}
	r.ReportData, err = parseReportData(cmd, o.reportData)
	if err != nil {
		return r, err
	}
	r.RuntimeData, err = groupcmd.ReadRuntimeData(o.runtimeData)
	if err != nil {
		return r, err
	}
	r.Collateral, err = a.CollateralSource(cmd, &o.collateral)
	return r, err
}

// judge returns how evidence is judged: by an appraisal policy, or by what the flags trust.
func (a *App) judge(ctx context.Context, cmd *cobra.Command, o *verifyOptions) (judge, error) {
	if err := o.appraisal.check(cmd); err != nil {
		return nil, err
	}
	if o.appraisal.file != "" {
		known, err := a.SimulatedRoots(o.simulatedRoot)
		if err != nil {
			return nil, err
		}
		appraise, err := a.byPolicy(ctx, &o.appraisal)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, doc *evidence.Document, r appraisal.Request) (*verify.Verdict, error) {
			r.SimulatedRoots = known
			return appraise(ctx, doc, r)
		}, nil
	}
	opts, err := a.reliance(cmd, o)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, doc *evidence.Document, r appraisal.Request) (*verify.Verdict, error) {
		opts.Now, opts.Nonce, opts.RuntimeData, opts.ReportData, opts.Collateral = r.Now, r.Nonce, r.RuntimeData, r.ReportData, r.Collateral
		if len(r.ReportData) > 0 && len(r.Nonce) == 0 && !cmd.Flags().Changed("source") {
			opts.Source = "" // such report data say nothing of one
		}
		return verify.Appraise(ctx, doc, opts), nil
	}, nil
}

// reliance turns the flags into what the verifier trusts.
func (a *App) reliance(cmd *cobra.Command, o *verifyOptions) (verify.Options, error) {
	opts := verify.Options{
		Roots: append(anchor.AMDRoots(), anchor.IntelRoot()), Source: evidence.Source(o.source),
		SNP: amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()},
	}
	err := opts.Source.Validate()
	if err != nil {
		return opts, console.Usage(cmd, "--source: "+err.Error())
	}
	opts.HostData, err = a.trustedPolicies(cmd, o)
	if err != nil {
		return opts, err
	}
	opts.Measurements, err = a.trustedMeasurements(cmd, o)
	if err != nil {
		return opts, err
	}
	if o.simulatedRoot != "" {
		root, err := a.ReadSimulatedRoot(o.simulatedRoot)
		if err != nil {
			return opts, err
		}
		opts.Roots, opts.AllowSimulated = append(opts.Roots, root), true
	}
	return opts, nil
}

func (a *App) trustedPolicies(cmd *cobra.Command, o *verifyOptions) ([][32]byte, error) {
	var list [][32]byte
	for _, name := range o.policyFiles {
		text, err := a.policy.PolicyText(name)
		if err != nil {
			return nil, err
		}
		if len(text) == 0 {
			return nil, console.Fixed(fmt.Errorf("%s is empty: nothing runs under such a policy", name), "cofferdam policy generate with the image and flags of the run")
		}
		if strings.HasPrefix(name, console.GroupPrefix) {
			o.note("policy: taken from this machine's record of %s; whoever runs the machine could have changed it", name)
		}
		list = append(list, policy.Hash(text))
	}
	for _, s := range o.policyHashes {
		h, err := hex.DecodeString(s)
		if err != nil || len(h) != 32 {
			return nil, console.Usage(cmd, fmt.Sprintf("--policy-hash is %q; want 64 hexadecimal digits", s))
		}
		list = append(list, [32]byte(h))
	}
	if len(list) == 0 {
		o.note("policy: none is trusted; name one with --policy or --policy-hash (`cofferdam policy generate --hash` with the image and flags of the run)")
	}
	return list, nil
}

func (a *App) trustedMeasurements(cmd *cobra.Command, o *verifyOptions) ([][]byte, error) {
	var list [][]byte
	for _, s := range o.measurements {
		m, err := hex.DecodeString(s)
		if err != nil || len(m) != measurementSize {
			return nil, console.Usage(cmd, fmt.Sprintf("--measurement is %q; want %d hexadecimal digits", s, 2*measurementSize))
		}
		list = append(list, m)
	}
	if len(list) > 0 {
		return list, nil
	}
	img, err := guestimage.Current(a.Home)
	if errors.Is(err, guestimage.ErrNoImage) {
		o.note("measurement: none is trusted; name one with --measurement (`cofferdam guest measure` where the image was built)")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err = simulatedReferences(img)
	if err != nil {
		return nil, err
	}
	d := img.Digest()
	o.note("measurement: that of this installation's guest image %x, with 1 to %d vCPUs, simulated", d[:6], imagecmd.MaxCPUs)
	return list, nil
}

// simulatedReferences are the launch digests of all shapes that `run` makes of a guest image under the simulated TEE:
// each number of processors, with the kernel form of either accelerator.
func simulatedReferences(img *guestimage.Image) ([][]byte, error) {
	var list [][]byte
	for cpus := 1; cpus <= imagecmd.MaxCPUs; cpus++ {
		for _, packed := range []bool{false, true} {
			m, err := img.Measure(guestimage.MeasureOptions{TEE: guestimage.Simulated, VCPUs: cpus, Packed: packed})
			if err != nil {
				return nil, err
			}
			d, err := hex.DecodeString(m.Digest)
			if err != nil {
				return nil, fmt.Errorf("measuring the guest image: %w", err)
			}
			list = append(list, d)
		}
	}
	return list, nil
}

// ReadSimulatedRoot finds a root that is trusted as a simulated one and as nothing else: this installation's own, one
// that `trust add` knows by the name, or one in a file.
func (a *App) ReadSimulatedRoot(name string) (anchor.Root, error) {
	path := name
	if name == LocalRoot {
		path = simsp.RootCertificatePath(filepath.Join(a.Home, "simsp"))
	} else {
		known, err := trust.Open(a.Home).Find(name)
		if err == nil {
			return known.Anchor()
		}
		if !errors.Is(err, trust.ErrUnknown) {
			return anchor.Root{}, err
		}
	}
	cert, err := readRootFile(path, nil)
	switch {
	case errors.Is(err, os.ErrNotExist) && name == LocalRoot:
		return anchor.Root{}, console.Fixed(fmt.Errorf("this installation has no simulated root yet: no group was ever run in %s", a.Home), "cofferdam run, or --home")
	case errors.Is(err, os.ErrNotExist) && trust.CheckName(name) == nil:
		return anchor.Root{}, console.Fixed(fmt.Errorf("no trusted root has the name %q, and there is no such file", name), "cofferdam trust list")
	case err != nil:
		return anchor.Root{}, err
	}
	return anchor.NewRoot(anchor.Simulated, name, cert)
}
