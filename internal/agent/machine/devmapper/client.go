// SPDX-License-Identifier: Apache-2.0

package devmapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlPath is the control device. devtmpfs makes it when the dm_mod module is loaded.
const controlPath = "/dev/mapper/control"

// Client talks to the kernel's device-mapper. Its methods may be called from several goroutines at once.
type Client struct {
	control *os.File
}

// Device is one device-mapper device.
type Device struct {
	Name         string
	Major, Minor uint32
}

// Path is the device's node. devtmpfs makes it when the device's first table is loaded.
func (d Device) Path() string { return fmt.Sprintf("/dev/dm-%d", d.Minor) }

// Number is the device as tables name it: MAJOR:MINOR.
func (d Device) Number() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// Table is what Activate loads.
type Table struct {
	Targets []Target
	// ReadOnly makes the device refuse writes.
	ReadOnly bool
	// Secret says that the parameters hold a key: they are wiped from the kernel's and our buffers after use. The
	// caller still has to wipe its own.
	Secret bool
}

// ErrLeft says that a step failed and that the device it was for could not be removed again.
var ErrLeft = errors.New("what was made could not be taken away again")

// Open opens the control device.
func Open() (*Client, error) {
	f, err := os.OpenFile(controlPath, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the device-mapper: %w", err)
	}
	return &Client{control: f}, nil
}

// Close closes the control device. Devices stay.
func (c *Client) Close() error { return c.control.Close() }

// Activate creates the device name and makes table its live table. If any step fails, nothing is left of the device,
// unless the error wraps ErrLeft.
func (c *Client) Activate(ctx context.Context, name string, table Table) (Device, error) {
	d, err := c.create(name)
	if err != nil {
		return Device{}, err
	}
	err = c.Reload(d, table)
	if err != nil {
		undo := c.Remove(context.WithoutCancel(ctx), d)
		if undo != nil {
			err = errors.Join(err, fmt.Errorf("%w: %w", ErrLeft, undo))
		}
		return Device{}, err
	}
	return d, nil
}

func (c *Client) create(name string) (Device, error) {
	a, err := c.do(cmdDevCreate, name, 0, nil, 0)
	if err != nil {
		return Device{}, fmt.Errorf("creating mapped device %s: %w", name, err)
	}
	return Device{Name: name, Major: a.major, Minor: a.minor}, nil
}

// Reload replaces the live table of d by table.
func (c *Client) Reload(d Device, table Table) error {
	var flags uint32
	if table.ReadOnly {
		flags |= flagReadOnly
	}
	if table.Secret {
		flags |= flagSecureData
	}
	_, err := c.do(cmdTableLoad, d.Name, flags, table.Targets, 0)
	if err != nil {
		return fmt.Errorf("loading the table of mapped device %s: %w", d.Name, err)
	}
	_, err = c.do(cmdDevSuspend, d.Name, 0, nil, 0) // it resumes, which makes the table live
	if err != nil {
		return fmt.Errorf("resuming mapped device %s: %w", d.Name, err)
	}
	return nil
}

// Status returns the live targets of d. Params hold the state of each, for dm-verity "V" (valid) or "C" (corrupted).
func (c *Client) Status(d Device) ([]Target, error) { return c.status(d, 0) }

// Table returns the live table of d. For dm-crypt, Params hold the key: only tests want this.
func (c *Client) Table(d Device) ([]Target, error) { return c.status(d, flagStatusTable) }

func (c *Client) status(d Device, flags uint32) ([]Target, error) {
	a, err := c.do(cmdTableStatus, d.Name, flags, nil, answerSpace)
	if err != nil {
		return nil, fmt.Errorf("reading the status of mapped device %s: %w", d.Name, err)
	}
	if a.flags&flagActivePresent == 0 {
		return nil, fmt.Errorf("mapped device %s has no live table", d.Name)
	}
	return decodeTargets(a)
}

// Remove removes d. A device can stay busy for a moment after its last user closed it, so Remove tries again for up to
// removeTimeout; the error then wraps EBUSY.
func (c *Client) Remove(ctx context.Context, d Device) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	for {
		_, err := c.do(cmdDevRemove, d.Name, 0, nil, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("removing mapped device %s: %w", d.Name, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("removing mapped device %s: it stayed in use: %w", d.Name, err)
		case <-time.After(removeRetry):
		}
	}
}

// RemoveUnused removes d as soon as nobody uses it any more, which may be at once. It does not wait.
func (c *Client) RemoveUnused(d Device) error {
	_, err := c.do(cmdDevRemove, d.Name, flagDeferredRemove, nil, 0)
	if err != nil {
		return fmt.Errorf("removing mapped device %s when it is unused: %w", d.Name, err)
	}
	return nil
}

const (
	removeTimeout = 2 * time.Second
	removeRetry   = 20 * time.Millisecond
)

func (c *Client) do(cmd command, name string, flags uint32, targets []Target, space int) (answer, error) {
	buf, err := encode(name, flags, targets, space)
	if err != nil {
		return answer{}, err
	}
	if flags&flagSecureData != 0 {
		defer clear(buf)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, c.control.Fd(), cmd.request(), uintptr(unsafe.Pointer(&buf[0])))
	runtime.KeepAlive(c.control)
	if errno != 0 {
		return answer{}, errno
	}
	return decode(buf)
}
