// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
)

// Deployer is the planner of machines of our own.
type Deployer struct {
	// Images opens images, and makes the disks of their layers.
	Images deploy.Images
	// Stand and Shares take the place of images and of file shares.
	Stand  deploy.Substitutes
	Shares map[string]string
	// ScratchMiB is the size of the scratch disk of each container's writable layer; 0 keeps it in memory.
	ScratchMiB int
	// Machine settles what a group is launched on. It is asked for each group.
	Machine func(context.Context) (deploy.Machine, qemu.Choice, *qemu.Emulator, error)
}

var _ Planner = (*Deployer)(nil)

// Plan implements Planner.
func (d *Deployer) Plan(ctx context.Context, g spec.Group, tell Tell) (*group.Plan, group.Contents, []string, error) {
	for _, c := range g.Containers {
		if _, mapped := d.Stand.Map[c.Image]; !mapped && image.Local(c.Image) {
			return nil, nil, nil, &Refusal{Message: fmt.Sprintf("container %s: the image %q is a file of this machine; the operator's image map can name one, and a request can not", c.Name, c.Image)}
		}
	}
	prepared, err := deploy.Prepare(ctx, deploy.Request{
		Group: g, Images: &watched{d.Images, g, tell, d.Stand}, Stand: d.Stand, Generate: deploy.PolicyOptions(g.Platform),
		ScratchMiB: d.ScratchMiB, Shares: d.Shares,
	})
	if errors.Is(err, deploy.ErrNotRunnable) {
		return nil, nil, nil, &Refusal{Message: err.Error()}
	}
	if err != nil {
		return nil, nil, nil, err
	}
	warnings, err := admitted(ctx, prepared)
	if err != nil {
		return nil, nil, nil, err
	}
	machine, choice, emulator, err := d.Machine(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	plan, err := prepared.Plan(machine, choice, emulator)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, r := range prepared.Replaced {
		warnings = append(warnings, fmt.Sprintf("container %s: %s in place of %s", r.Container, r.To, r.From))
	}
	warnings = append(append(warnings, prepared.Notes...), deploy.Warnings(plan)...)
	return plan, prepared.Parts.Contents, warnings, nil
}

// admitted asks a policy that the description brought whether it admits the group, so that a misfit is told before a machine
// boots.
func admitted(ctx context.Context, p *deploy.Prepared) ([]string, error) {
	found, err := p.Admits(ctx)
	if err != nil {
		return nil, &Refusal{Policy: true, Message: err.Error()}
	}
	var warnings []string
	r := &Refusal{Policy: true, Message: "The policy in confidentialComputeProperties.ccePolicy does not admit the group that is described."}
	for _, f := range found {
		if !f.Refusal() {
			warnings = append(warnings, fmt.Sprintf("container %s: the policy takes %s out of its environment", f.Container, f.Dropped))
			continue
		}
		text := fmt.Sprintf("container %s: %s: the policy allows %s, the description asks for %s", f.Container, f.Field, f.Expected, f.Actual)
		if f.Expected == "" {
			text = fmt.Sprintf("container %s: %s: %s", f.Container, f.Field, f.Actual)
		}
		r.Details = append(r.Details, event.Clean(text))
	}
	if len(r.Details) > 0 {
		return nil, r
	}
	return warnings, nil
}

// watched notes how the images of a group are got, for each container that has one.
type watched struct {
	images deploy.Images
	group  spec.Group
	tell   Tell
	stand  deploy.Substitutes
}

// Open implements deploy.Images.
func (w *watched) Open(ctx context.Context, ref string, logins []spec.RegistryCredential) (assemble.Image, error) {
	began := time.Now()
	w.note(ref, event.Pulling, event.Normal, fmt.Sprintf("pulling image %q", ref))
	img, err := w.images.Open(ctx, ref, logins)
	if err != nil {
		w.note(ref, event.Failed, event.Warning, fmt.Sprintf("Failed to pull image %q: %v", ref, err))
		return img, err
	}
	w.note(ref, event.Pulled, event.Normal, fmt.Sprintf("Successfully pulled image %q in %s", ref, time.Since(began).Round(time.Millisecond)))
	return img, nil
}

// note notes an event of all containers whose image it is, or whose image it takes the place of.
func (w *watched) note(ref, name string, t event.Type, message string) {
	for _, c := range w.group.Containers {
		if c.Image == ref || w.stand.Map[c.Image] == ref || w.stand.Sidecar == ref && deploy.IsSidecar(c.Image) {
			w.tell(c.Name, name, t, message)
		}
	}
}
