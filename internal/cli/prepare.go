// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// prepared is everything about a container that does not depend on the machine.
type prepared struct {
	parts *assemble.Parts
	// text is the policy to launch under: the generated one, or the one that was given.
	text []byte
}

// prepare opens the image, converts its layers and makes the policy.
func (a *app) prepare(ctx context.Context, o *runOptions, g *spec.Group) (*prepared, error) {
	img, err := a.openImage(ctx, o.image, o.plainHTTP)
	if err != nil {
		return nil, err
	}
	entries, err := a.convert(ctx, img)
	if err != nil {
		return nil, err
	}
	parts, err := assemble.Container(g, img, entries, assemble.Options{
		Terminal: o.terminal, Stdin: o.interactive, StopTimeout: o.stopTimeout, ScratchMiB: o.scratchMiB,
	})
	if err != nil {
		return nil, err
	}
	a.warnSecrets(g, parts.Policy)
	p := &prepared{parts: parts, text: parts.Policy.Text()}
	if o.policyFile != "" {
		p.text, err = a.policyText(o.policyFile)
		if err != nil {
			return nil, err
		}
	}
	if a.verbose {
		a.say("image: %s", img.Digest())
		a.say("policy: %x", policy.Hash(p.text))
	}
	return p, nil
}

// plan settles accelerator and TEE, says so, and makes the plan of the group.
func (a *app) plan(ctx context.Context, o *runOptions, g *spec.Group, p *prepared) (*group.Plan, error) {
	img, err := a.guest()
	if err != nil {
		return nil, err
	}
	m := deploy.Machine{Accelerator: o.accel, TEE: o.tee, Firmware: o.firmware}
	choice, emulator, err := a.choose(ctx, &m)
	if err != nil {
		return nil, err
	}
	a.announce(o.accel == qemu.Auto, choice)
	boot, err := assemble.Boot(img, choice.TEE, choice.Accelerator, o.firmware, g.CPUs)
	if err != nil {
		return nil, err
	}
	plan := assemble.Group(g, p.parts, p.text, choice, boot, img.Digest())
	err = a.readSignedInto(plan, o.fragments, o.trustLists)
	if err != nil {
		return nil, err
	}
	plan.Record, plan.QEMU = o.record, emulator.Path
	plan.Remove, plan.WaitForAttach = o.remove, !o.detach
	o.reach.apply(plan)
	return plan, nil
}

// choose settles accelerator and TEE.
func (a *app) choose(ctx context.Context, m *deploy.Machine) (qemu.Choice, *qemu.Emulator, error) {
	choice, emulator, err := m.Choose(ctx)
	switch {
	case errors.Is(err, deploy.ErrFirmwareUnused):
		err = &failure{code: exitUsage, err: fmt.Errorf("--firmware: %w", errFirmwareUnused), fix: "leave --firmware out; cofferdam doctor says why there is no hardware TEE"}
	case errors.Is(err, exec.ErrNotFound):
		err = fixed(err, "apt-get install qemu-system-x86")
	case err != nil:
		err = fixed(err, "cofferdam doctor")
	}
	return choice, emulator, err
}

// readSignedInto reads the signed messages that a plan hands to its guest.
func (a *app) readSignedInto(plan *group.Plan, fragments, trustLists []string) error {
	for _, name := range fragments {
		data, err := a.fragmentToLoad(name)
		if err != nil {
			return err
		}
		plan.Fragments = append(plan.Fragments, data)
	}
	for _, name := range trustLists {
		_, data, err := a.openTrustList(name)
		if err != nil {
			return err
		}
		plan.TrustLists = append(plan.TrustLists, data)
	}
	return nil
}

// announce says what a launch will use. A simulated TEE is said loudly, always.
func (a *app) announce(chosen bool, c qemu.Choice) {
	if c.TEE == qemu.Simulated {
		a.say("%s", a.style(a.Err).warn("TEE: simulated (no hardware protection)"))
	} else {
		a.say("TEE: %s", c.TEE)
	}
	if chosen {
		a.say("accelerator: %s", c.Accelerator)
	}
	if a.verbose {
		for _, n := range c.Notes {
			a.say("  %s", n)
		}
	}
}
