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
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cofferdam.dev/internal/cli/progress"
)

// Process is what the command line needs of the process that it runs in.
type Process struct {
	// Args are the arguments after the program's name.
	Args []string
	// In, Out and Err are the standard streams.
	In, Out, Err *os.File
	// LookupEnv reads the environment.
	LookupEnv func(string) (string, bool)
	// Now is the clock.
	Now func() time.Time
}

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

// app is one invocation of the command line.
type app struct {
	Process
	home    string
	color   string
	verbose bool
	output  string
	// pass is the exit code of a process that was run for the user, in place of our own.
	pass int
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

// parentRun is what a command with sub-commands does: alone it shows its help, with anything else it asks back.
func parentRun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	message := fmt.Sprintf("%q is not a command of %q", args[0], cmd.CommandPath())
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		message += fmt.Sprintf("; did you mean %s?", strings.Join(s, " or "))
	}
	return usage(cmd, message)
}

// noun returns a command that only groups others.
func noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: parentRun}
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(verbs...)
	return c
}

func (a *app) checkGlobals(cmd *cobra.Command) error {
	switch a.color {
	case "auto", "always", "never":
	default:
		return usage(cmd, fmt.Sprintf("--color is %q; want auto, always or never", a.color))
	}
	switch a.output {
	case "", "table", "json", "yaml":
	default:
		return usage(cmd, fmt.Sprintf("--output is %q; want table, json or yaml", a.output))
	}
	return a.findHome()
}

// findHome settles the state directory: flag, then COFFERDAM_HOME, then the XDG data directory.
func (a *app) findHome() error {
	if a.home == "" {
		a.home, _ = a.LookupEnv("COFFERDAM_HOME")
	}
	if a.home == "" {
		data, _ := a.LookupEnv("XDG_DATA_HOME")
		if !filepath.IsAbs(data) { // the XDG specification: relative paths are invalid
			home, _ := a.LookupEnv("HOME")
			if home == "" {
				return &failure{code: exitError, err: errors.New("no state directory: neither COFFERDAM_HOME nor HOME is set"), fix: "cofferdam --home DIR ..."}
			}
			data = filepath.Join(home, ".local", "share")
		}
		a.home = filepath.Join(data, "cofferdam")
	}
	abs, err := filepath.Abs(a.home)
	if err != nil {
		return fmt.Errorf("making the state directory's path absolute: %w", err)
	}
	a.home = abs
	return nil
}

// interruptible returns a context that ends with Ctrl-C or a request to terminate.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}

// say writes one line about the work to standard error.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Err, format+"\n", args...) // nowhere is left to complain
}

// board returns where progress is shown.
func (a *app) board() *progress.Board {
	mode := progress.Quiet
	switch {
	case a.verbose:
		mode = progress.Lines
	case term.IsTerminal(int(a.Err.Fd())):
		mode = progress.Bars
	}
	return progress.New(a.Err, mode, a.Now)
}
