// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/cli/console"
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
func (a *App) prepare(ctx context.Context, o *runOptions, g *spec.Group) (*prepared, error) {
	img, err := a.image.OpenImage(ctx, o.Image, o.PlainHTTP)
	if err != nil {
		return nil, err
	}
	entries, err := a.image.Convert(ctx, img)
	if err != nil {
		return nil, err
	}
	parts, err := assemble.Container(g, img, entries, assemble.Options{
		Terminal: o.Terminal, Stdin: o.interactive, StopTimeout: o.stopTimeout, ScratchMiB: o.scratchMiB,
	})
	if err != nil {
		return nil, err
	}
	a.policy.WarnSecrets(g, parts.Policy)
	p := &prepared{parts: parts, text: parts.Policy.Text()}
	if o.policyFile != "" {
		p.text, err = a.policy.PolicyText(o.policyFile)
		if err != nil {
			return nil, err
		}
	}
	if a.Verbose {
		a.Say("image: %s", img.Digest())
		a.Say("policy: %x", policy.Hash(p.text))
	}
	return p, nil
}

// plan settles accelerator and TEE, says so, and makes the plan of the group.
func (a *App) plan(ctx context.Context, o *runOptions, g *spec.Group, p *prepared) (*group.Plan, error) {
	img, err := a.image.Guest()
	if err != nil {
		return nil, err
	}
	m := deploy.Machine{Accelerator: o.accel, TEE: o.tee, Firmware: o.firmware}
	choice, emulator, err := a.Choose(ctx, &m)
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

// Choose settles accelerator and TEE.
func (a *App) Choose(ctx context.Context, m *deploy.Machine) (qemu.Choice, *qemu.Emulator, error) {
	choice, emulator, err := m.Choose(ctx)
	switch {
	case errors.Is(err, deploy.ErrFirmwareUnused):
		err = &console.Failure{Code: console.ExitUsage, Err: fmt.Errorf("--firmware: %w", errFirmwareUnused), Fix: "leave --firmware out; cofferdam doctor says why there is no hardware TEE"}
	case errors.Is(err, exec.ErrNotFound):
		err = console.Fixed(err, "apt-get install qemu-system-x86")
	case err != nil:
		err = console.Fixed(err, "cofferdam doctor")
	}
	return choice, emulator, err
}

// readSignedInto reads the signed messages that a plan hands to its guest.
func (a *App) readSignedInto(plan *group.Plan, fragments, trustLists []string) error {
	for _, name := range fragments {
		data, err := a.policy.FragmentToLoad(name)
		if err != nil {
			return err
		}
		plan.Fragments = append(plan.Fragments, data)
	}
	for _, name := range trustLists {
		_, data, err := a.policy.OpenTrustList(name)
		if err != nil {
			return err
		}
		plan.TrustLists = append(plan.TrustLists, data)
	}
	return nil
}

// announce says what a launch will use. A simulated TEE is said loudly, always.
func (a *App) announce(chosen bool, c qemu.Choice) {
	if c.TEE == qemu.Simulated {
		a.Say("%s", a.Style(a.Err).Warn("TEE: simulated (no hardware protection)"))
	} else {
		a.Say("TEE: %s", c.TEE)
	}
	if chosen {
		a.Say("accelerator: %s", c.Accelerator)
	}
	if a.Verbose {
		for _, n := range c.Notes {
			a.Say("  %s", n)
		}
	}
}
