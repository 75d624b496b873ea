// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/spec"
)

// ContainerFlags is what `run` and `policy generate` are told about an image: what its policy is made of.
type ContainerFlags struct {
	Image   string
	Command []string

	env, envFiles  []string
	user, workdir  string
	entrypoint     string
	allowExec      []string
	Debug, noStdio bool
	Terminal       bool
	PlainHTTP      bool
	Egress         []string
}

// Flags are those that shape a policy. `run` and `policy generate` share them, so that one can announce what the other will do.
func (o *ContainerFlags) Flags(c *cobra.Command) {
	f := c.Flags()
	f.SetInterspersed(false) // what follows the image belongs to the command
	f.StringArrayVarP(&o.env, "env", "e", nil, "set an environment variable: NAME=VALUE, or NAME to take ours")
	f.StringArrayVar(&o.envFiles, "env-file", nil, "file of environment variables, one a line")
	f.StringVarP(&o.user, "user", "u", "", "user[:group], names or numbers (default: the image's)")
	f.StringVarP(&o.workdir, "workdir", "w", "", "working directory (default: the image's)")
	f.StringVar(&o.entrypoint, "entrypoint", "", "program to run in place of the image's entrypoint; empty for none")
	f.StringArrayVar(&o.allowExec, "allow-exec", nil, `allow a further command, words as in a shell: "redis-cli ping"`)
	f.BoolVar(&o.Debug, "debug", false, "allow shells and debugging requests; not for production")
	f.BoolVar(&o.noStdio, "no-stdio", false, "the policy keeps the container's output from the host")
	f.BoolVarP(&o.Terminal, "tty", "t", false, "give the process a terminal")
	f.BoolVar(&o.PlainHTTP, "plain-http", false, "speak to the image's registry without TLS")
	f.StringArrayVar(&o.Egress, "egress", nil, "connect to this alone, as the policy then says: PREFIX[:PORT,...][/tcp|/udp], or none")
}

// Group makes a group of the one container. More is what a policy does not depend on.
func (o *ContainerFlags) Group(cmd *cobra.Command, a *App, more spec.RunFlags) (*spec.Group, error) {
	if o.Terminal && o.noStdio {
		return nil, console.Usage(cmd, "-t and --no-stdio exclude each other: a terminal is standard output")
	}
	fileEnv, err := readEnvFiles(o.envFiles)
	if err != nil {
		return nil, err
	}
	f := more
	f.Image, f.Command, f.Env, f.LookupEnv = o.Image, o.Command, slices.Concat(fileEnv, o.env), a.LookupEnv
	f.User, f.WorkingDir, f.AllowExec = o.user, o.workdir, o.allowExec
	f.Debug, f.NoStdio, f.Terminal = o.Debug, o.noStdio, o.Terminal
	if cmd.Flags().Changed("entrypoint") {
		f.Entrypoint = &o.entrypoint
	}
	g, err := spec.FromRunFlags(f)
	if err != nil {
		return nil, console.Usage(cmd, err.Error())
	}
	if len(o.Egress) > 0 {
		g.Egress, err = spec.ParseEgressList(strings.Join(o.Egress, " "))
		if err != nil {
			return nil, console.Usage(cmd, "--egress: "+err.Error())
		}
	}
	g.Containers[0].Name = "" // a policy is the same whatever its group is called
	return g, nil
}
