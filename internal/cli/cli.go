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
)

// Current is the process that runs.
func Current() Process {
	return Process{Args: sidecarArguments(os.Args[0], os.Args[1:]), In: os.Stdin, Out: os.Stdout, Err: os.Stderr, LookupEnv: os.LookupEnv, Now: time.Now}
}

// Main runs one command and returns the exit code of the process.
func Main(ctx context.Context, p Process) int {
	a := &app{Process: p}
	root := a.root()
	root.SetArgs(p.Args)
	err := root.ExecuteContext(ctx)
	return a.finish(err)
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
		RunE:          parentRun,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetUsageTemplate(usageTemplate)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true
	f := root.PersistentFlags()
	f.StringVar(&a.home, "home", "", "state directory (default $COFFERDAM_HOME, else cofferdam in the XDG data directory)")
	f.StringVar(&a.color, "color", "auto", "colours: auto, always or never (NO_COLOR is honoured)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "say more on standard error, one line for each step")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.checkGlobals(cmd) }
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "prove", Title: "Prove:"},
		&cobra.Group{ID: "make", Title: "Make and look:"}, &cobra.Group{ID: "self", Title: "This installation:"})
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true}) // --help is enough
	for id, list := range a.commands() {
		for _, c := range list {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	root.AddCommand(a.superviseCommand())
	return root
}

// badValue is the flag library's message about a value; what follows it is meant for programmers.
var badValue = regexp.MustCompile(`^invalid argument ("(?s:.*)") for "(?:-[a-zA-Z], )?(--[a-z-]+)" flag: `)

// flagError says what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	m := badValue.FindStringSubmatch(err.Error())
	if m == nil {
		return usage(cmd, err.Error())
	}
	want := "something else"
	if f := cmd.Flag(strings.TrimPrefix(m[2], "--")); f != nil {
		want = map[string]string{"int": "a whole number", "duration": "a duration such as 10s", "bool": "true or false"}[f.Value.Type()]
	}
	return usage(cmd, fmt.Sprintf("%s is %s; want %s", m[2], m[1], want))
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
		"run": {a.runCommand(), a.groupCommand(), a.serveCommand(), a.sidecarCommand()},
		"prove": {a.machineAttestCommand(), a.verifyCommand(), a.appraisalCommand(), a.trustCommand(), a.collateralCommand(), a.policyCommand(), a.attestationCommand(),
			a.auditCommand(), a.tourCommand()},
		"make": {a.imageCommand(), a.guestCommand(), a.vaultCommand(), a.keyCommand(), a.secretCommand(), a.brokerCommand(), a.volumeCommand()},
		"self": {a.doctorCommand(), a.simulatorCommand(), a.versionCommand(), a.completionCommand()},
	}
}
