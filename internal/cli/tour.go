// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/progress"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/tour"
)

func (a *app) tourCommand() *cobra.Command {
	var accel string
	c := &cobra.Command{
		Use:   "tour [flags] IMAGE",
		Short: "Show the main job step by step, and three attacks refused",
		Long: `Run an unmodified image of a Redis server in a measured machine and show what each step
proves: image, layers, policy, launch digest, boot, report, verdict, the application's
answer. Then play the hostile host: a wider command, a swapped policy, a changed layer.

The tour always uses the simulated secure processor and opts into its root by name. It
checks itself: the exit code is 0 only if every step proved what it claims and every attack
was refused for the right reason. It boots two machines and leaves nothing running.

IMAGE is as for ` + "`cofferdam run`" + `; a plain file name is taken for an OCI archive.`,
		Example: `  cofferdam tour redis.tar
  cofferdam tour oci:layout:redis -o json`,
		Args: arguments(1, 1, "an image of a Redis server"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if accel != qemu.Auto && accel != qemu.KVM && accel != qemu.TCG {
				return usage(cmd, fmt.Sprintf("--accel is %q; want auto, kvm or tcg", accel))
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			_, err := a.guest()
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			people := a.output == "table"
			s := a.style(a.Out)
			p := &tour.Printer{Out: a.Out, Style: tour.Style{Good: s.good, Bad: s.bad, Strong: s.strong, Dim: s.dim}}
			board := a.board()
			defer board.Close()
			var step *progress.Step
			began := a.Now()
			r := tour.Run(ctx, tour.Config{
				Home: a.home, Reference: archiveOf(args[0]), Accelerator: accel, Now: a.Now,
				Supervisor: []string{self, "--home", a.home, "supervise"},
				Begun: func(what string) {
					step.Done("")
					step = board.Start(what, 0)
				},
				Shown: func(t *tour.Step) {
					step.Done("")
					step = nil
					if people {
						board.Print("") // wipes the bars, so that they do not mix with the steps
						p.Show(t)
					}
				},
			})
			board.Close()
			err = a.answer(r, func(w io.Writer) error { return closing(w, s, r, a.Now().Sub(began)) })
			if err == nil && !r.Passed {
				err = quiet(exitError)
			}
			return err
		},
	}
	c.Flags().StringVar(&accel, "accel", qemu.Auto, "accelerator: auto, kvm or tcg")
	a.outputFlag(c)
	return c
}

// archiveOf takes the name of an existing file for an OCI archive.
func archiveOf(ref string) string {
	info, err := os.Stat(ref)
	if err == nil && info.Mode().IsRegular() {
		return "oci-archive:" + ref
	}
	return ref
}

func closing(w io.Writer, s style, r *tour.Report, took time.Duration) error {
	verdict := s.good("Every step proved what it claims, and every attack was refused.")
	if !r.Passed {
		verdict = s.bad("The tour FAILED: the last step above says where.")
	}
	_, err := fmt.Fprintf(w, "\n%s\n%s It took %.0f seconds.\n", verdict,
		s.warn("All of this ran on the simulated processor: no hardware protection."), took.Seconds())
	return err
}
