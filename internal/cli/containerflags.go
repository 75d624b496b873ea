// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"github.com/spf13/cobra"
)

// containerFlags is what `run` and `policy generate` are told about an image: what its policy is made of.
type containerFlags struct {
	image   string
	command []string

	env, envFiles  []string
	user, workdir  string
	entrypoint     string
	allowExec      []string
	debug, noStdio bool
	terminal       bool
	plainHTTP      bool
	egress         []string
}

// flags are those that shape a policy. `run` and `policy generate` share them, so that one can announce what the other will do.
func (o *containerFlags) flags(c *cobra.Command) {
	f := c.Flags()
	f.SetInterspersed(false) // what follows the image belongs to the command
	f.StringArrayVarP(&o.env, "env", "e", nil, "set an environment variable: NAME=VALUE, or NAME to take ours")
	f.StringArrayVar(&o.envFiles, "env-file", nil, "file of environment variables, one a line")
	f.StringVarP(&o.user, "user", "u", "", "user[:group], names or numbers (default: the image's)")
	f.StringVarP(&o.workdir, "workdir", "w", "", "working directory (default: the image's)")
	f.StringVar(&o.entrypoint, "entrypoint", "", "program to run in place of the image's entrypoint; empty for none")
	f.StringArrayVar(&o.allowExec, "allow-exec", nil, `allow a further command, words as in a shell: "redis-cli ping"`)
	f.BoolVar(&o.debug, "debug", false, "allow shells and debugging requests; not for production")
	f.BoolVar(&o.noStdio, "no-stdio", false, "the policy keeps the container's output from the host")
	f.BoolVarP(&o.terminal, "tty", "t", false, "give the process a terminal")
	f.BoolVar(&o.plainHTTP, "plain-http", false, "speak to the image's registry without TLS")
	f.StringArrayVar(&o.egress, "egress", nil, "connect to this alone, as the policy then says: PREFIX[:PORT,...][/tcp|/udp], or none")
}

// group makes a group of the one container. More is what a policy does not depend on.
func (o *containerFlags) group(cmd *cobra.Command, a *app, more spec.RunFlags) (*spec.Group, error) {
	if o.terminal && o.noStdio {
		return nil, usage(cmd, "-t and --no-stdio exclude each other: a terminal is standard output")
	}
	fileEnv, err := readEnvFiles(o.envFiles)
	if err != nil {
		return nil, err
	}
	f := more
	f.Image, f.Command, f.Env, f.LookupEnv = o.image, o.command, slices.Concat(fileEnv, o.env), a.LookupEnv
	f.User, f.WorkingDir, f.AllowExec = o.user, o.workdir, o.allowExec
	f.Debug, f.NoStdio, f.Terminal = o.debug, o.noStdio, o.terminal
	if cmd.Flags().Changed("entrypoint") {
		f.Entrypoint = &o.entrypoint
	}
	g, err := spec.FromRunFlags(f)
	if err != nil {
		return nil, usage(cmd, err.Error())
	}
	if len(o.egress) > 0 {
		g.Egress, err = spec.ParseEgressList(strings.Join(o.egress, " "))
		if err != nil {
			return nil, usage(cmd, "--egress: "+err.Error())
		}
	}
	g.Containers[0].Name = "" // a policy is the same whatever its group is called
	return g, nil
}
