// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/volume/descriptor"
)

// lockedDescriptor reads the descriptor of an image, which nobody else changes until it is unlocked.
func (o *volumeOptions) lockedDescriptor(cmd *cobra.Command, image string) (file string, d *descriptor.Descriptor, unlock func(), err error) {
	file, err = o.descriptorFile(image)
	if err != nil {
		return "", nil, nil, console.Usage(cmd, err.Error())
	}
	unlock, err = lockDescriptor(file)
	if err != nil {
		return "", nil, nil, missingDescriptor(err)
	}
	d, err = readDescriptor(file)
	if err != nil {
		unlock()
		return "", nil, nil, err
	}
	return file, d, unlock, nil
}

// stillNamed finds whether a file was replaced meanwhile.
func stillNamed(f *os.File, name string) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	if named, err := os.Stat(name); err != nil || !os.SameFile(opened, named) {
		return errors.Join(unix.EWOULDBLOCK, err)
	}
	return nil
}

// lockDescriptor keeps other commands from changing a descriptor, until the function is called that it returns.
func lockDescriptor(name string) (func(), error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the volume's descriptor: %w", err)
	}
	unlock := func() {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // closing it ends it, too, but not while a process that was just started has a copy
		_ = f.Close()                             // it was only read
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = stillNamed(f, name)
	}
	if err == nil {
		return unlock, nil
	}
	unlock()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, console.Fixed(fmt.Errorf("%s: another command is changing it", name), "this again, when that has ended")
	}
	return nil, fmt.Errorf("locking %s: %w", name, err)
}
