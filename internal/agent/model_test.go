// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/policy/engine"
)

// needs says which decision must have been recorded just before each act of the machine or the runtime.
var needs = map[string]engine.Point{
	"OpenLayer": engine.PointMountDevice, "CloseLayer": engine.PointUnmountDevice,
	"OpenScratch": engine.PointRWMountDevice, "CloseScratch": engine.PointRWUnmountDevice,
	"MountOverlay": engine.PointMountOverlay, "UnmountOverlay": engine.PointUnmountOverlay,
	"Create": engine.PointCreateContainer, "Exec": engine.PointExecInContainer,
	"Signal": engine.PointSignalContainerProcess, "Remove": engine.PointShutdownContainer,
}

// checkJournal requires that each act follows an allow decision of its own about the same thing.
func checkJournal(entries []string) error {
	created := map[string]bool{} // containers that were allowed, created and not started
	for i, e := range entries {
		act, about, _ := strings.Cut(e, " ")
		if act == "Start" {
			if !created[about] {
				return fmt.Errorf("entry %d: %s started, which was not created or had started", i, about)
			}
			delete(created, about)
			continue
		}
		point, ok := needs[act]
		if !ok {
			continue
		}
		if act == "Remove" && i > 0 && strings.HasPrefix(entries[i-1], "Create ") {
			continue // the undoing of a failed create
		}
		want := "allow " + string(point) + " "
		if act == "Signal" {
			if i == 0 || !strings.HasPrefix(entries[i-1], want) || !strings.HasSuffix(entries[i-1], " "+about) {
				return fmt.Errorf("entry %d: %q follows %q", i, e, entries[max(0, i-1)])
			}
			continue
		}
		if i == 0 || entries[i-1] != want+about {
			return fmt.Errorf("entry %d: %q does not follow %q", i, e, want+about)
		}
		if act == "Create" {
			created[about[:64]] = true
		}
	}
	return nil
}

// TestNoActWithoutItsDecision sends random sequences of well-formed requests to a service whose policy says yes and
// no at random and whose machine fails at random. Whatever the sequence, nothing is done that was not allowed just
// before.
func TestNoActWithoutItsDecision(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := ready(t)
		defer r.takeDown(context.Background())
		yes := rapid.Float64Range(0.5, 1).Draw(rt, "share of yes")
		chance := func(label string, share float64) bool { return rapid.Float64Range(0, 1).Draw(rt, label) < share }
		r.decider.decide = func(p engine.Point, _ string) engine.Decision {
			return engine.Decision{Point: p, Allowed: chance("allow", yes), AllowStdio: true}
		}
		fail := func(doing string) error {
			if !strings.HasPrefix(doing, "Close") && !strings.HasPrefix(doing, "Unmount") && doing != "Remove" && chance("fail", 0.1) {
				return fmt.Errorf("%s fails", doing)
			}
			return nil
		}
		r.machine.fail, r.runtime.fail = fail, fail
		rt.Repeat(map[string]func(*rapid.T){
			"mount": func(rt *rapid.T) {
				_, _ = r.MountLayer(t.Context(), layerRequest(rapid.IntRange(0, 2).Draw(rt, "layer")))
			},
			"unmount": func(rt *rapid.T) {
				_, _ = r.UnmountLayer(t.Context(), &guestv1.UnmountLayerRequest{Target: layerRequest(rapid.IntRange(0, 2).Draw(rt, "layer")).Target})
			},
			"mount scratch": func(rt *rapid.T) {
				_, _ = r.MountScratch(t.Context(), &guestv1.MountScratchRequest{Serial: "scratch0", Target: "/run/gcs/c/" + someID(rt)})
			},
			"unmount scratch": func(rt *rapid.T) {
				_, _ = r.UnmountScratch(t.Context(), &guestv1.UnmountScratchRequest{Target: "/run/gcs/c/" + someID(rt)})
			},
			"overlay": func(rt *rapid.T) {
				q := overlayRequest(someID(rt))
				if rapid.Bool().Draw(rt, "on scratch") {
					q.ScratchTarget = "/run/gcs/c/" + q.ContainerId
				}
				_, _ = r.MountOverlay(t.Context(), q)
			},
			"unmount overlay": func(rt *rapid.T) {
				_, _ = r.UnmountOverlay(t.Context(), &guestv1.UnmountOverlayRequest{Target: "/run/gcs/c/" + someID(rt) + "/rootfs"})
			},
			"create": func(rt *rapid.T) { _, _ = r.CreateContainer(t.Context(), createRequest(someID(rt))) },
			"start": func(rt *rapid.T) {
				_, _ = r.StartContainer(t.Context(), &guestv1.StartContainerRequest{ContainerId: someID(rt)})
			},
			"exec": func(rt *rapid.T) { _, _ = r.ExecProcess(t.Context(), execRequest(someID(rt))) },
			"signal": func(rt *rapid.T) {
				_, _ = r.SignalProcess(t.Context(), &guestv1.SignalProcessRequest{
					ContainerId: someID(rt), Signal: uint32(rapid.SampledFrom([]int{1, 9, 15}).Draw(rt, "signal")), // small
				})
			},
			"end": func(rt *rapid.T) {
				if h := r.runtime.handles[someID(rt)]; h != nil {
					h.End(container.Exit{})
				}
			},
			"shutdown": func(rt *rapid.T) {
				_, _ = r.ShutdownContainer(t.Context(), &guestv1.ShutdownContainerRequest{ContainerId: someID(rt)})
			},
			"properties": func(*rapid.T) { _, _ = r.Properties(t.Context(), &guestv1.PropertiesRequest{}) },
			"": func(rt *rapid.T) {
				r.log.mu.Lock()
				defer r.log.mu.Unlock()
				err := checkJournal(r.log.entries)
				if err != nil {
					rt.Fatal(err)
				}
			},
		})
		for _, h := range r.runtime.execs {
			h.End(container.Exit{})
			h.CloseUnservedStreams()
		}
	})
}

func someID(rt *rapid.T) string { return rapid.SampledFrom([]string{idA, idB}).Draw(rt, "container") }

// TestJournalCheckBites makes sure that the model notices what it is for.
func TestJournalCheckBites(t *testing.T) {
	t.Parallel()
	for _, bad := range [][]string{
		{"CloseLayer " + layer0},
		{"deny unmount_device " + layer0, "CloseLayer " + layer0},
		{"allow unmount_device " + layer1, "CloseLayer " + layer0},
		{"allow unmount_device " + layer0, "commit", "CloseLayer " + layer0},
		{"Start " + idA},
		{"Signal 9"},
	} {
		if checkJournal(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
