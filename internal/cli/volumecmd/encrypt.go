// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
)

// ext4Block is the block size of filesystems that are made, in bytes: that of volumes.
const ext4Block = 4096

func (a *App) volumeEncryptCommand() *cobra.Command {
	o := &newVolumeOptions{}
	c := &cobra.Command{
		Use:   "encrypt DIRECTORY IMAGE",
		Short: "Make an encrypted volume of a directory",
		Long: `Make an ext4 filesystem of a directory, in an encrypted volume in a new file, and its
descriptor. No root is needed. mke2fs (Debian: e2fsprogs) makes the filesystem in a file
beside the image, which is removed then: until that is overwritten, the disk holds the
directory's content once more. A sealed volume is an EROFS filesystem, and needs neither.
` + aboutSealed + "\n" + aboutFormats + "\n" + aboutVolumeKey + "\n" + aboutVolume,
		Example: `  cofferdam volume encrypt records data.img --passphrase-file passphrase
  cofferdam volume encrypt records data.img --size 20GiB --key-file key --kid records \
    --key-vault vault.example --authority attest.example
  cofferdam volume encrypt records data.img --format sealed --key-file key`,
		Args: console.Arguments(2, 2, "a directory and the image's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			if o.format == string(descriptor.Sealed) {
				return a.sealDirectory(ctx, cmd, args[0], args[1], o)
			}
			size, err := directorySize(args[0])
			if err != nil {
				return err
			}
			if o.size != "" {
				if size, err = parseBytes(o.size); err != nil {
					return console.Usage(cmd, "--size: "+err.Error())
				}
			}
			return a.encryptDirectory(ctx, cmd, args[0], args[1], size, o)
		},
	}
	c.Flags().StringVar(&o.size, "size", "", "size of the volume (default: what the directory needs, and a quarter more)")
	c.Flags().StringVar(&o.format, "format", "shadow", "shadow (authenticated, can be written), sealed (authenticated, only read) or luks2")
	o.makeFlags(c)
	a.OutputFlag(c)
	return c
}

// directorySize is the size of a filesystem that holds a directory, with room for a quarter more.
func directorySize(dir string) (int64, error) {
	const least, perFile = 16 << 20, 2 * ext4Block // an inode, a name, a part of a block
	total := int64(0)
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		total += perFile
		if info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("looking at the directory: %w", err)
	}
	const unit = 1 << 20
	return (least + total + total/4 + unit - 1) / unit * unit, nil
}

// sealDirectory makes a sealed volume of a directory.
func (a *App) sealDirectory(ctx context.Context, cmd *cobra.Command, dir, image string, o *newVolumeOptions) error {
	for _, name := range []string{"size", "capacity", "anchor", "anchor-vault", "volume-label"} {
		if cmd.Flags().Changed(name) {
			return console.Usage(cmd, "a sealed volume has what is in the directory, and no --"+name)
		}
	}
	file, err := o.newDescriptor(cmd, image)
	if err != nil {
		return err
	}
	openers, err := o.key.openers(ctx, a, cmd)
	if err != nil {
		return err
	}
	defer forget(openers)
	board := a.Board()
	defer board.Close()
	step := board.Start("sealing", 0)
	d, err := attach.Seal(ctx, dir, image, openers, a.Now(), step.Set)
	if err != nil {
		return err
	}
	step.Done("")
	if err := writeDescriptor(file, d); err != nil {
		return errors.Join(err, os.Remove(image))
	}
	return a.answerVolume(&volumeAnswer{Image: image, Descriptor: d, File: file})
}

func (a *App) encryptDirectory(ctx context.Context, cmd *cobra.Command, dir, image string, size int64, o *newVolumeOptions) error {
	d, file, key, err := a.makeVolume(ctx, cmd, image, size, o)
	if err != nil {
		return err
	}
	defer key.Destroy()
	if err := a.fillVolume(ctx, cmd, dir, image, d, key, o); err != nil {
		return errors.Join(err, os.Remove(image), os.Remove(file))
	}
	return a.answerVolume(&volumeAnswer{Image: image, Descriptor: d, File: file})
}

// fillVolume makes the filesystem and encrypts it into the volume.
func (a *App) fillVolume(ctx context.Context, cmd *cobra.Command, dir, image string, d *descriptor.Descriptor, key descriptor.Key, o *newVolumeOptions) (err error) {
	plain, err := os.CreateTemp(filepath.Dir(image), "."+filepath.Base(image)+".plain-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plain.Close(), os.Remove(plain.Name())) }()
	board := a.Board()
	defer board.Close()
	step := board.Start("making the filesystem", 0)
	if err := makeExt4(ctx, dir, plain.Name(), d.Size); err != nil {
		return err
	}
	step.Done("")
	v, err := a.attachVolume(ctx, cmd, image, d, key, &o.volumeOptions, blob.Options{Write: true})
	if err != nil {
		return err
	}
	step = board.Start("encrypting", d.Size)
	err = attach.Copy(ctx, v, attach.Plain{ReaderAt: plain}, d.Size, d.Kind == descriptor.Shadow, step.Set)
	step.Done("")
	return errors.Join(err, v.Close(context.WithoutCancel(ctx)))
}

// makeExt4 makes an ext4 filesystem with the content of a directory in a file.
func makeExt4(ctx context.Context, dir, file string, size int64) error {
	program, err := findProgram("mke2fs")
	if err != nil {
		return console.Fixed(errors.New("making the filesystem: there is no mke2fs"), "apt-get install e2fsprogs")
	}
	cmd := exec.CommandContext(ctx, program, "-q", "-F", "-t", "ext4", "-b", strconv.Itoa(ext4Block), "-m", "0", "-E", "root_owner=0:0,lazy_itable_init=0", "-d", dir,
		file, strconv.FormatInt(size/1024, 10)+"k")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && strings.Contains(string(out), "allocate block"):
		return console.Fixed(fmt.Errorf("making the filesystem: the directory does not fit into %s", sizeText(size)), "a larger --size")
	case err != nil:
		return fmt.Errorf("making the filesystem: mke2fs: %w: %.200s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// findProgram finds a program of the system, also where only root's search path leads.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}
