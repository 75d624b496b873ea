// SPDX-License-Identifier: Apache-2.0

// Package deploy takes a group from its description to the plan that a supervisor starts: which image stands for which
// reference, which policy the machine is launched with, how large the machine is, and what is asked of the guest.
//
// It opens images through an interface and starts nothing. It trusts its caller to have verified images and layers. What
// it makes is the host's wish: whether any of it may run is decided in the guest, by the policy that the launch fixed.
package deploy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/policygen"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// Images opens images.
type Images interface {
	// Open opens an image and makes the disks of its layers. logins are what the description brings for its registries.
	Open(ctx context.Context, ref string, logins []spec.RegistryCredential) (assemble.Image, error)
}

// Request is a group to be prepared.
type Request struct {
	Group  spec.Group
	Images Images
	// Stand are images that take the place of references of the description.
	Stand Substitutes
	// Policy is a text to launch with instead of the description's or a generated one.
	Policy []byte
	// Regenerate leaves the description's own policy aside.
	Regenerate bool
	// Generate says what a generated policy has besides what the description asks for; see PolicyOptions.
	Generate policygen.Options
	// ScratchMiB is the size of the scratch disk of each container's writable layer; 0 keeps it in memory.
	ScratchMiB int
	// Shares are the directories of this machine that stand in for file shares, absolute, by "ACCOUNT/SHARE" or "SHARE".
	Shares map[string]string
}

// PolicyOptions are those of a platform, as `policy generate` has them.
func PolicyOptions(p spec.Platform) policygen.Options {
	if p == spec.PlatformOwn {
		return policygen.RunOptions()
	}
	return policygen.Options{}
}

// Where the policy of a group comes from.
const (
	FromFile        = "file"        // it was given
	FromDescription = "description" // the description holds it
	Generated       = "generated"   // it was made from the description
)

// Prepared is everything about a group that does not depend on the machine.
type Prepared struct {
	// Group is the description with its images replaced.
	Group spec.Group
	Parts *assemble.Parts
	// Text is the policy to launch with, and Origin says where it comes from.
	Text   []byte
	Origin string
	// Replaced are the images that others stand in for.
	Replaced []Replacement
	// Notes say what of the description has no effect here.
	Notes []string
}

// ErrNotRunnable says that a description can make a policy and not a group.
var ErrNotRunnable = errors.New("the group can not be run from this description")

// Prepare opens the group's images and makes its policy and the plans of its containers.
func Prepare(ctx context.Context, r Request) (*Prepared, error) {
	g := r.Group
	g.Containers = slices.Clone(g.Containers)
	p := &Prepared{}
	err := p.check(&g)
	if err != nil {
		return nil, err
	}
	p.Replaced, err = r.Stand.apply(&g)
	if err != nil {
		return nil, err
	}
	images, err := open(ctx, r.Images, &g)
	if err != nil {
		return nil, err
	}
	p.Group = g
	p.Parts, err = assemble.Containers(&g, images, assemble.Options{Policy: r.Generate, ScratchMiB: r.ScratchMiB})
	if err != nil {
		return nil, err
	}
	err = share(p.Parts.Volumes, r.Shares)
	if err != nil {
		return nil, err
	}
	return p, p.choosePolicy(r)
}

// open opens each image of the group once.
func open(ctx context.Context, source Images, g *spec.Group) (map[string]assemble.Image, error) {
	images := map[string]assemble.Image{}
	for _, c := range g.Containers {
		if _, done := images[c.Image]; done {
			continue
		}
		img, err := source.Open(ctx, c.Image, g.Credentials)
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", c.Name, err)
		}
		images[c.Image] = img
	}
	return images, nil
}

// choosePolicy settles the text that the group is launched with.
func (p *Prepared) choosePolicy(r Request) error {
	switch {
	case len(r.Policy) > 0:
		p.Text, p.Origin = r.Policy, FromFile
	case p.Group.ExistingPolicy != "" && !r.Regenerate:
		text, err := base64.StdEncoding.DecodeString(p.Group.ExistingPolicy)
		if err != nil {
			return fmt.Errorf("the policy that the description holds is not in base64: %w", err)
		}
		p.Text, p.Origin = text, FromDescription
	default:
		p.Text, p.Origin = p.Parts.Policy.Text(), Generated
	}
	return nil
}

// Hash is the SHA-256 of the policy that the group is launched with: the HOST_DATA of its evidence.
func (p *Prepared) Hash() [32]byte { return policy.Hash(p.Text) }

// Contents are the files of a group's volumes, which have to be given again each time that the group starts.
func Contents(g *spec.Group) group.Contents {
	_, contents := assemble.Volumes(g)
	return contents
}
