// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/groupcmd"
)

// eventLogPath is where Linux has the event log of a TD: the area of the ACPI table CCEL.
const eventLogPath = "/sys/firmware/acpi/tables/data/CCEL"

// autoProvider tries every source of reports that a machine can have.
const autoProvider = "auto"

// providers are the sources by the names that people give them.
func providers() map[string][]string {
	return map[string][]string{
		autoProvider: attest.Kinds(), "socket": {attest.KindSocket}, "configfs": {attest.KindConfigfs}, "tdx": {attest.KindTDX},
		"sev-guest": {attest.KindSEVGuest}, "sev": {attest.KindSEV}, "sgx": {attest.KindSGX},
	}
}

// MachineAttestCommand returns `attest` with all that is below it.
func (a *App) MachineAttestCommand() *cobra.Command {
	var q groupcmd.EvidenceQuestion
	var source string
	c := &cobra.Command{
		Use:   "attest [group:NAME] --nonce HEX|random",
		Short: "Get evidence of the machine that this runs in, or of a group",
		Long: `Ask the processor of the confidential VM or enclave that this program runs in for evidence:
a report over your nonce and data, signed by the hardware, and what belongs to it. It is
printed as JSON, for ` + "`cofferdam verify`" + `.

With group:NAME the guest of a group is asked instead, as ` + "`cofferdam group attest`" + ` does.

Sources are tried in this order: the agent's socket, which every container of a group has at
/run/cofferdam/evidence.sock; configfs-tsm of Linux 6.7 and later (SEV-SNP, TDX);
/dev/tdx_guest; /dev/sev-guest; /dev/sev of the 5.x kernels; /dev/attestation of Gramine
(SGX). Where there is none, that is an error: nothing is ever made up.

From the agent's socket, the policy in force comes with it. In a container of an Azure
group, the policy, the endorsement and the certificates that the host put into
$UVM_SECURITY_CONTEXT_DIR do.`,
		Example: `  cofferdam attest --nonce 00112233445566778899aabbccddeeff > evidence.json
  cofferdam attest --nonce random --runtime-data key.pub --provider sev-guest > new.json
  cofferdam attest group:db --nonce random > evidence.json`,
		Args:              console.Arguments(0, 1, "nothing, or group:NAME"),
		ValidArgsFunction: a.completeGroupPrefix,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.group.AnswerWith(cmd, &q, func(ctx context.Context) ([]byte, error) {
				if len(args) == 1 {
					return a.attestNamed(ctx, cmd, args[0], q.Nonce, q.RuntimeData)
				}
				return a.attestMachine(ctx, cmd, source, q.Nonce, q.RuntimeData)
			})
		},
	}
	q.Flags(c)
	c.Flags().StringVar(&source, "provider", autoProvider, "where to get the report: auto, socket, configfs, tdx, sev-guest, sev or sgx")
	return c
}

// completeGroupPrefix completes group:NAME.
func (a *App) completeGroupPrefix(cmd *cobra.Command, args []string, to string) ([]cobra.Completion, cobra.ShellCompDirective) {
	names, directive := a.CompleteGroups(cmd, args, strings.TrimPrefix(to, console.GroupPrefix))
	for i := range names {
		names[i] = console.GroupPrefix + names[i]
	}
	return names, directive
}

// attestNamed asks the guest of a group.
func (a *App) attestNamed(ctx context.Context, cmd *cobra.Command, name string, nonce, data []byte) ([]byte, error) {
	ref, ok := strings.CutPrefix(name, console.GroupPrefix)
	switch {
	case !ok:
		return nil, console.Usage(cmd, fmt.Sprintf("%q is no group; want group:NAME, or nothing for this machine", name))
	case cmd.Flags().Changed("provider"):
		return nil, console.Usage(cmd, "--provider is about this machine; the guest of a group knows where its reports come from")
	}
	return a.group.Attest(ctx, ref, nonce, data)
}

// attestMachine asks the processor that this program runs on. It speaks for itself, so it is the workload.
func (a *App) attestMachine(ctx context.Context, cmd *cobra.Command, source string, nonce, data []byte) ([]byte, error) {
	kinds, ok := providers()[source]
	if !ok {
		return nil, console.Usage(cmd, fmt.Sprintf("--provider is %q; want auto, socket, configfs, tdx, sev-guest, sev or sgx", source))
	}
	p, err := attest.Open(ctx, kinds...)
	var unavailable *attest.UnavailableError
	if errors.As(err, &unavailable) {
		f := &console.Failure{Code: console.ExitError, Err: errors.New("this machine has no source of attestation reports"),
			Fix: "run it inside of a confidential VM or enclave, as a user who may open the device; for a group on this machine: cofferdam attest group:NAME"}
		for _, t := range unavailable.Attempts {
			f.Details = append(f.Details, fmt.Sprintf("%s: %v", t.Kind, t.Err))
		}
		return nil, f
	}
	if err != nil {
		return nil, err
	}
	if socket, ok := p.(*attest.Socket); ok {
		return a.attestContainer(ctx, socket, nonce, data)
	}
	r, err := p.Report(ctx, evidence.ReportData(evidence.SourceWorkload, nonce, data))
	if err != nil {
		return nil, err
	}
	a.Say("source: %s", p.Kind())
	return a.document(r, nonce, data)
}

// attestContainer asks the agent of the guest whose container this runs in.
func (a *App) attestContainer(ctx context.Context, socket *attest.Socket, nonce, data []byte) ([]byte, error) {
	d, err := socket.Evidence(ctx, nonce, data)
	if err != nil {
		return nil, err
	}
	a.Say("source: %s", socket.Kind())
	d.Policy, err = socket.Policy()
	if err != nil {
		a.Say("policy: left out, because %v", err)
	}
	b, err := d.Marshal()
	if err != nil {
		return nil, fmt.Errorf("making the evidence document: %w", err)
	}
	return b, nil
}

// document puts a report together with what belongs to it.
func (a *App) document(r *attest.Result, nonce, data []byte) ([]byte, error) {
	d, err := r.Document(evidence.SourceWorkload, nonce, data)
	if err != nil {
		return nil, err
	}
	a.hostContext(d)
	if r.Type == attest.TypeTDX {
		log, err := console.ReadLimited(eventLogPath, nil, evidence.MaxEventLogSize)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			a.Say("event log: left out, because %v", err)
		default:
			d.EventLog = log
		}
	}
	b, err := d.Marshal()
	if err != nil {
		return nil, fmt.Errorf("making the evidence document: %w", err)
	}
	return b, nil
}
