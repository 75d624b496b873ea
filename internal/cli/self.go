// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/doctor"
)

func (a *app) doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do, and what is missing",
		Long: `Look at this machine: processor, QEMU, accelerator, TEE, guest image, tools, memory, disk.

Each finding is pass, warn (works, with something less) or fail (` + "`cofferdam run`" + ` can not
work), with what to do about it. The exit code is 1 if anything failed.`,
		Example: `  cofferdam doctor
  cofferdam doctor -o json`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			r := doctor.Examine(ctx, doctor.Host(a.Home, a.image.DescribeGuestImage))
			err := a.Answer(r, func(w io.Writer) error { return a.showHealth(w, r) })
			if err != nil {
				return err
			}
			if !r.Ready {
				return console.Quiet(console.ExitError)
			}
			return nil
		},
	}
	a.OutputFlag(c)
	return c
}

func (a *app) showHealth(w io.Writer, r doctor.Report) error {
	s := a.Style(a.Out)
	paint := map[doctor.Status]func(string) string{doctor.Pass: s.Good, doctor.Warn: s.Warn, doctor.Fail: s.Bad}
	for _, c := range r.Checks {
		_, err := fmt.Fprintf(w, "%s  %-14s %s\n", paint[c.Status](string(c.Status)), c.Title, c.Detail)
		if err != nil {
			return err
		}
		if c.Fix != "" {
			_, err = fmt.Fprintf(w, "%20s %s %s\n", "", s.Strong("try:"), c.Fix)
			if err != nil {
				return err
			}
		}
	}
	verdict := "This machine can run groups: accelerator " + r.Accelerator + ", TEE " + r.TEE + "."
	if !r.Ready {
		verdict = "This machine can not run groups until the failures above are mended."
	}
	_, err := fmt.Fprintf(w, "\n%s\n", verdict)
	return err
}

// versionAnswer is the document behind `version -o json`.
type versionAnswer struct {
	Schema   string `json:"schema"`
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "version",
		Short:   "Say which cofferdam this is",
		Long:    `Print the version of this program and of the Go that built it.`,
		Example: `  cofferdam version`,
		Args:    console.Arguments(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			v := versionAnswer{Schema: "cofferdam.dev/version/v1", Version: version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			return a.Answer(v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "cofferdam %s (%s, %s)\n", v.Version, v.Go, v.Platform)
				return err
			})
		},
	}
	a.OutputFlag(c)
	return c
}

// linkedVersion is set by builds that leave the checkout out of the binary, which keeps their bytes the same everywhere:
// -ldflags "-X cofferdam.dev/internal/cli.linkedVersion=v1.2.3".
var linkedVersion string

// version is the one that was linked in, else that of the module, else the revision of the checkout.
func version() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		b = &debug.BuildInfo{}
	}
	return versionOf(linkedVersion, b)
}

func versionOf(linked string, b *debug.BuildInfo) string {
	if linked != "" {
		return linked
	}
	if b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	settings := map[string]string{}
	for _, s := range b.Settings {
		settings[s.Key] = s.Value
	}
	revision := settings["vcs.revision"]
	switch {
	case revision == "":
		return "unknown"
	case settings["vcs.modified"] == "true":
		return revision[:min(len(revision), 12)] + "-modified"
	}
	return revision[:min(len(revision), 12)]
}

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a completion script for a shell",
		Long:  `Print a script that teaches a shell to complete cofferdam's commands, flags and group names.`,
		Example: `  source <(cofferdam completion bash)
  cofferdam completion zsh > "${fpath[1]}/_cofferdam"`,
		ValidArgs: shells,
		Args:      console.Arguments(1, 1, "the name of a shell"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Out, true)
			case "zsh":
				return root.GenZshCompletion(a.Out)
			case "fish":
				return root.GenFishCompletion(a.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.Out)
			}
			return console.Usage(cmd, fmt.Sprintf("%q is no shell that has completion; want %v", args[0], shells))
		},
	}
}
