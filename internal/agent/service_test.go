// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/internal/agent/machine"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

func TestOwnReportIsCheckedAtTheStart(t *testing.T) {
	t.Parallel()
	tests := map[string]*fakeProvider{
		"report for other data":       {stale: true},
		"report of an unknown type":   {kind: attest.TypeTDX},
		"report of a type of its own": {kind: "sev-snp-simulated"},
	}
	for name, p := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(t.Context(), Config{Provider: p})
			if err == nil {
				t.Fatal("the service starts")
			}
		})
	}
}

func TestSetPolicy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := append([]byte("# "), policyText...)
	_, err := r.SetPolicy(t.Context(), &guestv1.SetPolicyRequest{Policy: other})
	d := guestv1.DenialFrom(err)
	if d.GetCode() != guestv1.CodePolicyMismatch || !strings.Contains(d.GetExpected(), "SHA-256") || d.GetActual() == "" {
		t.Fatalf("a policy of another hash: %v", err)
	}
	hello, err := r.Hello(t.Context(), &guestv1.HelloRequest{})
	if err != nil || hello.GetPolicySet() || hello.GetProtocol() != Protocol || hello.GetTee() != "simulated" || hello.GetUptimeMs() == 0 {
		t.Fatalf("Hello before the policy: %v, %v", hello, err)
	}
	resp, err := r.SetPolicy(t.Context(), &guestv1.SetPolicyRequest{Policy: policyText})
	if err != nil {
		t.Fatal(err)
	}
	if want := policy.Hash(policyText); string(resp.GetHostData()) != string(want[:]) {
		t.Errorf("HOST_DATA is %x, want %x", resp.GetHostData(), want)
	}
	hello, err = r.Hello(t.Context(), &guestv1.HelloRequest{})
	if err != nil || !hello.GetPolicySet() {
		t.Errorf("Hello after the policy: %v, %v", hello, err)
	}
}

func TestPolicyThatDoesNotLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cfg.LoadPolicy = func([]byte) (Decider, error) { return nil, errors.New("api_version is missing") }
	_, err := r.SetPolicy(t.Context(), &guestv1.SetPolicyRequest{Policy: policyText})
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodePolicyInvalid {
		t.Fatalf("got %v, want %s", err, guestv1.CodePolicyInvalid)
	}
	err = shutdown(t.Context(), r)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeNoPolicy {
		t.Fatalf("a call after it: %v, want %s", err, guestv1.CodeNoPolicy)
	}
}

// TestDecideThenAct follows a container's life: one decision before each act, and a commit after it.
func TestDecideThenAct(t *testing.T) {
	t.Parallel()
	r := ready(t)
	ctx := t.Context()
	zeros := strings.Repeat("0", 64)
	mounted(t, r)
	steps := []error{
		done(r.CreateContainer(ctx, createRequest(idA))), start(ctx, r), exec(func(*guestv1.ExecProcessRequest) {})(ctx, r),
		signal(func(*guestv1.SignalProcessRequest) {})(ctx, r), shutdown(ctx, r), unmountOverlay(ctx, r),
		done(r.UnmountLayer(ctx, &guestv1.UnmountLayerRequest{Target: layer0})),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"allow mount_device " + layer0 + " " + zeros, "OpenLayer " + layer0 + " " + zeros, "commit",
		"allow mount_device " + layer1 + " " + zeros, "OpenLayer " + layer1 + " " + zeros, "commit",
		"allow mount_overlay " + rootfsA + " " + layer1 + "," + layer0, "MountOverlay " + rootfsA + " " + layer1 + "," + layer0, "commit",
		"allow create_container " + idA + " /bin/true", "Create " + idA + " /bin/true", "commit",
		"Start " + idA,
		"allow exec_in_container " + idA + " /bin/ls", "Exec " + idA + " /bin/ls", "commit",
		"allow signal_container_process " + idA + " 15", "Signal 15", "commit",
		"allow shutdown_container " + idA, "Remove " + idA, "commit",
		"allow unmount_overlay " + rootfsA, "UnmountOverlay " + rootfsA, "commit",
		"allow unmount_device " + layer0, "CloseLayer " + layer0, "commit",
	}
	if diff := cmp.Diff(want, r.log.take()); diff != "" {
		t.Errorf("what happened (-want +got):\n%s", diff)
	}
}

// TestDenied has the policy deny everything: nothing happens, and the reason is told.
func TestDenied(t *testing.T) {
	t.Parallel()
	calls := everyCall()
	for _, free := range []string{"StartContainer", "WaitProcess", "ResizeTerminal", "Evidence", "UnmountOverlay", "UnmountScratch", "MountOverlay", "MountScratch", "CreateContainer", "UnmountLayer", "LoadFragment", "LoadTrustList", "ConfigureNetwork", "FillVolume", "ShareVolume", "Probe", "TerminationMessage"} {
		delete(calls, free) // no point of their own, or refused in this state already
	}
	calls["UnmountLayer"] = func(ctx context.Context, r *rig) error {
		return done(r.UnmountLayer(ctx, &guestv1.UnmountLayerRequest{Target: "/run/mounts/scsi/m9"}))
	}
	for name, send := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := running(t)
			_, err := r.MountLayer(t.Context(), layerRequest(9))
			if err != nil {
				t.Fatal(err)
			}
			r.log.take()
			r.decider.decide = func(engine.Point, string) engine.Decision {
				return engine.Decision{Reasons: []string{"invalid env list: TOKEN=s3cret"}}
			}
			err = send(t.Context(), r)
			d := guestv1.DenialFrom(err)
			if d.GetCode() != guestv1.CodePolicyDenied || d.GetPoint() == "" || len(d.GetReasons()) == 0 {
				t.Fatalf("got %v, want %s", err, guestv1.CodePolicyDenied)
			}
			e := r.log.take()
			if len(e) != 2 || !strings.HasPrefix(e[0], "deny ") || e[1] != "rollback" {
				t.Errorf("the request led to %q, want one denial", e)
			}
		})
	}
}

func TestDenialHidesValues(t *testing.T) {
	t.Parallel()
	r := ready(t)
	mounted(t, r)
	r.decider.decide = func(engine.Point, string) engine.Decision {
		return engine.Decision{Reasons: []string{"invalid env list: TOKEN=s3cret"}}
	}
	_, err := r.CreateContainer(t.Context(), createRequest(idA))
	if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "TOKEN=[redacted]") {
		t.Fatalf("denial is %v", err)
	}
}

// TestFailedActs makes each operation fail after the policy allowed it: the policy's state goes back, and the service
// can go on.
func TestFailedActs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from func(testing.TB) *rig
		send call
	}{
		"OpenLayer": {ready, mountLayer(func(*guestv1.MountLayerRequest) {})},
		"OpenScratch": {ready, func(ctx context.Context, r *rig) error {
			return done(r.MountScratch(ctx, &guestv1.MountScratchRequest{Serial: "s", Target: "/run/gcs/c/" + idA}))
		}},
		"MountOverlay": {running, mountOverlay(func(*guestv1.MountOverlayRequest) {})},
		"Create": {func(t testing.TB) *rig {
			r := ready(t)
			mounted(t, r)
			return r
		}, create(func(*guestv1.CreateContainerRequest) {})},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := tt.from(t)
			r.log.take()
			fail := func(doing string) error {
				if doing == name {
					return errors.New("no space left on device")
				}
				return nil
			}
			r.machine.fail, r.runtime.fail = fail, fail
			err := tt.send(t.Context(), r)
			d := guestv1.DenialFrom(err)
			if d.GetCode() != guestv1.CodeFailed || !strings.Contains(d.Error(), "no space left") {
				t.Fatalf("got %v, want %s", err, guestv1.CodeFailed)
			}
			e := r.log.take()
			if e[len(e)-1] != "rollback" {
				t.Errorf("the failure led to %q, want a rollback at the end", e)
			}
			r.machine.fail, r.runtime.fail = nil, nil
			err = tt.send(t.Context(), r)
			if err != nil {
				t.Errorf("the same again, which now succeeds: %v", err)
			}
		})
	}
}

// TestFailedExecCounts keeps the decision about a process that failed to start: it may have run for a moment.
func TestFailedExecCounts(t *testing.T) {
	t.Parallel()
	r := running(t)
	r.runtime.fail = func(string) error { return errors.New("the terminal did not come") }
	err := exec(func(*guestv1.ExecProcessRequest) {})(t.Context(), r)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeFailed || !strings.Contains(d.Error(), "did not come") {
		t.Fatalf("got %v, want %s", err, guestv1.CodeFailed)
	}
	want := []string{"allow exec_in_container " + idA + " /bin/ls", "Exec " + idA + " /bin/ls", "commit"}
	if diff := cmp.Diff(want, r.log.take()); diff != "" {
		t.Errorf("what happened (-want +got):\n%s", diff)
	}
}

// TestCreateThatCanNotBeUndone breaks the guest: a container of unknown state may be left.
func TestCreateThatCanNotBeUndone(t *testing.T) {
	t.Parallel()
	r := ready(t)
	mounted(t, r)
	r.runtime.fail = func(string) error { return errors.New("no") }
	_, err := r.CreateContainer(t.Context(), createRequest(idA))
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeBroken {
		t.Fatalf("got %v, want %s", err, guestv1.CodeBroken)
	}
}

// TestActsThatCanNotBeUndone breaks the guest: what is mounted is no longer what the policy's state says.
func TestActsThatCanNotBeUndone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from func(testing.TB) *rig
		send call
	}{
		"OpenLayer": {ready, mountLayer(func(*guestv1.MountLayerRequest) {})},
		"OpenScratch": {ready, func(ctx context.Context, r *rig) error {
			return done(r.MountScratch(ctx, &guestv1.MountScratchRequest{Serial: "s", Target: "/run/gcs/c/" + idA}))
		}},
		"MountOverlay": {running, mountOverlay(func(*guestv1.MountOverlayRequest) {})},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := tt.from(t)
			r.machine.fail = func(string) error { return fmt.Errorf("removing the device: %w", machine.ErrNotUndone) }
			for range 2 { // the call that failed, and the next
				err := tt.send(t.Context(), r)
				if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeBroken {
					t.Fatalf("got %v, want %s", err, guestv1.CodeBroken)
				}
				r.machine.fail = nil
			}
		})
	}
}

// TestDecisionNarrows checks that a process gets what the decision keeps and nothing else.
func TestDecisionNarrows(t *testing.T) {
	t.Parallel()
	r := ready(t)
	mounted(t, r)
	r.decider.decide = func(p engine.Point, _ string) engine.Decision {
		return engine.Decision{
			Point: p, Allowed: true, EnvList: []string{"PATH=/bin"},
			Capabilities: &policy.Capabilities{Effective: []string{"CAP_KILL"}},
		}
	}
	resp, err := r.CreateContainer(t.Context(), createRequest(idA))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"PATH=/bin"}, resp.GetEnv()); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	spec := r.runtime.specs[idA]
	if diff := cmp.Diff(policy.Capabilities{Effective: []string{"CAP_KILL"}}, spec.Capabilities); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	if spec.Stdio != (container.Stdio{}) || resp.GetStdio().GetStdout() != nil || resp.GetStdio().GetStdin() != nil {
		t.Errorf("without allow_stdio_access the process has %+v and the host %v", spec.Stdio, resp.GetStdio())
	}
}

// TestReadOnlyRoot passes the wish on; without it a container may write.
func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	for _, want := range []bool{false, true} {
		r := ready(t)
		mounted(t, r)
		err := create(func(q *guestv1.CreateContainerRequest) { q.ReadOnlyRoot = want })(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.runtime.specs[idA].ReadOnlyRoot; got != want {
			t.Errorf("read-only is %v, want %v", got, want)
		}
	}
}

func TestStreams(t *testing.T) {
	r := ready(t)
	r.decider.decide = func(p engine.Point, _ string) engine.Decision {
		return engine.Decision{Point: p, Allowed: true, AllowStdio: true}
	}
	g, c := r.host(t)
	mounted(t, r)
	resp, err := g.CreateContainer(t.Context(), createRequest(idA))
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.GetStdio().GetStderr()) != 0 {
		t.Error("a stream that was not asked for was granted")
	}
	out, err := c.OpenStream(resp.GetStdio().GetStdout())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(out)
	if err != nil || string(b) != "output\n" {
		t.Errorf("standard output is %q, %v", b, err)
	}
	_ = out.Close()
	again, err := c.OpenStream(resp.GetStdio().GetStdout())
	if err == nil {
		b, err = io.ReadAll(again)
		_ = again.Close()
	}
	if err != nil || len(b) != 0 {
		t.Errorf("the token used again gives %q, %v", b, err)
	}
	_, err = g.ShutdownContainer(t.Context(), &guestv1.ShutdownContainerRequest{ContainerId: idA})
	if err != nil {
		t.Fatal(err)
	}
	w, err := g.WaitProcess(t.Context(), &guestv1.WaitProcessRequest{ContainerId: idA})
	if err != nil || w.GetExitCode() != 137 {
		t.Errorf("waiting after shutdown: %v, %v", w, err)
	}
	in, err := c.OpenStream(resp.GetStdio().GetStdin())
	if err == nil {
		_ = in.SetReadDeadline(time.Now().Add(patience))
		b, err = io.ReadAll(in)
		_ = in.Close()
	}
	if err != nil || len(b) != 0 {
		t.Errorf("the stream of a process that has ended: %q, %v", b, err)
	}
}

// TestEvidence checks that the host can not choose report data.
func TestEvidence(t *testing.T) {
	t.Parallel()
	r := ready(t)
	nonce, data := []byte("01234567"), []byte("data")
	resp, err := r.Evidence(t.Context(), &guestv1.EvidenceRequest{Nonce: nonce, RuntimeData: data})
	if err != nil || resp.GetType() != attest.TypeSEVSNP {
		t.Fatalf("evidence: %v, %v", resp.GetType(), err)
	}
	got := r.provider.asked[len(r.provider.asked)-1]
	if got != evidence.ReportData(evidence.SourceHost, nonce, data) || got == evidence.ReportData(evidence.SourceWorkload, nonce, data) {
		t.Errorf("report data is %x", got)
	}
}

func TestPropertiesAndStacks(t *testing.T) {
	t.Parallel()
	r := running(t)
	p, err := r.Properties(t.Context(), &guestv1.PropertiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	c := p.GetContainers()
	if len(c) != 1 || c[0].GetState() != "running" || c[0].GetPids() != 3 || p.GetMemoryTotalBytes() == 0 {
		t.Errorf("properties are %v", p)
	}
	s, err := r.DumpStacks(t.Context(), &guestv1.DumpStacksRequest{})
	if err != nil || !strings.Contains(string(s.GetStacks()), "TestPropertiesAndStacks") {
		t.Errorf("stacks: %d bytes, %v", len(s.GetStacks()), err)
	}
}

func TestPowerOff(t *testing.T) {
	t.Parallel()
	r := running(t)
	_, err := r.PowerOff(t.Context(), &guestv1.PowerOffRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-r.PowerOffRequested()
	want := []string{"Remove " + idA, "UnmountOverlay " + rootfsA}
	got := acts(r.log.take())
	if diff := cmp.Diff(want, got[:2]); diff != "" || len(got) != 4 {
		t.Errorf("power-off did %q", got)
	}
	if d := guestv1.DenialFrom(start(t.Context(), r)); d.GetCode() != guestv1.CodeBroken {
		t.Errorf("a call after power-off: %v", d)
	}
}

// TestExecsAreBounded starts more processes than are kept: those that ended make room, those that run do not.
func TestExecsAreBounded(t *testing.T) {
	t.Parallel()
	r := running(t)
	send := exec(func(q *guestv1.ExecProcessRequest) { q.Stdio = nil })
	for range maxExecs {
		if err := send(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if d := guestv1.DenialFrom(send(t.Context(), r)); d.GetCode() != guestv1.CodeTooMany {
		t.Fatalf("one more than %d: %v, want %s", maxExecs, d, guestv1.CodeTooMany)
	}
	r.runtime.execs[3].End(container.Exit{})
	if err := send(t.Context(), r); err != nil {
		t.Fatalf("after one ended: %v", err)
	}
}

// TestRaces has many hosts' worth of requests at once: each operation happens once.
func TestRaces(t *testing.T) {
	t.Parallel()
	r := ready(t)
	mounted(t, r)
	r.log.take()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { _ = create(func(*guestv1.CreateContainerRequest) {})(t.Context(), r) })
		all.Go(func() { _ = start(t.Context(), r) })
		all.Go(func() { _ = mountLayer(func(*guestv1.MountLayerRequest) {})(t.Context(), r) })
		all.Go(func() { _ = done(r.Hello(t.Context(), &guestv1.HelloRequest{})) })
		all.Go(func() { _ = done(r.Properties(t.Context(), &guestv1.PropertiesRequest{})) })
		all.Go(func() { _ = shutdown(t.Context(), r) })
	}
	all.Wait()
	count := map[string]int{}
	for _, e := range acts(r.log.take()) {
		word, _, _ := strings.Cut(e, " ")
		count[word]++
	}
	if count["Create"] != 1 || count["OpenLayer"] != 1 || count["Start"] > 1 || count["Remove"] > 1 {
		t.Errorf("operations happened so often: %v", count)
	}
}
