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
	q := m.qemu(ctx)
	kvm := m.kvm()
	r := Report{Schema: Schema, Accelerator: "tcg", TEE: "simulated"}
	if kvm.usable {
		r.Accelerator = "kvm"
		r.TEE = m.tee()
	}
	r.Checks = []Check{
		m.checkArchitecture(),
		m.checkQEMU(q),
		m.checkAccelerator(kvm),
		m.checkTEE(r.TEE),
		m.checkGuestImage(),
		m.checkPackages(),
		m.checkProgram("runc", "OCI runtime", "runc", "the guest image is built with the runc program"),
		m.checkProgram("mke2fs", "Filesystem maker", "e2fsprogs", "the guest image carries a filesystem template made with mke2fs"),
		m.checkFUSE(),
		m.checkMemory(),
		m.checkDisk(),
		m.checkOpenFiles(),
	}
	r.Ready = !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Status != Pass && c.Status != Warn })
	return r
}
