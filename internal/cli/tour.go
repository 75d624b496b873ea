// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/progress"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/tour"
)

func (a *app) tourCommand() *cobra.Command {
	var accel, sidecar, application string
	c := &cobra.Command{
		Use:   "tour [flags] IMAGE",
		Short: "Show the main job step by step, and the attacks that are refused",
		Long: `Run an unmodified image of a Redis server in a measured machine and show what each step
proves: image, layers, policy, launch digest, boot, report, verdict, the application's
answer. Then play the hostile host: a wider command, a swapped policy, a changed layer.

With --sidecar-image and --application-image it goes on: a data owner starts an attestation
service and a vault, imports a key for the group of one policy, and encrypts a letter. The
application gets the key through the release sidecar and decrypts. Then the host changes one
byte of the policy, and the vault refuses, and says why.

The tour always uses the simulated secure processor and opts into its root by name. It
checks itself: the exit code is 0 only if every step proved what it claims and every attack
was refused for the right reason. It boots four machines, one at a time, and leaves nothing
running.

Images are as for ` + "`cofferdam run`" + `; a plain file name is taken for an OCI archive.`,
		Example: `  cofferdam tour redis.tar
  cofferdam tour redis.tar --sidecar-image sidecar.tar --application-image openssl.tar
  cofferdam tour oci:layout:redis -o json`,
		Args: console.Arguments(1, 1, "an image of a Redis server"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if accel != qemu.Auto && accel != qemu.KVM && accel != qemu.TCG {
				return console.Usage(cmd, fmt.Sprintf("--accel is %q; want auto, kvm or tcg", accel))
			}
			if (sidecar == "") != (application == "") {
				return console.Usage(cmd, "--sidecar-image and --application-image go together")
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			_, err := a.image.Guest()
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			people := a.Output == "table"
			s := a.Style(a.Out)
			p := &tour.Printer{Out: a.Out, Style: tour.Style{Good: s.Good, Bad: s.Bad, Strong: s.Strong, Dim: s.Dim}}
			board := a.Board()
			defer board.Close()
			var step *progress.Step
			began := a.Now()
			r := tour.Run(ctx, tour.Config{
				Home: a.Home, Reference: archiveOf(args[0]), Sidecar: archiveOf(sidecar), Application: archiveOf(application), Accelerator: accel, Now: a.Now,
				Supervisor: []string{self, "--home", a.Home, "supervise"},
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
			err = a.Answer(r, func(w io.Writer) error { return closing(w, s, r, a.Now().Sub(began)) })
			if err == nil && !r.Passed {
				err = console.Quiet(console.ExitError)
			}
			return err
		},
	}
	c.Flags().StringVar(&accel, "accel", qemu.Auto, "accelerator: auto, kvm or tcg")
	c.Flags().StringVar(&sidecar, "sidecar-image", "", "image of the release sidecar")
	c.Flags().StringVar(&application, "application-image", "", "image with busybox and OpenSSL, which the application is made of")
	a.OutputFlag(c)
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

func closing(w io.Writer, s console.Style, r *tour.Report, took time.Duration) error {
	verdict := s.Good("Every step proved what it claims, and every attack was refused.")
	if !r.Passed {
		verdict = s.Bad("The tour FAILED: the last step above says where.")
	}
	_, err := fmt.Fprintf(w, "\n%s\n%s It took %.0f seconds.\n", verdict,
		s.Warn("All of this ran on the simulated processor: no hardware protection."), took.Seconds())
	return err
}
