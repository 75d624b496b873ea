// SPDX-License-Identifier: Apache-2.0

package container

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNetworkFiles(t *testing.T) {
	t.Parallel()
	r := &Runner{Volumes: &Volumes{Root: filepath.Join(t.TempDir(), "volumes"), Network: Network{ResolvConf: "nameserver 192.0.2.1\n"}}}
	r.SetNetwork(Network{
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")},
		Hosts:     "192.0.2.9 db cache\n",
	})
	v := r.Volumes
	s := &Spec{ID: strings.Repeat("c", 64), Hostname: "web", Mounts: []Mount{{Destination: "/etc/resolv.conf"}}}
	mounts, err := v.network(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(mounts) != 2 || mounts[0].Destination != "/etc/hostname" || mounts[1].Destination != "/etc/hosts" {
		t.Fatalf("mounts are %+v, want all but what the request mounts itself", mounts)
	}
	if got := read(t, v.Path(mounts[0].Source)); got != "web\n" {
		t.Errorf("the hostname file says %q", got)
	}
	const hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n192.0.2.7 web\n2001:db8::7 web\n192.0.2.9 db cache\n"
	if got := read(t, v.Path(mounts[1].Source)); got != hosts {
		t.Errorf("the hosts file says %q, want %q", got, hosts)
	}
	err = v.forget(s.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(v.Path(mounts[0].Source))
	if !os.IsNotExist(err) {
		t.Error("the files are left")
	}
}

// TestFilesOfContainersThatHaveGone makes the files of many containers. What is left is what the group shares.
func TestFilesOfContainersThatHaveGone(t *testing.T) {
	t.Parallel()
	v := &Volumes{Root: filepath.Join(t.TempDir(), "volumes"), Budget: 1 << 20}
	for i := range 50 {
		id := strings.Repeat("c", i+1)
		m := Mount{Source: volume, Destination: "/data"}
		prepared(t, v, t.TempDir(), m)
		log, err := v.newLog(id, "/tmp/atlas/terminationLog/"+id)
		if err != nil {
			t.Fatal(err)
		}
		_ = message(log)
		_, err = v.network(&Spec{ID: id, Mounts: []Mount{m}})
		if err == nil {
			err = v.forget(id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]int{"/etc": 0, "/tmp/atlas/terminationLog": 0, "/tmp/atlas/emptydir": 1} {
		list, err := os.ReadDir(v.Path(dir))
		if err != nil || len(list) != want {
			t.Errorf("%s holds %d entries, %v, want %d", dir, len(list), err, want)
		}
	}
	if len(v.known) != 1 || len(v.logs) != 0 {
		t.Errorf("known are %v and %v", v.known, v.logs)
	}
}
