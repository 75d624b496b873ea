// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"cofferdam.dev/internal/spec"
)

// Substitutes are images that take the place of others. Whoever substitutes gets another policy: it pins what runs.
type Substitutes struct {
	// Map has the image for a reference, exactly as the description writes it.
	Map map[string]string
	// Sidecar is the image of our release sidecar. It takes the place of the platform's, whichever version, and is what
	// WithSKR adds; empty if there is none at hand.
	Sidecar string
	// WithSKR adds a release sidecar to a group that has none, with the environment SidecarEnv.
	WithSKR    bool
	SidecarEnv []spec.EnvVar
}

// Replacement is an image that stands in for another one.
type Replacement struct {
	Container string `json:"container"`
	From      string `json:"from,omitempty"` // empty: the container was added
	To        string `json:"to"`
}

// sidecarName is the name of a release sidecar that was not in the description.
const sidecarName = "skr-sidecar"

// sidecarRepositories are the ends of the repositories that Azure's sidecars are published in, and those of their
// predecessors.
var sidecarRepositories = []string{"aci/skr", "aci/encfs"}

// IsSidecar says whether an image is Azure's release or filesystem sidecar: what cofferdam's own sidecar is made to
// replace, with the same commands, variables and answers.
func IsSidecar(ref string) bool {
	ref, _, _ = strings.Cut(ref, "@")
	dir, name := path.Split(ref)
	name, _, _ = strings.Cut(name, ":")
	for _, r := range sidecarRepositories {
		if strings.HasSuffix("/"+dir+name, "/"+r) {
			return true
		}
	}
	return false
}

// ErrNoSidecar says that a release sidecar is asked for and no image of one is at hand.
var ErrNoSidecar = errors.New("no image of the release sidecar is at hand")

func (s Substitutes) apply(g *spec.Group) ([]Replacement, error) {
	var list []Replacement
	has := false
	for i := range g.Containers {
		c := &g.Containers[i]
		sidecar := IsSidecar(c.Image)
		to, mapped := s.Map[c.Image]
		if !mapped && sidecar {
			to = s.Sidecar
		}
		has = has || sidecar || s.Sidecar != "" && c.Image == s.Sidecar
		if to != "" {
			list = append(list, Replacement{Container: c.Name, From: c.Image, To: to})
			c.Image = to
		}
	}
	if !s.WithSKR || has {
		return list, nil
	}
	if s.Sidecar == "" {
		return nil, fmt.Errorf("adding a release sidecar: %w", ErrNoSidecar)
	}
	g.Containers = append(g.Containers, spec.Container{
		Name: sidecarName, Image: s.Sidecar, AllowStdio: true, AllowPrivilegeEscalation: false, Command: []string{"/skr.sh"},
		Env: s.SidecarEnv,
	})
	return append(list, Replacement{Container: sidecarName, To: s.Sidecar}), nil
}
