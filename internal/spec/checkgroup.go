// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
)

const (
	maxVolumeName  = 128
	maxVolumeBytes = 8 << 20 // of the files of one volume, as much as the longest description
	maxHostname    = 64      // as Linux has it
)

const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// checkVolumes checks the volumes, and that mounts name those that there are.
func (g *Group) checkVolumes() error {
	kinds := map[string]MountKind{}
	for i := range g.Volumes {
		v := &g.Volumes[i]
		if _, twice := kinds[v.Name]; twice {
			return fmt.Errorf("volume %q is given twice", v.Name)
		}
		if err := v.check(); err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
		kinds[v.Name] = v.Kind
	}
	for i := range g.Containers {
		c := &g.Containers[i]
		for _, m := range c.Mounts {
			kind, known := kinds[m.Volume]
			switch {
			case m.Volume == "" && m.SubPath != "":
				return fmt.Errorf("container %d (%q): the mount at %q is a part of no volume", i+1, c.Name, m.Path)
			case m.Volume == "":
			case !known:
				return fmt.Errorf("container %d (%q): the mount at %q is of volume %q, which the group does not have", i+1, c.Name, m.Path, m.Volume)
			case kind != m.Kind:
				return fmt.Errorf("container %d (%q): the mount at %q is of kind %s, and volume %q is of kind %s", i+1, c.Name, m.Path, m.Kind, m.Volume, kind)
			case m.SubPath != "" && !fs.ValidPath(m.SubPath):
				return fmt.Errorf("container %d (%q): the part %q of volume %q is not a relative, clean path", i+1, c.Name, m.SubPath, m.Volume)
			}
		}
	}
	return nil
}

func (v *Volume) check() error {
	switch {
	case v.Name == "" || len(v.Name) > maxVolumeName || strings.Trim(v.Name, alphanumeric+"-_.") != "" || strings.Trim(v.Name, ".") == "":
		return fmt.Errorf("a name has up to %d letters, digits and -_", maxVolumeName)
	case !slices.Contains([]MountKind{MountEmptyDir, MountSecret, MountGitRepo, MountAzureFile}, v.Kind):
		return fmt.Errorf("kind %q is not one of a volume", v.Kind)
	case len(v.Files) > 0 && v.Kind != MountSecret, v.Repository != nil && v.Kind != MountGitRepo, v.Share != nil && v.Kind != MountAzureFile:
		return fmt.Errorf("its content is not that of kind %s", v.Kind)
	}
	seen, total := map[string]bool{}, 0
	for _, f := range v.Files {
		switch total += len(f.Content); {
		case !fs.ValidPath(f.Path) || f.Path == "." || strings.ContainsRune(f.Path, 0):
			return fmt.Errorf("path %q of a file is not relative and clean", f.Path)
		case seen[f.Path]:
			return fmt.Errorf("file %q is given twice", f.Path)
		case f.Mode&^0o777 != 0:
			return fmt.Errorf("mode %#o of file %q has more than permission bits", f.Mode, f.Path)
		case total > maxVolumeBytes:
			return fmt.Errorf("its files are longer than %d bytes", maxVolumeBytes)
		}
		seen[f.Path] = true
	}
	if r := v.Repository; r != nil && r.Directory != "" && !fs.ValidPath(r.Directory) {
		return fmt.Errorf("directory %q of the repository is not relative and clean", r.Directory)
	}
	return nil
}

// checkNetwork checks names, addresses and what may be connected to.
func (g *Group) checkNetwork() error {
	if g.Hostname != "" && (len(g.Hostname) > maxHostname || checkHostname(g.Hostname) != nil) {
		return fmt.Errorf("host name %q is none, or longer than %d characters", g.Hostname, maxHostname)
	}
	for _, s := range g.DNS.Servers {
		if err := checkAddress(s); err != nil {
			return fmt.Errorf("name server: %w", err)
		}
	}
	for _, s := range slices.Concat(g.DNS.Search, g.DNS.Options) {
		if s == "" || strings.ContainsAny(s, " \t\r\n\x00#;") || len(s) > 255 {
			return fmt.Errorf("search domain or option %q of the resolver is none", s)
		}
	}
	for _, a := range g.HostAliases {
		if err := checkAddress(a.Address); err != nil {
			return fmt.Errorf("host alias: %w", err)
		}
		if len(a.Names) == 0 {
			return fmt.Errorf("host alias %s has no names", a.Address)
		}
		for _, name := range a.Names {
			if err := checkHostname(name); err != nil {
				return fmt.Errorf("host alias %s: %w", a.Address, err)
			}
		}
	}
	for i := range g.Containers {
		c := &g.Containers[i]
		for _, p := range c.Exposed {
			if err := p.check(); err != nil {
				return fmt.Errorf("container %d (%q): %w", i+1, c.Name, err)
			}
		}
	}
	return g.Egress.check()
}

// checkHostname accepts names of hosts, and underscores, which are common among them.
func checkHostname(s string) error {
	if s == "" || len(s) > 253 || strings.Trim(s, alphanumeric+"-_.") != "" || s[0] == '-' || s[0] == '.' || strings.Contains(s, "..") {
		return fmt.Errorf("%q is no host name", s)
	}
	return nil
}

// checkAddress accepts an IP address without a zone, which only the machine that it is on could understand.
func checkAddress(s string) error {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return fmt.Errorf("%q is no IP address", s)
	}
	return nil
}

func (p Port) check() error {
	switch {
	case p.Protocol != TCP && p.Protocol != UDP:
		return fmt.Errorf("port %d: protocol %q is neither tcp nor udp", p.GuestPort, p.Protocol)
	case p.GuestPort < 1 || p.GuestPort > 65535 || p.HostPort < 0 || p.HostPort > 65535:
		return fmt.Errorf("port %d (%d of the host) is not one from 1 to 65535", p.GuestPort, p.HostPort)
	case p.HostIP != "":
		if err := checkAddress(p.HostIP); err != nil {
			return fmt.Errorf("port %d: %w", p.GuestPort, err)
		}
	}
	return nil
}

func (e *Egress) check() error {
	if e == nil {
		return nil
	}
	for _, r := range e.Rules {
		prefix, err := netip.ParsePrefix(r.Prefix)
		switch {
		case err != nil:
			return fmt.Errorf("egress: %q is no prefix such as 192.0.2.0/24", r.Prefix)
		case prefix != prefix.Masked():
			return fmt.Errorf("egress: %s has bits beyond its length; write %s", r.Prefix, prefix.Masked())
		case r.Protocol != "" && r.Protocol != TCP && r.Protocol != UDP:
			return fmt.Errorf("egress to %s: protocol %q is neither tcp nor udp", r.Prefix, r.Protocol)
		case slices.Contains(r.Ports, 0):
			return errors.New("egress to " + r.Prefix + ": port 0 is not one from 1 to 65535")
		}
	}
	return nil
}
