// SPDX-License-Identifier: Apache-2.0

package mapped

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/devmapper"
)

// The control device's numbers: MISC_MAJOR, and MAPPER_CTRL_MINOR of the kernel's miscdevice.h.
const (
	miscMajor, mapperMinor = 10, 236
	controlDir             = "/dev/mapper"
	control                = controlDir + "/control"
)

// ErrUnavailable says that there is no device-mapper here, as in a container that is not privileged.
var ErrUnavailable = errors.New("the kernel's device-mapper is not available here")

// Device is a volume that the kernel has opened. It is safe for concurrent use.
type Device struct {
	path  string
	nodes []string // that were made for it

	mu       sync.Mutex
	dm       *devmapper.Client  // nil once it is closed
	layers   []devmapper.Device // lowest first
	released bool
}

// Open has the kernel open a volume over the device with the number MAJOR:MINOR. What was made of a plan that can not be
// carried out is gone again.
func Open(ctx context.Context, p *Plan, below string, write bool) (*Device, error) {
	if p == nil || len(p.layers) == 0 {
		return nil, fmt.Errorf("mapping a volume: %w: there is no plan", ErrFacts)
	}
	dm, err := client()
	if err != nil {
		return nil, fmt.Errorf("mapping a volume: %w", err)
	}
	d := &Device{dm: dm}
	// The guest has one list of names for all that is mapped.
	name := "volume-" + strings.ToLower(rand.Text())
	for _, l := range p.layers {
		below, err = d.add(ctx, name+"-"+l.kind, &l, below, write)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("mapping a volume: %w", err), d.Close(context.WithoutCancel(ctx)))
		}
	}
	d.path = d.layers[len(d.layers)-1].Path()
	return d, nil
}

// client opens the device-mapper. Containers have a directory of devices of their own, where its node is missing.
func client() (*devmapper.Client, error) {
	made := false
	_, err := os.Stat(control)
	if errors.Is(err, os.ErrNotExist) {
		err = os.MkdirAll(controlDir, 0o755) //nolint:gosec // as devtmpfs has it
		if err == nil {
			err = unix.Mknod(control, unix.S_IFCHR|0o600, int(unix.Mkdev(miscMajor, mapperMinor)))
		}
		made = err == nil
		if errors.Is(err, os.ErrExist) {
			err = nil // somebody else was faster
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	dm, err := devmapper.Open()
	if err != nil {
		if made {
			_ = os.Remove(control) // it leads to nothing
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return dm, nil
}

// add puts a layer on the device below, and returns its number.
func (d *Device) add(ctx context.Context, name string, l *layer, below string, write bool) (string, error) {
	params := l.params(below)
	defer clear(params[:cap(params)])
	m, err := d.dm.Activate(ctx, name, devmapper.Table{
		Targets: []devmapper.Target{{Sectors: l.sectors, Type: l.kind, Params: params}}, ReadOnly: !write, Secret: true,
	})
	if err != nil {
		return "", err
	}
	d.layers = append(d.layers, m)
	err = unix.Mknod(m.Path(), unix.S_IFBLK|0o600, int(unix.Mkdev(m.Major, m.Minor)))
	switch {
	case err == nil:
		d.nodes = append(d.nodes, m.Path())
	case !errors.Is(err, unix.EEXIST): // devtmpfs has made it
		return "", fmt.Errorf("making %s: %w", m.Path(), err)
	}
	return m.Number(), nil
}

// Path is the device that has the data.
func (d *Device) Path() string { return d.path }

// Release leaves the device to its users: it is gone when the last of them is, and its keys with it.
func (d *Device) Release() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range slices.Backward(d.layers) {
		if err := d.dm.RemoveUnused(m); err != nil {
			return fmt.Errorf("leaving a mapped volume to its users: %w", err)
		}
	}
	d.released = true
	d.unlink()
	return nil
}

// Close takes the device away, which nobody may use, unless it was released: then that is its users' business.
func (d *Device) Close(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dm == nil {
		return nil
	}
	d.unlink()
	var errs []error
	for _, m := range slices.Backward(d.layers) {
		if !d.released {
			errs = append(errs, d.dm.Remove(ctx, m))
		}
	}
	errs = append(errs, d.dm.Close())
	d.dm, d.layers = nil, nil
	return errors.Join(errs...)
}

// unlink removes the nodes that were made: once a device is open its name is not needed.
func (d *Device) unlink() {
	for _, n := range d.nodes {
		_ = os.Remove(n) // it may be gone
	}
	d.nodes = nil
}

// Damaged says whether the kernel has found, since the volume is open, that the storage holds something else than was sealed.
// Of a volume without a tree it never knows.
func (d *Device) Damaged() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.layers {
		targets, err := d.dm.Status(m)
		if err == nil && len(targets) == 1 && targets[0].Type == "verity" && strings.HasPrefix(string(targets[0].Params), "C") {
			return true
		}
	}
	return false
}
