// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"flag"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/sidecar/program"
)

func (a *app) sidecarEncFSCommand() *cobra.Command {
	o := &program.EncFS{}
	c := &cobra.Command{
		Use:   "encfs [CONFIGURATION]",
		Short: "Mount encrypted volumes for the containers of a group",
		Long: `Be the filesystem sidecar of a container group: have keys released, open encrypted volumes
on remote storage with them, and mount the filesystems in them in a directory that other
containers of the group share. It runs in a privileged container. Configuration and
environment are those of the sidecar that container groups on Azure use; what is ours
beside it stands in a member x-cofferdam of each filesystem: the volume's descriptor, which
keeps the storage from choosing how a volume is opened.

Configuration is its JSON, as it is or in base64. The environment variables
EncfsSideCarArgs, EncfsPort, LogLevel and LogFile say what flags and arguments do not. The
word "mounted" is printed when all is mounted; with --port, /status says where each
filesystem stands, and /readyz whether all are mounted. On SIGTERM everything is unmounted,
and what was written is durable.`,
		Example: `  cofferdam sidecar encfs
  cofferdam sidecar encfs --port 8091 --authorities /run/ca.pem`,
		Args: arguments(0, 1, "at most a configuration"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			err := o.Complete(args, a.LookupEnv)
			if err == nil {
				err = o.Run(ctx, program.Process{Out: a.Out, Err: a.Err, LookupEnv: a.LookupEnv})
			}
			return sidecarFailure(cmd, err)
		},
	}
	f := flag.NewFlagSet(c.Name(), flag.ContinueOnError)
	o.Flags(f)
	c.Flags().AddGoFlagSet(f)
	return c
}
