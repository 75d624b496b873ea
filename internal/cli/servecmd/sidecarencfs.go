// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/sidecar/program"
)

func (a *App) sidecarEncFSCommand() *cobra.Command {
	return a.sidecarRole(&program.EncFS{}, &cobra.Command{
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
		Args: console.Arguments(0, 1, "at most a configuration"),
	})
}
