// SPDX-License-Identifier: Apache-2.0

// Package doctor tells what this machine can do for confidential containers, and what is missing.
//
// It looks: at files below the root directory, at programs on the path and their versions, at limits and free space.
// Everything that it reads is the host's own word about itself, good for setting a machine up and worthless as
// evidence: whether a group really runs inside hardware is what package verify answers. It never changes the machine
// and never starts one.
package doctor

import (
	"context"
	"slices"

	"cofferdam.dev/internal/sandbox/qemu"
)

// Schema identifies the JSON form of a Report. Fields may be added under the same identifier, never changed.
const Schema = "cofferdam.dev/doctor/v1"

// Status is the outcome of one check. The zero value is not an outcome.
type Status string

// The outcomes.
const (
	Pass Status = "pass" // as it should be
	Warn Status = "warn" // works, with something less: the check says what
	Fail Status = "fail" // `cofferdam run` can not work like this
)

// Check is one thing looked at.
type Check struct {
	// Code is stable and machine-readable, e.g. "qemu".
	Code string `json:"code"`
	// Title names the thing for people.
	Title string `json:"title"`
	// Status is the outcome.
	Status Status `json:"status"`
	// Detail says what was found.
	Detail string `json:"detail"`
	// Fix says what to do, where there is something to do.
	Fix string `json:"fix,omitempty"`
}

// Report is what the doctor found, in a fixed order.
type Report struct {
	Schema string `json:"schema"`
	// Ready is true when no check failed: `cofferdam run` should work.
	Ready bool `json:"ready"`
	// Accelerator and TEE are what `--accel auto` and `--tee auto` would choose.
	Accelerator string  `json:"accelerator"`
	TEE         string  `json:"tee"`
	Checks      []Check `json:"checks"`
}

// Examine looks at the machine through m.
func Examine(ctx context.Context, m Machine) Report {
	host := m.Host()
	emulator, err := m.Emulator(ctx)
	r := Report{Schema: Schema, Accelerator: qemu.TCG, TEE: qemu.Simulated}
	var choice qemu.Choice
	if err == nil {
		var chooseErr error
		choice, chooseErr = qemu.Choose(qemu.Auto, qemu.Auto, host, emulator, m.Firmware)
		if chooseErr == nil {
			r.Accelerator, r.TEE = choice.Accelerator, choice.TEE
		}
	}
	r.Checks = []Check{
		m.checkArchitecture(),
		checkQEMU(emulator, err),
		m.checkAccelerator(host.KVM),
		m.checkTEE(r.TEE, host),
		m.checkGuestImage(),
		m.checkPackages(),
		m.checkProgram("runc", "OCI runtime", "a static runc is built with `make build`", "the guest image is built with it"),
		m.checkProgram("mke2fs", "Filesystems", "apt-get install e2fsprogs", "the guest image's scratch templates are made with it"),
		m.checkFUSE(),
		m.checkMemory(),
		m.checkDisk(),
		m.checkOpenFiles(),
	}
	r.Ready = !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Status != Pass && c.Status != Warn })
	return r
}
