// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// described is a group that was read.
type described struct {
	request deploy.Request
	source  string // the file
	digest  string // SHA-256 of its bytes
}

// describe reads the descriptions and picks the group.
func (a *App) describe(ctx context.Context, cmd *cobra.Command, o *GroupOptions, files []string) (*described, error) {
	err := o.Check(cmd)
	if err != nil {
		return nil, err
	}
	in, err := a.policy.DescriptionInput(ctx, cmd, &o.read, files)
	if err != nil {
		return nil, err
	}
	g, err := pick(in.Groups, o.which)
	if err != nil {
		return nil, err
	}
	err = allow(g, o.allowed)
	if err != nil {
		return nil, err
	}
	d := &described{source: in.File, request: deploy.Request{
		Group: *g, Images: &Images{A: a, PlainHTTP: o.PlainHTTP}, Regenerate: o.regenerate, Generate: deploy.PolicyOptions(g.Platform),
		ScratchMiB: o.ScratchMiB, Shares: o.ShareDirs,
	}}
	sum := sha256.Sum256(in.Data)
	d.digest = hex.EncodeToString(sum[:])
	if abs, err := filepath.Abs(in.File); err == nil && in.File != "-" {
		d.source = abs
	}
	d.request.Stand, err = o.Stand(a.Home)
	if err == nil && o.policyFile != "" {
		d.request.Policy, err = a.policy.PolicyText(o.policyFile)
	}
	return d, err
}

// pick takes the only group, or the one that is asked for.
func pick(groups []spec.Group, name string) (*spec.Group, error) {
	if name == "" {
		groups = slices.DeleteFunc(slices.Clone(groups), func(g spec.Group) bool { return g.Profile && len(groups) > 1 })
	}
	var names []string
	for i := range groups {
		g := &groups[i]
		if name != "" && g.Name == name || name == "" && len(groups) == 1 {
			return g, nil
		}
		names = append(names, plain.Printable(cmp.Or(g.Name, g.Origin)))
	}
	if name != "" {
		return nil, fmt.Errorf("the description has no group %q; it has %s", name, strings.Join(names, ", "))
	}
	return nil, console.Fixed(fmt.Errorf("the description has %d groups: %s", len(groups), strings.Join(names, ", ")), "--group NAME")
}

// Images opens images for a deployment and shows how that goes on.
type Images struct {
	A         *App
	PlainHTTP bool
}

// imageError says that an image of a description can not be had.
type imageError struct {
	ref string
	err error
}

func (e *imageError) Error() string { return e.err.Error() }
func (e *imageError) Unwrap() error { return e.err }

// Open implements deploy.Images.
func (i *Images) Open(ctx context.Context, ref string, logins []spec.RegistryCredential) (assemble.Image, error) {
	img, err := i.A.image.OpenImageAs(ctx, ref, i.PlainHTTP, login(logins))
	if err != nil {
		return assemble.Image{}, &imageError{ref: ref, err: err}
	}
	entries, err := i.A.image.ConvertLayers(ctx, layer.Sources(img.Layers()))
	return assemble.Image{Image: img, Entries: entries}, err
}

// login finds a description's credentials for a registry.
func login(list []spec.RegistryCredential) image.Login {
	return func(registry string) (string, string, bool) {
		for _, c := range list {
			if c.Server == registry {
				return c.Username, string(c.Password), true
			}
		}
		return "", "", false
	}
}

// prepareGroup opens the images and makes the policy, and says what stands in for what.
func (a *App) prepareGroup(ctx context.Context, o *GroupOptions, d *described) (*deploy.Prepared, error) {
	p, err := deploy.Prepare(ctx, d.request)
	if errors.Is(err, deploy.ErrNoSidecar) {
		return nil, console.Fixed(err, "--sidecar-image REF; `make images` of the sources makes one")
	}
	if errors.Is(err, deploy.ErrNoShare) {
		return nil, console.Fixed(err, "--share [ACCOUNT/]SHARE=DIR; whoever controls this machine reads and changes what is in there")
	}
	var unopened *imageError
	if errors.As(err, &unopened) {
		return nil, console.Fixed(err, "--image-map FILE, with a line in it such as %q: oci-archive:image.tar", unopened.ref)
	}
	if err != nil {
		return nil, err
	}
	err = checkAllowed(o, p)
	if err != nil {
		return nil, err
	}
	if o.Reach.Mode == group.NetworkNone && len(p.Group.Ports) > 0 {
		return nil, console.Fixed(errors.New("the description publishes ports, and with --network none there are none"), "--network ingress: the group reaches nothing, and is reached at its ports")
	}
	for _, text := range p.Notes {
		a.Say("%s %s", a.Style(a.Err).Warn("warning:"), console.OneLine(text))
	}
	for _, r := range p.Replaced {
		if r.From == "" {
			a.Say("container %s: added, %s", r.Container, plain.Printable(r.To))
			continue
		}
		a.Say("container %s: %s in place of %s", r.Container, plain.Printable(r.To), plain.Printable(r.From))
	}
	if p.Origin == deploy.Generated {
		a.policy.WarnSecrets(&p.Group, p.Parts.Policy)
	}
	if a.Verbose {
		a.Say("policy: %x, %s", policy.Hash(p.Text), p.Origin)
	}
	return p, nil
}

// checkAdmitted asks a policy that was not made of the description about everything that the start will ask, so that a
// misfit is told before a machine boots.
func (a *App) checkAdmitted(ctx context.Context, p *deploy.Prepared) error {
	found, err := p.Admits(ctx)
	if err != nil {
		return err
	}
	f := &console.Failure{Code: console.ExitRefused, Err: errors.New("the policy does not admit what the description asks for")}
	for _, x := range found {
		if !x.Refusal() {
			a.Say("%s container %s: the policy takes %s out of its environment", a.Style(a.Err).Warn("warning:"), x.Container, plain.Printable(x.Dropped))
			continue
		}
		f.Details = append(f.Details, describeFinding(x))
	}
	if len(f.Details) == 0 {
		return nil
	}
	if p.Origin == deploy.FromDescription {
		f.Fix = "--regenerate launches with a policy made of the description; its hash is another one"
		if len(p.Replaced) > 0 {
			f.Details = append(f.Details, "images were replaced, and a policy pins the layers of the original ones")
		}
	}
	return f
}

func describeFinding(x deploy.Finding) string {
	text := "container " + x.Container + ": "
	switch {
	case x.Expected != "":
		text += fmt.Sprintf("%s: the policy allows %s, the description asks for %s", entry.ReplaceAllString(x.Field, ""), x.Expected, x.Actual)
	case x.Field != "":
		text += entry.ReplaceAllString(x.Field, "") + ": " + x.Actual
	default:
		text += x.Actual
	}
	if x.Expected == "" && x.Fix != "" {
		text += "; " + x.Fix
	}
	return plain.Printable(text)
}

// planGroup settles accelerator and TEE, says so, and makes the plan.
func (a *App) planGroup(ctx context.Context, o *GroupOptions, d *described, p *deploy.Prepared) (*group.Plan, error) {
	m := o.Machine()
	var err error
	m.Guest, err = a.image.Guest()
	if err != nil {
		return nil, err
	}
	choice, emulator, err := a.Choose(ctx, &m)
	if err != nil {
		return nil, err
	}
	a.announce(o.automatic(), choice)
	plan, err := p.Plan(m, choice, emulator)
	if err != nil {
		return nil, err
	}
	plan.Record, plan.Remove, plan.Source, plan.Digest = o.record, o.remove, d.source, d.digest
	o.Reach.apply(plan)
	return plan, a.readSignedInto(plan, o.fragments, o.trustLists)
}
