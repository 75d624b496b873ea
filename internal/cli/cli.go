// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of cofferdam: it reads what a person asks for, lets the other rooms do it, and says
// what came out.
//
// Standard output carries the answer and nothing else; everything said about the work goes to standard error. It
// trusts its caller with everything that the caller's own account may do, and the files below the state directory
// as much as that account. It takes no decision of its own about evidence or policies, never shows a secret that it
// was handed, and never calls a simulated processor anything else.
package cli

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/attestationcmd"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/evidencecmd"
	"cofferdam.dev/internal/cli/groupcmd"
	"cofferdam.dev/internal/cli/imagecmd"
	"cofferdam.dev/internal/cli/keycmd"
	"cofferdam.dev/internal/cli/policycmd"
	"cofferdam.dev/internal/cli/servecmd"
	"cofferdam.dev/internal/cli/volumecmd"
)

// Current is the process that runs.
func Current() console.Process {
	return console.Process{Args: servecmd.SidecarArguments(os.Args[0], os.Args[1:]), In: os.Stdin, Out: os.Stdout, Err: os.Stderr, LookupEnv: os.LookupEnv, Now: time.Now}
}

// Main runs one command and returns the exit code of the process.
func Main(ctx context.Context, p console.Process) int {
	a := newApp(&console.Console{Process: p})
	root := a.root()
	root.SetArgs(p.Args)
	err := root.ExecuteContext(ctx)
	return a.Finish(err)
}

// app is one invocation of the command line, with the rooms of its commands.
type app struct {
	*console.Console
	attestation *attestationcmd.App
	evidence    *evidencecmd.App
	group       *groupcmd.App
	image       *imagecmd.App
	keys        *keycmd.App
	policy      *policycmd.App
	serve       *servecmd.App
	volume      *volumecmd.App
}

func newApp(c *console.Console) *app {
	return &app{
		Console: c, attestation: attestationcmd.New(c), evidence: evidencecmd.New(c), group: groupcmd.New(c), image: imagecmd.New(c),
		keys: keycmd.New(c), policy: policycmd.New(c), serve: servecmd.New(c), volume: volumecmd.New(c),
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "cofferdam",
		Short: "Run unmodified containers where nobody has to trust the machine",
		Long: `cofferdam runs unmodified Linux containers inside a virtual machine that a secure
processor measures, under a policy that is bound to the measurement, with evidence
that anybody can check.

Start with ` + "`cofferdam doctor`" + `: it says what this machine can do.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          console.ParentRun,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetUsageTemplate(usageTemplate)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true
	f := root.PersistentFlags()
	f.StringVar(&a.Home, "home", "", "state directory (default $COFFERDAM_HOME, else cofferdam in the XDG data directory)")
	f.StringVar(&a.Color, "color", "auto", "colours: auto, always or never (NO_COLOR is honoured)")
	f.BoolVarP(&a.Verbose, "verbose", "v", false, "say more on standard error, one line for each step")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.CheckGlobals(cmd) }
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "prove", Title: "Prove:"},
		&cobra.Group{ID: "make", Title: "Make and look:"}, &cobra.Group{ID: "self", Title: "This installation:"})
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true}) // --help is enough
	for id, list := range a.commands() {
		for _, c := range list {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	root.AddCommand(a.group.SuperviseCommand())
	return root
}

// badValue is the flag library's message about a value; what follows it is meant for programmers.
var badValue = regexp.MustCompile(`^invalid argument ("(?s:.*)") for "(?:-[a-zA-Z], )?(--[a-z-]+)" flag: `)

// flagError says what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	m := badValue.FindStringSubmatch(err.Error())
	if m == nil {
		return console.Usage(cmd, err.Error())
	}
	want := "something else"
	if f := cmd.Flag(strings.TrimPrefix(m[2], "--")); f != nil {
		want = map[string]string{"int": "a whole number", "duration": "a duration such as 10s", "bool": "true or false"}[f.Value.Type()]
	}
	return console.Usage(cmd, fmt.Sprintf("%s is %s; want %s", m[2], m[1], want))
}

// usageTemplate is how every help ends.
const usageTemplate = `Usage:
{{- if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND
{{- $c := .}}{{if eq (len .Groups) 0}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{- else}}{{range $g := .Groups}}

{{.Title}}{{range $c.Commands}}{{if and .IsAvailableCommand (eq .GroupID $g.ID)}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}
{{- else}}
  {{.UseLine}}{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableInheritedFlags}}

Global flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" says more about a command.{{end}}
`

// commands are all that a person can ask for, by the group in which the help lists them.
func (a *app) commands() map[string][]*cobra.Command {
	return map[string][]*cobra.Command{
		"run": {a.group.RunCommand(), a.group.GroupCommand(), a.serve.ServeCommand(), a.serve.SidecarCommand()},
		"prove": {a.evidence.MachineAttestCommand(), a.evidence.VerifyCommand(), a.evidence.AppraisalCommand(), a.evidence.TrustCommand(), a.evidence.CollateralCommand(), a.policy.PolicyCommand(), a.attestation.AttestationCommand(),
			a.serve.AuditCommand(), a.tourCommand()},
		"make": {a.image.ImageCommand(), a.image.GuestCommand(), a.serve.VaultCommand(), a.keys.KeyCommand(), a.keys.SecretCommand(), a.keys.BrokerCommand(), a.volume.VolumeCommand()},
		"self": {a.doctorCommand(), a.evidence.SimulatorCommand(), a.versionCommand(), a.completionCommand()},
	}
}
