// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/sandbox/share"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"
)

// plainMarker must not reach the scratch disk in clear.
const plainMarker = "cofferdam-volume-marker-that-must-not-reach-the-disk"

const (
	secretVolume = "sandbox:///tmp/atlas/secretsVolume/keys"
	shareVolume  = "sandbox:///tmp/atlas/azureFileVolume/files"
)

// volumeScript uses every kind of volume, serves pages, and uses the share again when the host has gone.
const volumeScript = `cat /keys/deep/token; echo
cat /files/from-host; echo
echo "from the guest" > /files/from-guest
touch /x 2>/dev/null || echo "read-only root"
grep -E ' (/|/data|/keys|/files) ' /proc/mounts | cut -d' ' -f2,3 | sort
for at in /data /files /keys; do echo $at $(grep " $at " /proc/mounts | grep -oE 'nosuid|nodev'); done
tail -n 1 /etc/hosts
cat /etc/resolv.conf
mkdir /data/www && echo page > /data/www/index.html
i=0; while [ $i -lt 2000 ]; do echo ` + plainMarker + ` $i; i=$((i+1)); done > /data/marks
sync
printf 'all is done' > /dev/termination-log
httpd -p 8080 -h /data/www
echo ready
read line
cat /files/from-host 2>&1 | sed 's/.*: //'
exit 3`

func volumeMounts(pattern bool) []policy.Mount {
	var list []policy.Mount
	for _, m := range []struct{ at, class, name, access string }{
		{"/data", "emptydir", "data", "rw"}, {"/keys", "secretsVolume", "keys", "ro"}, {"/files", "azureFileVolume", "files", "rw"},
		{"/dev/termination-log", "terminationLog", "log", "rw"},
	} {
		name := m.name
		if pattern {
			name = ".+"
		}
		list = append(list, policy.Mount{
			Destination: m.at, Source: "sandbox:///tmp/atlas/" + m.class + "/" + name, Type: "bind", Options: []string{"rbind", "rshared", m.access},
		})
	}
	return list
}

// volumeRequest asks for a container with all of these volumes.
func volumeRequest(id string, c policy.Container) *guestv1.CreateContainerRequest {
	q := createRequest(id, c)
	q.ReadOnlyRoot, q.Mounts = true, nil
	for _, m := range volumeMounts(false) {
		q.Mounts = append(q.Mounts, &guestv1.Mount{Destination: m.Destination, Source: m.Source, Type: m.Type, Options: m.Options})
	}
	return q
}

// TestRealVolumes boots one machine and uses volumes of every kind: filled by the host, served by it until it goes away, and on
// an encrypted disk. Probes and the termination log come with it.
func TestRealVolumes(t *testing.T) {
	testcap.Require(t, testcap.QEMU, testcap.GuestImage, testcap.Images)
	if testing.Short() {
		t.Skip("boots a machine, which the race detector does not see into")
	}
	ctx, cancel := context.WithTimeout(t.Context(), vmTimeout)
	defer cancel()
	disks, root, roots := egressRoot(vmLayers(ctx, t))
	disk := filepath.Join(t.TempDir(), "volumes")
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, 1<<30))
	disks = append(disks, qemu.Disk{Path: disk, Serial: "volumes"})
	main := vmContainer("main", roots, "/bin/sh", "-c", volumeScript)
	again := vmContainer("again", roots, "/bin/sh", "-c", "cat /data/www/index.html /files/from-host; echo x >> /data/count; exit 0")
	hang := vmContainer("hang", roots, "/bin/sh", "-c", "echo ready; read line; echo waiting; exec ls -l /files/nothing-that-is-known")
	main.Mounts, again.Mounts, hang.Mounts = volumeMounts(true), volumeMounts(true), volumeMounts(true)
	text := (&policy.Policy{
		APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework, Containers: []policy.Container{main, again, hang},
		AllowPropertiesAccess: true, AllowDumpStacks: true, AllowRuntimeLogging: true, Fragments: []policy.Fragment{},
	}).Text()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "from-host"), []byte("on the host"), 0o600))

	vm := bootVM(ctx, t, text, disks)
	g := vm.Guest()
	must(t, g.SetPolicy(ctx, text))
	must(t, g.ConfigureNetwork(ctx, &guestv1.ConfigureNetworkRequest{
		Nameservers: []string{"192.0.2.53"}, Search: []string{"example.org"}, Hosts: []*guestv1.HostsEntry{{Address: "192.0.2.9", Names: []string{"db"}}},
	}))
	must(t, g.MountScratch(ctx, sandbox.GroupScratch, "volumes"))
	must(t, g.FillVolume(ctx, secretVolume, &guestv1.VolumeFile{Path: "deep/token", Content: []byte("s3c"), Mode: 0o400},
		&guestv1.VolumeFile{Path: "deep/token", Content: []byte("ret"), Append: true}))
	endShare, _ := serveShare(ctx, t, g, dir)
	must(t, g.MountRoot(ctx, podID, root))
	p, err := g.CreateContainer(ctx, volumeRequest(podID, main))
	must(t, err)
	must(t, p.Start(ctx))
	out := bufio.NewReader(p.Stdout)
	want := "s3cret\non the host\nread-only root\n/ overlay\n/data ext4\n/files fuse\n/keys tmpfs\n" +
		"/data nodev\n/files nosuid nodev\n/keys nosuid nodev\n192.0.2.9 db\n" +
		"nameserver 192.0.2.53\nsearch example.org\nready\n"
	if got := readUntil(t, out, "ready\n"); got != want {
		t.Errorf("the container says %q, want %q", got, want)
	}
	b, err := os.ReadFile(filepath.Join(dir, "from-guest"))
	if err != nil || string(b) != "from the guest\n" {
		t.Errorf("the host finds %q, %v", b, err)
	}
	volumeProbes(ctx, t, g)
	_, err = g.TerminationMessage(ctx, podID)
	wantCode(t, err, guestv1.CodeWrongState)
	endShare()
	_, err = p.Stdin.Write([]byte("go on\n"))
	must(t, err)
	last, err := io.ReadAll(out)
	must(t, err)
	if s := string(last); s != "Software caused connection abort\n" && s != "Transport endpoint is not connected\n" && s != "Socket not connected\n" {
		t.Errorf("without the host the share says %q", s)
	}
	w, err := p.Wait(ctx)
	must(t, err)
	m, err := g.TerminationMessage(ctx, podID)
	if err != nil || string(m) != "all is done" || w.GetExitCode() != 3 {
		t.Errorf("the container ended with %v, %q, %v", w, m, err)
	}
	p.CloseStreams()
	must(t, g.ShutdownContainer(ctx, podID))
	must(t, g.UnmountOverlay(ctx, podID))
	endShare, stall := serveShare(ctx, t, g, dir) // for containers to come
	volumeRestarts(ctx, t, g, root.Targets, again)
	_, err = g.ShareVolume(ctx, shareVolume, false)
	wantCode(t, err, guestv1.CodeWrongState)
	volumeStall(ctx, t, g, root.Targets, hang, stall)
	endShare()
	exit := vm.PowerOff(ctx, 5*time.Minute)
	if exit.Err() != nil {
		t.Errorf("power-off: %v", exit.Err())
	}
	wantCiphertext(t, disk)
}

// gate is a connection on which nothing more is read once it is shut.
type gate struct {
	net.Conn
	shut, over chan struct{}
}

func (g *gate) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	select {
	case <-g.shut:
		<-g.over
	default:
	}
	return n, err
}

// serveShare serves dir, and returns what ends that, and what lets it answer nothing any more.
func serveShare(ctx context.Context, t *testing.T, g *sandbox.Guest, dir string) (end, stall func()) {
	t.Helper()
	conn, err := g.ShareVolume(ctx, shareVolume, false)
	must(t, err)
	served, stop := context.WithCancel(ctx)
	through := &gate{Conn: conn, shut: make(chan struct{}), over: make(chan struct{})}
	over := make(chan error, 1)
	go func() { over <- share.Serve(served, through, dir, false) }()
	return func() {
		t.Helper()
		stop()
		close(through.over)
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Errorf("serving the share: %v", err)
		}
	}, sync.OnceFunc(func() { close(through.shut) })
}

// volumeStall ends a container that waits for a host that answers nothing: it can not be killed before the share has ended.
func volumeStall(ctx context.Context, t *testing.T, g *sandbox.Guest, targets []string, c policy.Container, stall func()) {
	t.Helper()
	must(t, g.MountRoot(ctx, hogID, sandbox.Root{Targets: targets}))
	q := volumeRequest(hogID, c)
	q.Stdio = &guestv1.Stdio{Stdin: true, Stdout: true}
	p, err := g.CreateContainer(ctx, q)
	must(t, err)
	must(t, p.Start(ctx))
	out := bufio.NewReader(p.Stdout)
	if got := readUntil(t, out, "ready\n"); got != "ready\n" {
		t.Errorf("the container says %q", got)
	}
	stall()
	_, err = p.Stdin.Write([]byte("go on\n"))
	must(t, err)
	if got := readUntil(t, out, "waiting\n"); got != "waiting\n" {
		t.Errorf("the container says %q", got)
	}
	began := time.Now()
	must(t, g.ShutdownContainer(ctx, hogID))
	t.Logf("a container that waited for the host was shut down after %v", time.Since(began))
	p.CloseStreams()
	must(t, g.UnmountOverlay(ctx, hogID))
}

func readUntil(t *testing.T, r *bufio.Reader, last string) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == last {
			return b.String()
		}
	}
}

func volumeProbes(ctx context.Context, t *testing.T, g *sandbox.Guest) {
	t.Helper()
	get := func(path string) *guestv1.HTTPProbe { return &guestv1.HTTPProbe{Path: path} }
	for _, tt := range []struct {
		port   uint32
		http   *guestv1.HTTPProbe
		status uint32
		reason string
	}{
		{8080, nil, 0, ""}, {8080, get("/index.html"), 200, ""}, {8080, get("/nothing"), 404, "the status 404 is not 200 to 399"},
		{9, nil, 0, "the connection was refused"},
	} {
		a, err := g.Probe(ctx, &guestv1.ProbeRequest{Port: tt.port, Http: tt.http, TimeoutMs: 60_000})
		must(t, err)
		if a.GetSuccess() != (tt.reason == "") || a.GetStatus() != tt.status || a.GetReason() != tt.reason {
			t.Errorf("probing %d %v: %v", tt.port, tt.http, a)
		}
	}
}

// volumeRestarts runs a container again and again. What it leaves is what the policy's state has of it.
func volumeRestarts(ctx context.Context, t *testing.T, g *sandbox.Guest, targets []string, c policy.Container) {
	t.Helper()
	const rounds = 6
	var before, after uint64
	for i := range rounds {
		id := fmt.Sprintf("%064x", i)
		must(t, g.MountRoot(ctx, id, sandbox.Root{Targets: targets}))
		q := volumeRequest(id, c)
		q.Stdio = &guestv1.Stdio{Stdout: true}
		p, err := g.CreateContainer(ctx, q)
		must(t, err)
		must(t, p.Start(ctx))
		out, err := io.ReadAll(p.Stdout)
		if err != nil || string(out) != "page\non the host" {
			t.Errorf("round %d: %q, %v", i, out, err)
		}
		_, err = p.Wait(ctx)
		must(t, err)
		p.CloseStreams()
		must(t, g.ShutdownContainer(ctx, id))
		must(t, g.UnmountOverlay(ctx, id))
		props, err := g.Properties(ctx)
		if err != nil || len(props.GetContainers()) != 0 {
			t.Errorf("round %d leaves %v, %v", i, props.GetContainers(), err)
		}
		after = props.GetMemoryAvailableBytes()
		if i == 1 { // what is read first stays in memory
			before = after
		}
	}
	const noise = 16 << 20
	t.Logf("%d KiB were available after round 1, %d after round %d", before>>10, after>>10, rounds-1)
	if after+noise < before {
		t.Errorf("%d bytes of memory are gone", before-after)
	}
}

// wantCiphertext looks at what the guest wrote as the host could.
func wantCiphertext(t *testing.T, disk string) {
	t.Helper()
	f, err := os.Open(disk)
	must(t, err)
	defer func() { _ = f.Close() }()
	written := 0
	b := make([]byte, 1<<20)
	for at := int64(0); ; at += int64(len(b)) - 64 {
		n, err := f.ReadAt(b, at)
		if bytes.Contains(b[:n], []byte(plainMarker[:20])) || bytes.Contains(b[:n], []byte("lost+found")) {
			t.Fatal("the disk holds plaintext")
		}
		for i := 0; i+4096 <= n; i += 4096 {
			if !bytes.Equal(b[i:i+4096], make([]byte, 4096)) {
				written++
			}
		}
		if err != nil {
			break
		}
	}
	if written < 30 {
		t.Errorf("only %d blocks of the disk were written", written)
	}
}
