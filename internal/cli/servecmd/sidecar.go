// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/sidecar/program"
)

// SidecarCommand returns `sidecar` with all that is below it.
func (a *App) SidecarCommand() *cobra.Command {
	c := console.Noun("sidecar", "Be a sidecar of a container group", a.sidecarSKRCommand(), a.sidecarEncFSCommand())
	// Containers often have no HOME, and a sidecar keeps no state.
	c.PersistentPreRunE = func(*cobra.Command, []string) error { return nil }
	return c
}

func (a *App) sidecarSKRCommand() *cobra.Command {
	return a.sidecarRole(&program.SKR{}, &cobra.Command{
		Use:   "skr [CONFIGURATION [PORT]]",
		Short: "Give the containers of a group evidence, tokens and released keys",
		Long: `Be the release sidecar of a container group: a small server on the loopback address, from
which the other containers of the group get evidence of the group (/attest/raw,
/attest/combined), an attestation service's token (/attest/maa), keys that a vault releases
to proven code alone (/key/release), and secrets that such a key wraps (/unwrap). The gRPC
server is a key provider for encrypted images. Protocols, environment and flags are those
of the sidecar that container groups on Azure use, so that applications run unchanged.
The image that ` + "`make images`" + ` builds has it as a small program, /skr.sh.

Configuration is its JSON, as it is or in base64. The environment variables SkrSideCarArgs,
Port, ServerType, LogLevel and LogFile say what flags and arguments do not. Access tokens
for the vault come from the request, or from the group's identity: AZURE_CLIENT_ID and
AZURE_TENANT_ID with AZURE_FEDERATED_TOKEN_FILE or AZURE_CLIENT_SECRET, IDENTITY_ENDPOINT,
or the machine's metadata service.

Reports come from the agent's socket or the processor's device. Where there is none the
sidecar ends with an error: nothing is ever made up.

With --infile a secret is wrapped for the key provider instead, and nothing is served.`,
		Example: `  cofferdam sidecar skr
  cofferdam sidecar skr --server-type both --port 8081 --authorities /run/ca.pem
  cofferdam sidecar skr --infile layer.key --keypath keys/db --outfile annotation.json`,
		Args: console.Arguments(0, 2, "at most a configuration and a port"),
	})
}

// sidecarProgram is a sidecar as a program.
type sidecarProgram interface {
	Flags(f *flag.FlagSet)
	Complete(args []string, lookup func(string) (string, bool)) error
	Run(ctx context.Context, p program.Process) error
}

// sidecarRole gives a command the flags of a sidecar, and has it be that sidecar.
func (a *App) sidecarRole(o sidecarProgram, c *cobra.Command) *cobra.Command {
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := console.Interruptible(cmd.Context())
		defer stop()
		err := o.Complete(args, a.LookupEnv)
		if err == nil {
			err = o.Run(ctx, program.Process{Out: a.Out, Err: a.Err, LookupEnv: a.LookupEnv})
		}
		return sidecarFailure(cmd, err)
	}
	f := flag.NewFlagSet(c.Name(), flag.ContinueOnError)
	o.Flags(f)
	c.Flags().AddGoFlagSet(f)
	return c
}

// sidecarFailure puts what a person needs beside a sidecar's error.
func sidecarFailure(cmd *cobra.Command, err error) error {
	if wrong, ok := errors.AsType[*program.UsageError](err); ok {
		return console.Usage(cmd, wrong.Message)
	}
	unavailable, ok := errors.AsType[*attest.UnavailableError](err)
	if !ok {
		return err
	}
	f := &console.Failure{Code: console.ExitError, Err: errors.New("this container has no source of attestation reports"),
		Fix: "run it in a container of a group, which has " + attest.SocketPath + ", or in a confidential VM as a user who may open the device"}
	for _, t := range unavailable.Attempts {
		f.Details = append(f.Details, fmt.Sprintf("%s: %v", t.Kind, t.Err))
	}
	return f
}

// SidecarArguments turns the arguments of the original release sidecar into ours: the flags of `cofferdam sidecar skr`, and
// those of a program that is called by its name.
func SidecarArguments(called string, args []string) []string {
	switch {
	case program.Called(called):
	case len(args) > 0 && args[0] == "sidecar":
		called, args = "", args[1:]
	default:
		return args
	}
	name, rest := program.Arguments(called, args)
	if name == "" {
		return slices.Concat([]string{"sidecar"}, rest)
	}
	return slices.Concat([]string{"sidecar", name}, rest)
}
