// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// sandboxVolumes is where the guest keeps the volumes of a group, by class.
const sandboxVolumes = "sandbox:///tmp/atlas/"

// request is the mount that a rule allows: the rule's source ends in a pattern for a name, which is chosen here.
func request(m policy.Mount, name string) group.Mount {
	return group.Mount{
		Destination: m.Destination, Source: strings.TrimSuffix(m.Source, ".+") + name, Type: m.Type, Options: m.Options,
	}
}

// sourceName names the source of what the container number i has at a destination: a volume by its name, so that all who
// mount it share it, and everything else so that nobody shares it but the restarted container itself.
func sourceName(g *spec.Group, i int, destination string) string {
	c := &g.Containers[i]
	m := slices.IndexFunc(c.Mounts, func(m spec.Mount) bool { return m.Path == destination })
	if m >= 0 && c.Mounts[m].Volume != "" {
		return volumeName(c.Mounts[m].Volume)
	}
	name := "v" + plainName(strings.Trim(path.Clean(destination), "/"))
	if len(g.Containers) > 1 && destination != resolver {
		name = "c-" + plainName(c.Name) + "__" + name // no plain name has two of them
	}
	return name
}

// resolver is the one file that all containers share.
const resolver = "/etc/resolv.conf"

// volumeName is the last element of a volume's source. It begins as no other name does.
func volumeName(name string) string { return "n-" + plainName(name) }

// plainName writes what the last element of a source must not have as _XX. Different names stay different.
func plainName(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

// Volumes are those that must be filled or served, and the files of those whose content is at hand.
func Volumes(g *spec.Group) ([]group.Volume, group.Contents) {
	var list []group.Volume
	contents := group.Contents{}
	for _, v := range g.Volumes {
		if v.Kind == spec.MountEmptyDir && v.SizeLimitBytes == 0 && !v.Memory && len(v.Files) == 0 {
			continue // the guest makes it when it is first mounted
		}
		if len(v.Files) > 0 {
			contents[v.Name] = v.Files
		}
		list = append(list, group.Volume{Source: sandboxVolumes + string(v.Kind) + "/" + volumeName(v.Name), Volume: v})
	}
	return list, contents
}
