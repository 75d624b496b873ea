// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"net"
	"testing"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/policy/engine"
)

// TestRestarts runs a container again and again, under an identifier of its own each time: the service keeps nothing of those
// that have gone, not even what the host was granted and never opened.
func TestRestarts(t *testing.T) {
	t.Parallel()
	r := ready(t)
	r.decider.decide = func(p engine.Point, _ string) engine.Decision {
		return engine.Decision{Point: p, Allowed: true, AllowStdio: true}
	}
	for n := range 2 {
		_, err := r.MountLayer(t.Context(), layerRequest(n))
		if err != nil {
			t.Fatal(err)
		}
	}
	const rounds = 50
	for i := range rounds {
		id := fmt.Sprintf("%064x", i)
		_, err := r.MountOverlay(t.Context(), overlayRequest(id))
		if err != nil {
			t.Fatal(err)
		}
		q := createRequest(id)
		terminationLog(q)
		_, err = r.CreateContainer(t.Context(), q)
		if err == nil {
			_, err = r.StartContainer(t.Context(), &guestv1.StartContainerRequest{ContainerId: id})
		}
		if err != nil {
			t.Fatal(err)
		}
		r.runtime.handles[id].End(container.Exit{Code: 1})
		_, err = r.ShutdownContainer(t.Context(), &guestv1.ShutdownContainerRequest{ContainerId: id})
		if err == nil {
			_, err = r.UnmountOverlay(t.Context(), &guestv1.UnmountOverlayRequest{Target: "/run/gcs/c/" + id + "/rootfs"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(r.containers) != 0 || len(r.overlays) != 0 || len(r.sockets.open) != 0 || r.layers[layer0].users != 0 {
		t.Errorf("left are %d containers, %d root filesystems, %d sockets, %d users of a layer",
			len(r.containers), len(r.overlays), len(r.sockets.open), r.layers[layer0].users)
	}
	free := 0
	for ; ; free++ {
		_, err := r.broker.Grant(func(net.Conn) {})
		if err != nil {
			break
		}
	}
	if free != 1024 {
		t.Errorf("%d streams can be granted, want 1024", free)
	}
}
