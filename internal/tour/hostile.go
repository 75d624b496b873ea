// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/simsp"
)

const (
	// flippedByte lies in the filesystem's superblock, which every mount reads: its volume name.
	flippedByte = 1024 + 0x78
	// serialFlipped names the changed disk.
	serialFlipped = "flipped"
	// ioError is how Linux says that a read failed.
	ioError = "input/output error"
)

// hostile is a machine without a supervisor: the host speaks to the guest as it likes.
type hostile struct {
	vm  *sandbox.VM
	sim *simsp.Guest
	dir string
}

// bootHostile boots the guest image under a policy's hash, with the true layers and a changed copy of the first one.
func (t *tour) bootHostile(ctx context.Context, hash [32]byte) (*hostile, error) {
	p, err := simsp.Open(filepath.Join(t.cfg.Home, "simsp"))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(t.cfg.Home, "tour-*")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the changed layer: %w", err)
	}
	m := &hostile{dir: dir}
	err = t.startHostile(ctx, m, p, hash)
	if err != nil {
		m.end()
		return nil, err
	}
	return m, nil
}

func (t *tour) startHostile(ctx context.Context, m *hostile, p *simsp.Processor, hash [32]byte) error {
	flipped := filepath.Join(m.dir, "layer0-flipped.img")
	err := flip(t.entries[0].Path, flipped, flippedByte)
	if err != nil {
		return err
	}
	m.sim, err = p.Launch(simsp.Launch{
		KernelPath: t.boot.Kernel, InitrdPath: t.boot.Initrd, Cmdline: t.boot.Cmdline, VCPUs: vcpus,
		HostData: hash, Policy: snp.GuestPolicy(qemu.DefaultSNPPolicy),
	})
	if err != nil {
		return err
	}
	disks := []qemu.Disk{{Path: flipped, Serial: serialFlipped, ReadOnly: true}}
	for i, e := range t.entries {
		disks = append(disks, qemu.Disk{Path: e.Path, Serial: serial(i), ReadOnly: true})
	}
	t.begin("booting the hostile host's machine")
	m.vm, err = sandbox.Start(ctx, sandbox.Config{
		Emulator: t.emulator, Simulator: m.sim,
		Machine: qemu.Config{
			Name: "tour-hostile", Accelerator: t.choice.Accelerator, TEE: t.choice.TEE, VCPUs: vcpus, MemoryMiB: memoryMiB,
			Kernel: t.boot.Kernel, Initrd: t.boot.Initrd, Cmdline: t.boot.Cmdline, HostData: hash, Disks: disks,
		},
	})
	if err != nil {
		return err
	}
	return m.vm.Ready(ctx)
}

// evidence asks the guest for a report over a fresh nonce, and puts it together as an honest supervisor does.
func (m *hostile) evidence(ctx context.Context, text []byte) (*evidenceOf, error) {
	e := &evidenceOf{nonce: make([]byte, nonceSize)}
	_, _ = rand.Read(e.nonce) // never fails: crypto/rand aborts the program instead
	r, err := m.vm.Guest().Evidence(ctx, e.nonce, nil)
	if err != nil {
		return nil, err
	}
	certs, err := m.sim.Certificates()
	if err != nil {
		return nil, err
	}
	e.doc = &evidence.Document{
		Type: r.GetType(), Report: r.GetReport(), Certificates: certs, Source: evidence.SourceHost,
		Nonce: e.nonce, Policy: text,
	}
	return e, nil
}

// end takes the machine down and removes what belonged to it.
func (m *hostile) end() {
	if m.vm != nil {
		m.vm.Kill()
		<-m.vm.Done()
	}
	_ = os.RemoveAll(m.dir) // a copy of a cached file
}

// flip copies a file with the lowest bit of one byte changed.
func flip(from, to string, at int64) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copying a layer: %w", err)
	}
	defer func() { _ = in.Close() }() // opened for reading only
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copying a layer: %w", err)
	}
	_, err = io.Copy(out, in)
	var b [1]byte
	if err == nil {
		_, err = out.ReadAt(b[:], at)
	}
	if err == nil {
		b[0] ^= 1
		_, err = out.WriteAt(b[:], at)
	}
	err = errors.Join(err, out.Close())
	if err != nil {
		return fmt.Errorf("copying a layer: %w", err)
	}
	return nil
}
