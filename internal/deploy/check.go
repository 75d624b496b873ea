// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"
	"strings"

	"cofferdam.dev/internal/spec"
)

// check refuses what can not be run here, and notes what has no effect.
func (p *Prepared) check(g *spec.Group) error {
	switch {
	case len(g.Definitions) > 0:
		return fmt.Errorf("%w: it describes containers by their policy, and says no image", ErrNotRunnable)
	case g.Profile:
		return fmt.Errorf("%w: it is a profile, of which groups are made", ErrNotRunnable)
	}
	for _, u := range g.Unknown {
		if strings.Contains(u.Path, "volumes[") {
			return fmt.Errorf("%w: the content of a volume is known to a deployment alone: %s", ErrNotRunnable, u)
		}
		p.Notes = append(p.Notes, u.String()+"; it is left out")
	}
	for _, c := range g.Containers {
		for _, m := range c.Mounts {
			if m.SubPath != "" {
				return fmt.Errorf("%w: container %s mounts a part of volume %s (%s) at %s; only a whole volume can be mounted", ErrNotRunnable,
					c.Name, m.Volume, m.SubPath, m.Path)
			}
		}
	}
	if len(g.Identities) > 0 {
		p.Notes = append(p.Notes, "managed identities are the platform's: here a token in a file can stand in for them (--identity-token)")
	}
	for _, v := range g.Volumes {
		if v.SizeLimitBytes > 0 {
			p.Notes = append(p.Notes, fmt.Sprintf("the size limit of volume %s is not enforced", v.Name))
		}
	}
	if g.Diagnostics {
		p.Notes = append(p.Notes, "diagnostics are sent nowhere: logs stay on this machine (cofferdam group logs)")
	}
	return nil
}
