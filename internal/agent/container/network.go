// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"net/netip"
	"os"
	"path"
	"strings"
)

// Network is what the network files of containers say.
type Network struct {
	Addresses  []netip.Addr // the group's own
	ResolvConf string       // content of the resolver files
	Hosts      string       // further lines of the hosts files
}

// hosts is the content of a container's hosts file.
func (n *Network) hosts(host string) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for _, a := range n.Addresses {
		b.WriteString(a.String() + " " + host + "\n")
	}
	b.WriteString(n.Hosts)
	return b.String()
}

// network makes the files that say who the container is and whom it knows, and returns their mounts. A destination
// that the request mounts itself is left to it.
func (v *Volumes) network(s *Spec) ([]Mount, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	host := hostname(s)
	files := []struct{ destination, content string }{
		{"/etc/hostname", host + "\n"},
		{"/etc/hosts", v.Network.hosts(host)},
		{"/etc/resolv.conf", v.Network.ResolvConf},
	}
	base := "/etc/" + s.ID
	dir, err := v.dir(base)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	var mounts []Mount
	for _, f := range files {
		if mounted(s.Mounts, f.destination) {
			continue
		}
		name := path.Base(f.destination)
		err = writeNew(dir, name, f.content)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, Mount{Destination: f.destination, Source: base + "/" + name, Options: []string{"rbind", "rprivate", "rw"}})
	}
	return mounts, nil
}

func mounted(mounts []Mount, destination string) bool {
	for _, m := range mounts {
		if m.Destination == destination {
			return true
		}
	}
	return false
}

// forget removes the files that network and newLog made.
func (v *Volumes) forget(id string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := os.RemoveAll(v.Root + "/etc/" + id)
	if source, ok := v.logs[id]; ok {
		err = errors.Join(err, os.RemoveAll(v.Path(source)))
		delete(v.logs, id)
	}
	return err
}

func hostname(s *Spec) string {
	if s.Hostname != "" {
		return s.Hostname
	}
	return s.ID[:min(len(s.ID), 12)]
}
