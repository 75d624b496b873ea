// SPDX-License-Identifier: Apache-2.0

package imagecmd

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/progress"
	"cofferdam.dev/internal/guestimage"
)

// GuestCommand returns `guest` with all that is below it.
func (a *App) GuestCommand() *cobra.Command {
	return console.Noun("guest", "Build the guest image, and say what its launch measures",
		a.guestBuildCommand(), a.guestMeasureCommand(), a.guestShowCommand())
}

// Guest opens the current guest image.
func (a *App) Guest() (*guestimage.Image, error) {
	img, err := guestimage.Current(a.Home)
	if errors.Is(err, guestimage.ErrNoImage) {
		return nil, console.Fixed(fmt.Errorf("there is no guest image in %s", a.Home), "cofferdam guest build")
	}
	return img, err
}

// DescribeGuestImage is one line about the current guest image, for the doctor.
func (a *App) DescribeGuestImage() (string, error) {
	img, err := a.Guest()
	if err != nil {
		return "", err
	}
	d := img.Digest()
	return fmt.Sprintf("%x with kernel %s", d[:6], img.Manifest().Kernel.Release), nil
}

func (a *App) guestBuildCommand() *cobra.Command {
	var o guestimage.BuildOptions
	c := &cobra.Command{
		Use:   "build",
		Short: "Build the guest image",
		Long: `Build the guest image: Debian's kernel, and an initramfs with the agent and the OCI runtime.

The kernel package is fetched with apt and not installed; root is not needed. The same
inputs give the same bytes. The image becomes the current one, and its digest is printed.`,
		Example: `  cofferdam guest build
  cofferdam guest build --agent bin/cofferdam-guest --runc bin/runc`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			var err error
			o.Home = a.Home
			o.AgentPath, err = beside(o.AgentPath, "cofferdam-guest", "--agent")
			if err != nil {
				return err
			}
			o.RuncPath, err = beside(o.RuncPath, "runc", "--runc")
			if err != nil {
				return err
			}
			board := a.Board()
			defer board.Close()
			var step *progress.Step
			o.Progress = func(name string) {
				step.Done("")
				step = board.Start(name, 0)
			}
			o.Warn = func(message string) { board.Print(a.Style(a.Err).Warn("warning:") + " " + message + "\n") }
			img, err := guestimage.Build(ctx, o)
			if err != nil {
				return err
			}
			step.Done("")
			board.Close()
			return a.Answer(newGuestAnswer(img), func(w io.Writer) error {
				d := img.Digest()
				_, err := fmt.Fprintf(w, "%x\n", d)
				return err
			})
		},
	}
	f := c.Flags()
	f.StringVar(&o.AgentPath, "agent", "", "the agent's binary (default: cofferdam-guest beside this program, or on the path)")
	f.StringVar(&o.RuncPath, "runc", "", "a static runc (default: runc beside this program, or on the path)")
	f.StringVar(&o.Mirror, "mirror", "", "Debian mirror (default: apt's)")
	f.StringVar(&o.SecurityMirror, "security-mirror", "", "Debian security mirror (default: apt's)")
	a.OutputFlag(c)
	return c
}

// beside finds a program that is installed together with this one.
func beside(given, name, flag string) (string, error) {
	if given != "" {
		return given, nil
	}
	self, err := os.Executable()
	if err == nil {
		path := filepath.Join(filepath.Dir(self), name)
		_, err = os.Stat(path)
		if err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", console.Fixed(fmt.Errorf("%s is neither beside this program nor on the path", name), "cofferdam guest build %s FILE", flag)
	}
	return path, nil
}

// guestAnswer is the document behind `guest build|show -o json`.
type guestAnswer struct {
	Schema   string               `json:"schema"`
	Digest   string               `json:"digest"`
	Dir      string               `json:"dir"`
	Manifest *guestimage.Manifest `json:"manifest"`
}

func newGuestAnswer(img *guestimage.Image) guestAnswer {
	d := img.Digest()
	return guestAnswer{Schema: "cofferdam.dev/guest/v1", Digest: hex.EncodeToString(d[:]), Dir: img.Dir(), Manifest: img.Manifest()}
}

func (a *App) guestShowCommand() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "show",
		Short: "Show the current guest image",
		Long: `Show the current guest image: what it was built from, its files, and the kernel command line
for each kind of TEE. With --check the files are read and compared with the manifest.`,
		Example: `  cofferdam guest show
  cofferdam guest show --check -o json`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			img, err := a.Guest()
			if err != nil {
				return err
			}
			if check {
				err = img.Verify(ctx)
				if err != nil {
					return console.Fixed(err, "cofferdam guest build")
				}
			}
			return a.Answer(newGuestAnswer(img), func(w io.Writer) error { return showGuest(w, img) })
		},
	}
	c.Flags().BoolVar(&check, "check", false, "read the files and compare them with the manifest")
	a.OutputFlag(c)
	return c
}

func showGuest(w io.Writer, img *guestimage.Image) error {
	m := img.Manifest()
	d := img.Digest()
	pinned := ""
	if !m.Kernel.Pinned {
		pinned = " (not the version that the sources pin)"
	}
	pairs := [][2]string{
		{"digest", hex.EncodeToString(d[:])}, {"directory", img.Dir()},
		{"kernel", fmt.Sprintf("%s %s%s", m.Kernel.Package, m.Kernel.Version, pinned)},
	}
	for _, i := range m.Inputs {
		pairs = append(pairs, [2]string{"input " + i.Name, strings.TrimSpace(i.SHA256 + " " + i.Version)})
	}
	for _, name := range []string{guestimage.FileVmlinux, guestimage.FileVmlinuz, guestimage.FileInitrd} {
		f := m.Files[name]
		pairs = append(pairs, [2]string{"file " + name, fmt.Sprintf("%s (%.1f MiB)", f.SHA256, float64(f.Size)/(1<<20))})
	}
	for _, tee := range guestimage.TEEs() {
		pairs = append(pairs, [2]string{"cmdline " + tee, m.CommandLines[tee]})
	}
	return console.Facts(w, pairs...)
}

// CheckTEE refuses a kind of TEE that there is not.
func CheckTEE(cmd *cobra.Command, tee string, more ...string) error {
	want := slices.Concat(more, guestimage.TEEs())
	if !slices.Contains(want, tee) {
		return console.Usage(cmd, fmt.Sprintf("--tee is %q; want %s", tee, strings.Join(want, ", ")))
	}
	return nil
}

// The number of a machine's processors.
const (
	DefaultCPUs = 1
	MaxCPUs     = 64
)
