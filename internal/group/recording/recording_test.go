// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/denial"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/learn"
	"cofferdam.dev/policy/replay"
)

const id = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// guest answers every request, and refuses commands that begin with "no".
type guest struct {
	guestv1.GuestService
}

var app = &guestv1.Identity{
	User:   &guestv1.Account{Id: 1000, Name: "app"},
	Groups: []*guestv1.Account{{Id: 1000, Name: "app"}, {Id: 7}},
}

func refuse(point engine.Point, command, env []string) error {
	if command[0] != "no" {
		return nil
	}
	in := map[string]any{
		"argList": command, "envList": env, "user": map[string]any{"id": "33", "name": "www"},
		"groups": []any{map[string]any{"id": "34", "name": ""}},
	}
	d := &guestv1.Denial{Code: guestv1.CodePolicyDenied, Point: string(point), Reasons: []string{"invalid command"}}
	var err error
	d.Decision, err = denial.New(string(point), in, d.GetReasons()).Encode()
	return errors.Join(err, d)
}

func (guest) MountLayer(context.Context, *guestv1.MountLayerRequest) (*guestv1.MountLayerResponse, error) {
	return &guestv1.MountLayerResponse{}, nil
}

func (guest) MountScratch(context.Context, *guestv1.MountScratchRequest) (*guestv1.MountScratchResponse, error) {
	return nil, &guestv1.Denial{Code: guestv1.CodeFailed, Reasons: []string{"no room"}}
}

func (guest) MountOverlay(context.Context, *guestv1.MountOverlayRequest) (*guestv1.MountOverlayResponse, error) {
	return &guestv1.MountOverlayResponse{}, nil
}

func (guest) CreateContainer(_ context.Context, r *guestv1.CreateContainerRequest) (*guestv1.CreateContainerResponse, error) {
	return &guestv1.CreateContainerResponse{Identity: app}, refuse(engine.PointCreateContainer, r.GetCommand(), r.GetEnv())
}

func (guest) ExecProcess(_ context.Context, r *guestv1.ExecProcessRequest) (*guestv1.ExecProcessResponse, error) {
	return &guestv1.ExecProcessResponse{ExecId: "e1", Identity: app}, refuse(engine.PointExecInContainer, r.GetCommand(), r.GetEnv())
}

func (guest) SignalProcess(context.Context, *guestv1.SignalProcessRequest) (*guestv1.SignalProcessResponse, error) {
	return &guestv1.SignalProcessResponse{}, nil
}

func (guest) WaitProcess(context.Context, *guestv1.WaitProcessRequest) (*guestv1.WaitProcessResponse, error) {
	return &guestv1.WaitProcessResponse{}, nil
}

func (guest) ShutdownContainer(context.Context, *guestv1.ShutdownContainerRequest) (*guestv1.ShutdownContainerResponse, error) {
	return &guestv1.ShutdownContainerResponse{}, nil
}

func (guest) Properties(context.Context, *guestv1.PropertiesRequest) (*guestv1.PropertiesResponse, error) {
	return &guestv1.PropertiesResponse{}, nil
}

func done[A any](_ A, err error) error { return err }

func exec(w guestv1.GuestService, t *testing.T, command ...string) error {
	return done(w.ExecProcess(t.Context(), &guestv1.ExecProcessRequest{
		ContainerId: id, Command: command, Env: []string{"TOKEN=s3cret"}, WorkingDir: "/",
	}))
}

// life has a container live under observation, and returns what was recorded.
func life(t *testing.T) (steps []replay.Step, log string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recording")
	out, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	w := Watch(guest{}, Options{
		Log: slog.New(slog.NewTextHandler(&text, nil)), Record: out, Failed: func(err error) { t.Error(err) },
	})
	ctx := t.Context()
	target := "/run/mounts/scsi/m0"
	denied := exec(w, t, "no", "way")
	for _, err := range []error{
		done(w.MountLayer(ctx, &guestv1.MountLayerRequest{RootHash: bytes.Repeat([]byte{0xab}, 32), Target: target})),
		done(w.MountOverlay(ctx, &guestv1.MountOverlayRequest{ContainerId: id, LayerTargets: []string{target}, Target: "/run/gcs/c/" + id + "/rootfs"})),
		done(w.CreateContainer(ctx, &guestv1.CreateContainerRequest{
			ContainerId: id, Command: []string{"/app"}, Env: []string{"TOKEN=s3cret"}, WorkingDir: "/", Seccomp: []byte(`{"defaultAction":"SCMP_ACT_ERRNO"}`),
			Mounts: []*guestv1.Mount{{Destination: "/d", Source: "sandbox:///tmp/atlas/emptydir/x", Type: "bind", Options: []string{"rw"}}},
		})),
		exec(w, t, "/probe"),
		done(w.SignalProcess(ctx, &guestv1.SignalProcessRequest{ContainerId: id, ExecId: "e1", Signal: 10})),
		done(w.WaitProcess(ctx, &guestv1.WaitProcessRequest{ContainerId: id, ExecId: "e1"})),
		done(w.SignalProcess(ctx, &guestv1.SignalProcessRequest{ContainerId: id, Signal: 15})),
		done(w.Properties(ctx, &guestv1.PropertiesRequest{})),
		done(w.ShutdownContainer(ctx, &guestv1.ShutdownContainerRequest{ContainerId: id})),
		out.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if guestv1.DenialFrom(denied) == nil {
		t.Errorf("the refusal came through as %v", denied)
	}
	err = done(w.MountScratch(ctx, &guestv1.MountScratchRequest{}))
	if guestv1.DenialFrom(err).GetCode() != guestv1.CodeFailed {
		t.Errorf("the failure came through as %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	steps, err = replay.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return steps, text.String()
}

func TestWatch(t *testing.T) {
	t.Parallel()
	steps, log := life(t)
	var got []string
	for _, s := range steps {
		got = append(got, string(s.Name)+" "+string(s.Decision))
	}
	want := []string{
		"exec_in_container deny", "mount_device allow", "mount_overlay allow", "create_container allow", "exec_in_container allow",
		"signal_container_process allow", "signal_container_process allow", "get_properties allow", "shutdown_container allow",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	denied, created := steps[0].Input, steps[3].Input
	if diff := cmp.Diff([]any{
		[]any{"TOKEN=s3cret"}, map[string]any{"id": "33", "name": "www"}, map[string]any{"id": "1000", "name": "app"},
		[]any{map[string]any{"id": "1000", "name": "app"}, map[string]any{"id": "7", "name": ""}},
		[]any{"/probe"}, true,
	}, []any{
		denied["envList"], denied["user"], created["user"], created["groups"], steps[5].Input["argList"], steps[6].Input["isInitProcess"],
	}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(log, "policyDecision<") || strings.Contains(log, "s3cret") {
		t.Errorf("log is %s", log)
	}
}

// TestLearn makes a policy of a recording: it admits what was recorded, every step as it was, and nothing else.
func TestLearn(t *testing.T) {
	t.Parallel()
	steps, _ := life(t)
	p, notes, err := learn.Learn(t.Context(), steps, learn.Options{})
	if err != nil || len(notes) != 1 {
		t.Fatalf("%q, %v", notes, err)
	}
	e, err := engine.New(p.Text(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range replay.Run(t.Context(), e, steps) {
		if r.Allowed() != (r.Step.Decision == replay.Allow) {
			t.Errorf("request %d was %s: now %v", i+1, r.Step.Decision, r.Decision)
		}
	}
	c := p.Containers[0]
	if c.SeccompProfileSHA256 == "" || len(c.ExecProcesses) != 1 || !cmp.Equal(c.ExecProcesses[0].Signals, []int{10}) ||
		!cmp.Equal(c.User.UserIDName, policy.IDName{Pattern: "1000", Strategy: policy.StrategyID}) {
		t.Errorf("learned %+v", c)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "recording")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Create(path)
	if !errors.Is(err, os.ErrExist) {
		t.Errorf("a second recording: %v", err)
	}
	w.max = 100
	step := replay.Step{Name: engine.PointGetProperties, Input: map[string]any{}, Decision: replay.Allow}
	var full int
	for range 10 {
		if err := w.Append(step); errors.Is(err, ErrFull) {
			full++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() > w.max || full != 1 {
		t.Errorf("%v, %v, told %d times", info, err, full)
	}
	if err := errors.Join(w.Close(), w.Append(step)); err != nil {
		t.Error(err)
	}
}

// TestNothingRecorded leaves no file of a group that did not come to its first request.
func TestNothingRecorded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "recording")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestRefusalsDoNotFillTheDisk has a client try again and again: the same refusal is logged once, and others only so
// often.
func TestRefusalsDoNotFillTheDisk(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := Watch(guest{}, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 5 {
		_ = exec(w, t, "no", "way") // refused
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("one refusal is logged %d times", n)
	}
	for i := range maxRefusals + 10 {
		_ = exec(w, t, "no", fmt.Sprint(i))
	}
	if n := strings.Count(log.String(), "\n"); n != maxRefusals+1 || !strings.HasSuffix(log.String(), "further refusals are not logged\"\n") {
		t.Errorf("%d lines, the last ones %q", n, log.String()[log.Len()-200:])
	}
}
