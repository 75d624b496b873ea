// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/spec"
)

// hostileHost is a double of the host: it boots the shipped guest with the policy of a group of two containers, and then
// says to it whatever it likes, in whatever order.
type hostileHost struct {
	t     *testing.T
	vm    *sandbox.VM
	guest guestv1.GuestService
	plan  *group.Plan
	roots []string // targets of the layers of the image, base first
	ids   map[string]string
}

// opened opens images for deploy.
type opened struct{ home string }

func (o opened) Open(ctx context.Context, ref string, _ []spec.RegistryCredential) (assemble.Image, error) {
	img, err := image.Open(ctx, ref, image.Options{})
	if err != nil {
		return assemble.Image{}, err
	}
	cache, err := layer.OpenCache(filepath.Join(o.home, "layers"))
	if err != nil {
		return assemble.Image{}, err
	}
	entries, err := cache.GetAll(ctx, layer.Sources(img.Layers()), nil)
	return assemble.Image{Image: img, Entries: entries}, err
}

// attacked is the group that the policy is made of: one container with a volume, a probe's command and its output for the
// host, and one that keeps everything to itself.
func attacked() spec.Group {
	sleep := []string{"sleep", "1000"}
	return spec.Group{
		Name: "attacked", CPUs: 1, MemoryMiB: 512,
		Volumes: []spec.Volume{{Name: "data", Kind: spec.MountEmptyDir}},
		Containers: []spec.Container{
			{
				Name: "open", Image: ref("busybox"), Command: sleep, AllowStdio: true, AllowPrivilegeEscalation: true,
				AllowExec: [][]string{{"true"}}, Mounts: []spec.Mount{{Kind: spec.MountEmptyDir, Path: "/data", Volume: "data"}},
			},
			{Name: "quiet", Image: ref("busybox"), Command: []string{"sleep", "2000"}, AllowPrivilegeEscalation: true},
		},
	}
}

func bootAttacked(t *testing.T) *hostileHost {
	t.Helper()
	h := home(t)
	p, err := deploy.Prepare(t.Context(), deploy.Request{Group: attacked(), Images: opened{h}, Generate: deploy.PolicyOptions(spec.PlatformOwn)})
	if err != nil {
		t.Fatal(err)
	}
	guest, err := guestimage.Current(h)
	if err != nil {
		t.Fatal(err)
	}
	m := deploy.Machine{Guest: guest, Accelerator: qemu.TCG, TEE: qemu.Simulated}
	choice, emulator, err := m.Choose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x := &hostileHost{t: t, ids: map[string]string{}}
	x.plan, err = p.Plan(m, choice, emulator)
	if err != nil {
		t.Fatal(err)
	}
	b := x.plan.Boot
	cfg := sandbox.Config{
		Emulator: emulator, ConsolePath: filepath.Join(t.TempDir(), "console.log"),
		Machine: qemu.Config{
			Name: "attacked", Accelerator: qemu.TCG, TEE: qemu.Simulated, VCPUs: 1, MemoryMiB: x.plan.MemoryMiB,
			Kernel: b.Kernel, Initrd: b.Initrd, Cmdline: b.Cmdline, HostData: p.Hash(),
		},
		Watch: func(g guestv1.GuestService) guestv1.GuestService { x.guest = g; return g },
	}
	for i, l := range x.plan.Containers[0].Layers {
		cfg.Machine.Disks = append(cfg.Machine.Disks, qemu.Disk{Path: l.Path, Serial: fmt.Sprintf("layer%d", i), ReadOnly: true})
		x.roots = append(x.roots, fmt.Sprintf("/run/mounts/scsi/m%d", i))
	}
	cfg.Machine.Disks = append(cfg.Machine.Disks, qemu.Disk{Path: flippedCopy(t, x.plan.Containers[0].Layers[0].Path), Serial: "flipped", ReadOnly: true})
	processor, err := simsp.Open(t.TempDir())
	if err == nil {
		cfg.Simulator, err = processor.Launch(simsp.Launch{
			KernelPath: b.Kernel, InitrdPath: b.Initrd, Cmdline: b.Cmdline, VCPUs: 1, HostData: p.Hash(), Policy: snp.GuestPolicy(qemu.DefaultSNPPolicy),
		})
	}
	if err == nil {
		x.vm, err = sandbox.Start(t.Context(), cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.vm.Kill(); <-x.vm.Done() })
	err = x.vm.Ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// flippedCopy is a layer with one bit changed, where every mount looks.
func flippedCopy(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[1024+0x78] ^= 1
	out := filepath.Join(t.TempDir(), "flipped")
	err = os.WriteFile(out, data, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// refused checks that the guest said no, with a code and a reason, and that it is there and sane afterwards.
func (x *hostileHost) refused(name, code string, err error) {
	x.t.Helper()
	d := guestv1.DenialFrom(err)
	if d == nil || d.GetCode() != code || len(d.GetReasons()) == 0 {
		x.t.Errorf("%s: the guest answered %v, want %s", name, err, code)
	}
	_, err = x.guest.Hello(x.t.Context(), &guestv1.HelloRequest{})
	if err != nil {
		x.t.Fatalf("%s: the guest does not answer any more: %v", name, err)
	}
}

func (x *hostileHost) ok(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

// create is the honest request for a container, changed.
func (x *hostileHost) create(name string, change func(*guestv1.CreateContainerRequest)) error {
	i := slices.IndexFunc(x.plan.Containers, func(c group.ContainerPlan) bool { return c.Name == name })
	c := x.plan.Containers[i]
	r := &guestv1.CreateContainerRequest{
		ContainerId: x.ids[name], Command: c.Command, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, Hostname: c.Hostname,
		Stdio: &guestv1.Stdio{Stdin: true, Stdout: true, Stderr: true},
		Capabilities: &guestv1.Capabilities{
			Bounding: c.Capabilities.Bounding, Effective: c.Capabilities.Effective, Inheritable: c.Capabilities.Inheritable,
			Permitted: c.Capabilities.Permitted, Ambient: c.Capabilities.Ambient,
		},
	}
	for _, m := range c.Mounts {
		r.Mounts = append(r.Mounts, &guestv1.Mount{Destination: m.Destination, Source: m.Source, Type: m.Type, Options: m.Options})
	}
	change(r)
	resp, err := x.guest.CreateContainer(x.t.Context(), r)
	if err == nil && name == "quiet" && (len(resp.GetStdio().GetStdin())+len(resp.GetStdio().GetStdout())+len(resp.GetStdio().GetStderr()) > 0) {
		x.t.Error("a container that keeps its streams to itself gives them out")
	}
	return err
}

func (x *hostileHost) overlay(id string, layers []string) error {
	top := slices.Clone(layers)
	slices.Reverse(top)
	_, err := x.guest.MountOverlay(x.t.Context(), &guestv1.MountOverlayRequest{
		ContainerId: id, LayerTargets: top, Target: "/run/gcs/c/" + id + "/rootfs",
	})
	return err
}

func (x *hostileHost) mount(serial string, n int, root []byte) error {
	l := x.plan.Containers[0].Layers[n]
	if root == nil {
		r, err := l.Root()
		x.ok(err)
		root = r[:]
	}
	_, err := x.guest.MountLayer(x.t.Context(), &guestv1.MountLayerRequest{Serial: serial, RootHash: root, DataBlocks: l.DataBlocks, Target: x.roots[n]})
	return err
}

// TestHostileHost plays the attacks of the threat model against one real guest. Nothing is admitted that the policy does
// not say, and the guest goes on after each of them.
func TestHostileHost(t *testing.T) {
	needVM(t)
	x := bootAttacked(t)
	x.beforeThePolicy()
	x.layers()
	x.containers()
	x.processes()
	x.volumes()
	x.floods()
	x.pauses()
	exit := x.vm.PowerOff(t.Context(), patience)
	if exit.Err() != nil {
		t.Errorf("after all that the guest did not power off in order: %v", exit.Err())
	}
}

func (x *hostileHost) beforeThePolicy() {
	ctx := x.t.Context()
	x.refused("a layer before the policy", guestv1.CodeNoPolicy, x.mount("layer0", 0, nil))
	_, err := x.guest.Evidence(ctx, &guestv1.EvidenceRequest{Nonce: make([]byte, 32)})
	x.refused("evidence before the policy", guestv1.CodeNoPolicy, err)
	other := append(slices.Clone(x.plan.Policy), '\n')
	_, err = x.guest.SetPolicy(ctx, &guestv1.SetPolicyRequest{Policy: other})
	x.refused("another policy", guestv1.CodePolicyMismatch, err)
	_, err = x.guest.SetPolicy(ctx, &guestv1.SetPolicyRequest{Policy: x.plan.Policy})
	x.ok(err)
	_, err = x.guest.SetPolicy(ctx, &guestv1.SetPolicyRequest{Policy: x.plan.Policy})
	x.refused("the policy again", guestv1.CodePolicyAlreadySet, err)
}

func (x *hostileHost) layers() {
	wrong := make([]byte, 32)
	x.refused("a layer that the policy does not know", guestv1.CodePolicyDenied, x.mount("layer0", 0, wrong))
	x.refused("a changed layer under the right hash", guestv1.CodeFailed, x.mount("flipped", 0, nil))
	x.refused("another disk's content under the right hash", guestv1.CodeFailed, x.mount("layer1", 0, nil))
	x.refused("a disk that is not there", guestv1.CodeFailed, x.mount("layer9", 0, nil))
	for i := range x.roots {
		x.ok(x.mount(fmt.Sprintf("layer%d", i), i, nil))
	}
	x.refused("a layer twice", guestv1.CodeWrongState, x.mount("layer0", 0, nil))
	for _, name := range []string{"open", "quiet"} {
		x.ids[name] = hex.EncodeToString([]byte(strings.Repeat(name[:1], 32)))
		x.refused("a container without its root filesystem", guestv1.CodeNotFound, x.create(name, func(*guestv1.CreateContainerRequest) {}))
	}
	id := x.ids["open"]
	reversed := slices.Clone(x.roots)
	slices.Reverse(reversed)
	x.refused("layers in another order", guestv1.CodePolicyDenied, x.overlay(id, reversed))
	x.refused("a layer left out", guestv1.CodePolicyDenied, x.overlay(id, x.roots[:1]))
	x.refused("a layer that is not mounted", guestv1.CodeNotFound, x.overlay(id, append(slices.Clone(x.roots), "/run/mounts/scsi/m77")))
	for _, name := range []string{"open", "quiet"} {
		x.ok(x.overlay(x.ids[name], x.roots))
	}
	_, err := x.guest.UnmountLayer(x.t.Context(), &guestv1.UnmountLayerRequest{Target: x.roots[0]})
	x.refused("a layer taken away under an overlay", guestv1.CodeWrongState, err)
}

func (x *hostileHost) containers() {
	add := func(m *guestv1.Mount) func(*guestv1.CreateContainerRequest) {
		return func(r *guestv1.CreateContainerRequest) { r.Mounts = append(r.Mounts, m) }
	}
	bind := func(destination, source string) *guestv1.Mount {
		return &guestv1.Mount{Destination: destination, Source: source, Type: "bind", Options: []string{"rbind", "rshared", "rw"}}
	}
	for name, tc := range map[string]struct {
		code   string
		change func(*guestv1.CreateContainerRequest)
	}{
		"another command":     {guestv1.CodePolicyDenied, func(r *guestv1.CreateContainerRequest) { r.Command = []string{"sh", "-c", "cat /data/*"} }},
		"an argument more":    {guestv1.CodePolicyDenied, func(r *guestv1.CreateContainerRequest) { r.Command = append(slices.Clone(r.Command), "x") }},
		"another directory":   {guestv1.CodePolicyDenied, func(r *guestv1.CreateContainerRequest) { r.WorkingDir = "/etc" }},
		"privileges":          {guestv1.CodePolicyDenied, func(r *guestv1.CreateContainerRequest) { r.Privileged = true }},
		"a filter of its own": {guestv1.CodePolicyDenied, func(r *guestv1.CreateContainerRequest) { r.Seccomp = []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`) }},
		"a mount more":        {guestv1.CodePolicyDenied, add(bind("/more", "sandbox:///tmp/atlas/emptydir/n-data"))},
		"a secret in the volume's place": {guestv1.CodePolicyDenied, func(r *guestv1.CreateContainerRequest) {
			for _, m := range r.GetMounts() {
				m.Source = strings.Replace(m.GetSource(), "/emptydir/", "/secretsVolume/", 1)
			}
		}},
		"a source with a way out":      {guestv1.CodeBadRequest, add(bind("/x", "sandbox:///tmp/atlas/emptydir/../../../etc"))},
		"the guest's own directory":    {guestv1.CodeBadRequest, add(bind("/run/cofferdam", "sandbox:///tmp/atlas/emptydir/x"))},
		"a path of the guest":          {guestv1.CodeBadRequest, add(bind("/x", "/run"))},
		"a variable twice":             {guestv1.CodeBadRequest, func(r *guestv1.CreateContainerRequest) { r.Env = append(slices.Clone(r.Env), "PATH=/x", "PATH=/y") }},
		"a capability that is not one": {guestv1.CodeBadRequest, func(r *guestv1.CreateContainerRequest) { r.Capabilities.Bounding = []string{"SYS_ADMIN"} }},
		"a user of nobody":             {guestv1.CodeBadRequest, func(r *guestv1.CreateContainerRequest) { r.User = "nobody-here" }},
	} {
		x.refused("a container with "+name, tc.code, x.create("open", tc.change))
	}
	// What the policy does not list is taken out of the environment and of the capabilities, not given.
	for _, name := range []string{"open", "quiet"} {
		x.ok(x.create(name, func(r *guestv1.CreateContainerRequest) {
			r.Env = append(slices.Clone(r.Env), "LD_PRELOAD=/data/evil.so")
			r.Capabilities.Bounding = append(slices.Clone(r.Capabilities.Bounding), "CAP_SYS_ADMIN")
		}))
		x.refused("a container twice", guestv1.CodeWrongState, x.create(name, func(*guestv1.CreateContainerRequest) {}))
	}
	_, err := x.guest.ExecProcess(x.t.Context(), x.exec("open", "true"))
	x.refused("a process in a container that has not started", guestv1.CodeWrongState, err)
	for _, name := range []string{"open", "quiet"} {
		_, err = x.guest.StartContainer(x.t.Context(), &guestv1.StartContainerRequest{ContainerId: x.ids[name]})
		x.ok(err)
		_, err = x.guest.StartContainer(x.t.Context(), &guestv1.StartContainerRequest{ContainerId: x.ids[name]})
		x.refused("a start that is replayed", guestv1.CodeWrongState, err)
	}
	_, err = x.guest.ConfigureNetwork(x.t.Context(), &guestv1.ConfigureNetworkRequest{Nameservers: []string{"10.0.0.1"}})
	x.refused("another resolver under running containers", guestv1.CodeWrongState, err)
}

func (x *hostileHost) exec(name string, command ...string) *guestv1.ExecProcessRequest {
	i := slices.IndexFunc(x.plan.Containers, func(c group.ContainerPlan) bool { return c.Name == name })
	c := x.plan.Containers[i]
	return &guestv1.ExecProcessRequest{
		ContainerId: x.ids[name], Command: command, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User,
		Capabilities: &guestv1.Capabilities{
			Bounding: c.Capabilities.Bounding, Effective: c.Capabilities.Effective, Inheritable: c.Capabilities.Inheritable,
			Permitted: c.Capabilities.Permitted, Ambient: c.Capabilities.Ambient,
		},
		Stdio: &guestv1.Stdio{Stdout: true},
	}
}

func (x *hostileHost) processes() {
	ctx := x.t.Context()
	for name, r := range map[string]*guestv1.ExecProcessRequest{
		"a shell":                       x.exec("open", "sh"),
		"the probe's command elsewhere": x.exec("quiet", "true"),
		"an argument more":              x.exec("open", "true", "x"),
	} {
		_, err := x.guest.ExecProcess(ctx, r)
		x.refused("starting "+name, guestv1.CodePolicyDenied, err)
	}
	resp, err := x.guest.ExecProcess(ctx, x.exec("open", "true"))
	x.ok(err)
	_, err = x.guest.WaitProcess(ctx, &guestv1.WaitProcessRequest{ContainerId: x.ids["open"], ExecId: resp.GetExecId()})
	x.ok(err)
	_, err = x.guest.SignalProcess(ctx, &guestv1.SignalProcessRequest{ContainerId: x.ids["open"], ExecId: resp.GetExecId(), Signal: 9})
	x.refused("a signal to a process that has ended", guestv1.CodeWrongState, err)
	_, err = x.guest.SignalProcess(ctx, &guestv1.SignalProcessRequest{ContainerId: x.ids["open"], Signal: 10})
	x.refused("a signal that the policy does not allow", guestv1.CodePolicyDenied, err)
	_, err = x.guest.SignalProcess(ctx, &guestv1.SignalProcessRequest{ContainerId: strings.Repeat("f", 64), Signal: 9})
	x.refused("a signal to nobody", guestv1.CodeNotFound, err)
	_, err = x.guest.DumpStacks(ctx, &guestv1.DumpStacksRequest{})
	x.refused("the agent's stacks", guestv1.CodePolicyDenied, err)
	_, err = x.guest.LoadFragment(ctx, &guestv1.LoadFragmentRequest{Message: []byte("no fragment")})
	x.refused("a forged fragment", guestv1.CodeFragmentInvalid, err)
}

func (x *hostileHost) volumes() {
	ctx := x.t.Context()
	fill := func(source, path string) error {
		_, err := x.guest.FillVolume(ctx, &guestv1.FillVolumeRequest{Source: source, Files: []*guestv1.VolumeFile{{Path: path, Content: []byte("x")}}})
		return err
	}
	x.refused("writing into a volume of the group's own", guestv1.CodeBadRequest, fill("sandbox:///tmp/atlas/emptydir/n-data", "x"))
	x.refused("a file outside of its volume", guestv1.CodeBadRequest, fill("sandbox:///tmp/atlas/secretsVolume/v", "../x"))
	x.refused("an absolute path in a volume", guestv1.CodeBadRequest, fill("sandbox:///tmp/atlas/secretsVolume/v", "/etc/x"))
	_, err := x.guest.ShareVolume(ctx, &guestv1.ShareVolumeRequest{Source: "sandbox:///tmp/atlas/emptydir/n-data"})
	x.refused("serving a volume of the group's own", guestv1.CodeBadRequest, err)
	_, err = x.guest.TerminationMessage(ctx, &guestv1.TerminationMessageRequest{ContainerId: x.ids["quiet"]})
	x.refusedOr("a file of a container that mounts no termination log", err, guestv1.CodeNotFound, guestv1.CodeWrongState)
	_, err = x.guest.MountScratch(ctx, &guestv1.MountScratchRequest{Serial: "layer0", Target: "/run/gcs/c/sandbox"})
	x.refusedOr("a layer's disk for scratch", err, guestv1.CodeWrongState, guestv1.CodeFailed)
}

// refusedOr is for what may fail in one of several places first.
func (x *hostileHost) refusedOr(name string, err error, codes ...string) {
	x.t.Helper()
	if !slices.Contains(codes, guestv1.DenialFrom(err).GetCode()) {
		x.t.Errorf("%s: the guest answered %v, want one of %v", name, err, codes)
	}
}

// floods asks a great deal at the same time, allowed and not, and checks that a request in between is answered.
func (x *hostileHost) floods() {
	ctx := x.t.Context()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 20 {
				_, _ = x.guest.ExecProcess(ctx, x.exec("open", "sh"))
				_, _ = x.guest.Hello(ctx, &guestv1.HelloRequest{})
			}
		})
	}
	for range 8 { // waiting for what does not end, and going away in the middle of it
		all.Go(func() {
			short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
			_, _ = x.guest.WaitProcess(short, &guestv1.WaitProcessRequest{ContainerId: x.ids["open"]})
		})
	}
	_, err := x.guest.Properties(ctx, &guestv1.PropertiesRequest{})
	x.ok(err)
	all.Wait()
	big := x.exec("open", "true")
	big.Command = []string{"true", strings.Repeat("x", 1<<20)}
	_, err = x.guest.ExecProcess(ctx, big)
	x.refused("a very long argument", guestv1.CodeBadRequest, err)
	unknown := &guestv1.HelloRequest{}
	x.ok(proto.Unmarshal([]byte{0xfa, 0x3f, 1, 'x'}, unknown)) // a field of the future
	_, err = x.guest.Hello(ctx, unknown)
	x.refused("a field that the guest does not know", guestv1.CodeBadRequest, err)
}

// pauses stops the machine's time: nothing of the guest depends on when the host lets it run.
func (x *hostileHost) pauses() {
	x.ok(syscall.Kill(x.vm.PID(), syscall.SIGSTOP))
	time.Sleep(3 * time.Second)
	x.ok(syscall.Kill(x.vm.PID(), syscall.SIGCONT))
	_, err := x.guest.Evidence(x.t.Context(), &guestv1.EvidenceRequest{Nonce: make([]byte, 32)})
	x.ok(err)
	x.refused("a shell, after a jump in time", guestv1.CodePolicyDenied, func() error {
		_, err := x.guest.ExecProcess(x.t.Context(), x.exec("open", "sh"))
		return err
	}())
}

// TestRefusalsAreEvents: whatever a guest refuses of what its supervisor or a person asked is told in the group's events.
func TestRefusalsAreEvents(t *testing.T) {
	needVM(t)
	h := home(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "compose.yaml")
	err := os.WriteFile(file, []byte("name: told\nservices:\n  only:\n    image: "+ref("busybox")+"\n    command: [sleep, '1000']\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	removed(t, h, "told")
	must(t, h, "group", "up", file)
	r := cofferdam(t, h, "", "group", "exec", "told", "--", "cat", "/etc/passwd")
	if r.code != 3 || !strings.Contains(r.stderr, "invalid command") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
	r = cofferdam(t, h, "", "group", "cp", "told:/etc/passwd", dir)
	if r.code != 3 || !strings.Contains(r.stderr, "tar -cf - -C /etc passwd") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
	out := must(t, h, "group", "events", "told").stdout
	if !strings.Contains(out, "PolicyDenied") || !strings.Contains(out, "invalid command") || strings.Contains(out, "secret") {
		t.Errorf("events:\n%s", out)
	}
	if out = must(t, h, "group", "debug", "told").stdout; !strings.Contains(out, "cofferdam policy explain group:told") {
		t.Errorf("debug:\n%s", out)
	}
}
