// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
)

const secretSource = "sandbox:///tmp/atlas/secretsVolume/keys"

func fill(change func(*guestv1.FillVolumeRequest)) call {
	return func(ctx context.Context, r *rig) error {
		return done(r.FillVolume(ctx, with(&guestv1.FillVolumeRequest{
			Source: secretSource, Files: []*guestv1.VolumeFile{{Path: "a/b", Content: []byte("c")}},
		}, change)))
	}
}

func TestFillVolume(t *testing.T) {
	t.Parallel()
	r := ready(t)
	for _, send := range []call{
		fill(func(*guestv1.FillVolumeRequest) {}),
		fill(func(q *guestv1.FillVolumeRequest) { q.Files = nil }),
		fill(func(q *guestv1.FillVolumeRequest) { q.Source = "sandbox:///tmp/atlas/gitRepoVolume/src" }),
	} {
		if err := send(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"Fill /tmp/atlas/secretsVolume/keys 1", "Fill /tmp/atlas/secretsVolume/keys 0", "Fill /tmp/atlas/gitRepoVolume/src 1",
	}
	if diff := cmp.Diff(want, r.log.take()); diff != "" {
		t.Errorf("what happened (-want +got):\n%s", diff)
	}
	r.runtime.fail = func(string) error { return fmt.Errorf("x: %w", container.ErrFull) }
	err := fill(func(*guestv1.FillVolumeRequest) {})(t.Context(), r)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeTooMany {
		t.Errorf("full volumes: %v, want %s", err, guestv1.CodeTooMany)
	}
}

func TestMalformedFills(t *testing.T) {
	t.Parallel()
	type q = guestv1.FillVolumeRequest
	source := func(s string) func(*q) { return func(r *q) { r.Source = "sandbox:///tmp/atlas/" + s } }
	file := func(p string) func(*q) { return func(r *q) { r.Files[0].Path = p } }
	tests := map[string]struct {
		field  string
		change func(*q)
	}{
		"empty directory":        {"source", source("emptydir/x")},
		"file share":             {"source", source("azureFileVolume/x")},
		"resolver file":          {"source", source("resolvconf/x")},
		"termination log":        {"source", source("terminationLog/x")},
		"source climbs":          {"source", source("secretsVolume/..")},
		"source below a volume":  {"source", source("secretsVolume/x/y")},
		"source without scheme":  {"source", func(r *q) { r.Source = "/tmp/atlas/secretsVolume/x" }},
		"path empty":             {"files[0].path", file("")},
		"path absolute":          {"files[0].path", file("/etc/passwd")},
		"path climbs":            {"files[0].path", file("../x")},
		"path climbs further on": {"files[0].path", file("a/../../x")},
		"path unclean":           {"files[0].path", file("a//b")},
		"path of the volume":     {"files[0].path", file(".")},
		"path with NUL":          {"files[0].path", file("a\x00b")},
		"path too deep":          {"files[0].path", file(strings.Repeat("a/", maxFillElements) + "b")},
		"path too long":          {"files[0].path", file(strings.Repeat(strings.Repeat("a", 200)+"/", 5) + strings.Repeat("b", 20))},
		"name too long":          {"files[0].path", file(strings.Repeat("a", maxFileName+1))},
		"set-user-ID":            {"files[0].mode", func(r *q) { r.Files[0].Mode = 0o4755 }},
		"too much content":       {"files in bytes", func(r *q) { r.Files[0].Content = make([]byte, maxFill+1) }},
		"too many files":         {"files", func(r *q) { r.Files = make([]*guestv1.VolumeFile, maxFillFiles+1) }},
		"too much together": {"files in bytes", func(r *q) {
			r.Files = append(r.Files, &guestv1.VolumeFile{Path: "x", Content: make([]byte, maxFill)})
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ready(t)
			err := fill(tt.change)(t.Context(), r)
			d := guestv1.DenialFrom(err)
			if d.GetCode() != guestv1.CodeBadRequest || d.GetField() != tt.field {
				t.Errorf("got %v, want %s for the field %s", err, guestv1.CodeBadRequest, tt.field)
			}
			if e := r.log.take(); len(e) != 0 {
				t.Errorf("the request led to %q", e)
			}
		})
	}
}

func shareVolume(change func(*guestv1.ShareVolumeRequest)) call {
	return func(ctx context.Context, r *rig) error {
		return done(r.ShareVolume(ctx, with(&guestv1.ShareVolumeRequest{Source: "sandbox:///tmp/atlas/azureFileVolume/data"}, change)))
	}
}

// TestShareVolume grants one stream for the volume's messages.
func TestShareVolume(t *testing.T) {
	r := ready(t)
	g, c := r.host(t)
	resp, err := g.ShareVolume(t.Context(), &guestv1.ShareVolumeRequest{Source: "sandbox:///tmp/atlas/azureFileVolume/data", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.OpenStream(resp.GetToken())
	if err == nil {
		_, err = s.Write([]byte("messages"))
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	_, _ = s.Read(make([]byte, 1)) // until the guest has closed it, too
	want := []string{"Share /tmp/atlas/azureFileVolume/data true", "served messages"}
	if diff := cmp.Diff(want, r.log.take()); diff != "" {
		t.Errorf("what happened (-want +got):\n%s", diff)
	}
}

func TestRefusedShares(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"empty directory": "emptydir/x", "secret": "secretsVolume/x", "repository": "gitRepoVolume/x", "source climbs": "azureFileVolume/..",
		"source below a volume": "azureFileVolume/x/y", "termination log": "terminationLog/x",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ready(t)
			err := shareVolume(func(q *guestv1.ShareVolumeRequest) { q.Source = "sandbox:///tmp/atlas/" + source })(t.Context(), r)
			d := guestv1.DenialFrom(err)
			if d.GetCode() != guestv1.CodeBadRequest || d.GetField() != "source" || len(r.log.take()) != 0 {
				t.Errorf("got %v, want %s for the source", err, guestv1.CodeBadRequest)
			}
		})
	}
	for _, tt := range []struct {
		err  error
		code string
	}{
		{container.ErrExists, guestv1.CodeWrongState}, {container.ErrShared, guestv1.CodeWrongState}, {errors.New("no device"), guestv1.CodeFailed},
	} {
		r := ready(t)
		r.runtime.fail = func(string) error { return tt.err }
		err := shareVolume(func(*guestv1.ShareVolumeRequest) {})(t.Context(), r)
		if d := guestv1.DenialFrom(err); d.GetCode() != tt.code {
			t.Errorf("%v: got %v, want %s", tt.err, err, tt.code)
		}
	}
	// Streams that the host never opens use up what can be granted; then the volume is closed again.
	r := ready(t)
	for {
		_, err := r.broker.Grant(func(net.Conn) {})
		if err != nil {
			break
		}
	}
	err := shareVolume(func(*guestv1.ShareVolumeRequest) {})(t.Context(), r)
	e := r.log.take()
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeFailed || e[len(e)-1] != "CloseShare" {
		t.Errorf("without a stream: %v, %q", err, e)
	}
}

// TestGroupScratch puts the group's empty directories on a disk, before there are any.
func TestGroupScratch(t *testing.T) {
	t.Parallel()
	mount := func(r *rig) error {
		return done(r.MountScratch(t.Context(), &guestv1.MountScratchRequest{Serial: "volumes", Target: "/run/gcs/c/sandbox"}))
	}
	unmount := func(r *rig) error {
		return done(r.UnmountScratch(t.Context(), &guestv1.UnmountScratchRequest{Target: "/run/gcs/c/sandbox"}))
	}
	const at = "/volumes/tmp/atlas/emptydir"
	r := ready(t)
	if d := guestv1.DenialFrom(unmount(r)); d.GetCode() != guestv1.CodeNotFound {
		t.Errorf("unmounting nothing: %v", d)
	}
	for range 2 {
		if err := errors.Join(mount(r), unmount(r)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"allow rw_mount_device /run/gcs/c/sandbox", "ScratchRoom ", "OpenScratch " + at, "UseScratch true", "commit",
		"allow rw_unmount_device /run/gcs/c/sandbox", "CloseScratch " + at, "UseScratch false", "commit",
	}
	if diff := cmp.Diff(want, r.log.take()[:len(want)]); diff != "" {
		t.Errorf("what happened (-want +got):\n%s", diff)
	}
	r.runtime.fail = func(doing string) error {
		if doing == "UseScratch" {
			return errors.New("no")
		}
		return nil
	}
	if d := guestv1.DenialFrom(mount(r)); d.GetCode() != guestv1.CodeFailed || !slices.Contains(r.log.take(), "CloseScratch "+at) {
		t.Errorf("a disk that can not be used: %v, want that it is closed", d)
	}
	r.runtime.fail = nil
	mounted(t, r)
	err := errors.Join(mount(r), create(func(*guestv1.CreateContainerRequest) {})(t.Context(), r))
	if err != nil {
		t.Fatal(err)
	}
	r.log.take()
	if d := guestv1.DenialFrom(unmount(r)); d.GetCode() != guestv1.CodeWrongState || len(r.log.take()) != 0 {
		t.Errorf("unmounting under a container: %v, want %s", d, guestv1.CodeWrongState)
	}
	r.takeDown(t.Context())
	if !slices.Contains(r.log.take(), "CloseScratch "+at) {
		t.Error("power-off leaves the disk open")
	}
	late := running(t)
	if d := guestv1.DenialFrom(mount(late)); d.GetCode() != guestv1.CodeWrongState || len(late.log.take()) != 0 {
		t.Errorf("mounting after a container: %v, want %s", d, guestv1.CodeWrongState)
	}
}
