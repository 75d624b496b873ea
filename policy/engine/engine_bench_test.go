// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"testing"

	"cofferdam.dev/policy"
)

// groupPolicy is a policy of n containers with eight layers each, four of them shared by all.
func groupPolicy(n int) *policy.Policy {
	p := &policy.Policy{
		APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework,
		AllowEnvironmentVariableDropping: true, AllowCapabilityDropping: true, AllowPropertiesAccess: true,
	}
	for i := range n {
		p.Containers = append(p.Containers, testContainer(i))
	}
	return p
}

func testContainer(i int) policy.Container {
	layers := make([]string, 8)
	for l := range layers {
		owner := i
		if l < 4 {
			owner = 0
		}
		layers[l] = fmt.Sprintf("%060x%04x", l, owner)
	}
	c := policy.Container{
		Name: fmt.Sprintf("c%d", i), Command: []string{"/bin/server", fmt.Sprint(i)}, Layers: layers, WorkingDir: "/srv",
		AllowStdioAccess: true, Signals: []int{9, 15}, Capabilities: testCapabilities(),
		EnvRules: []policy.EnvRule{
			{Pattern: "PATH=/usr/bin:/bin", Strategy: policy.StrategyString},
			{Pattern: "MODE=prod", Strategy: policy.StrategyString},
			{Pattern: "TERM=xterm", Strategy: policy.StrategyString},
			{Pattern: "HOSTNAME=.+", Strategy: policy.StrategyRegexp},
			{Pattern: "(?i)(FABRIC)_.+=.+", Strategy: policy.StrategyRegexp},
			{Pattern: "T(E)?MP=.+", Strategy: policy.StrategyRegexp},
		},
		Mounts: []policy.Mount{{
			Destination: "/etc/resolv.conf", Options: []string{"rbind", "rshared", "rw"},
			Source: "sandbox:///tmp/atlas/resolvconf/.+", Type: "bind",
		}},
		ExecProcesses: []policy.ExecProcess{{Command: []string{"/bin/sh"}, Signals: []int{2}}},
		User: policy.User{
			UserIDName:   policy.IDName{Strategy: policy.StrategyAny},
			GroupIDNames: []policy.IDName{{Strategy: policy.StrategyAny}}, Umask: "0022",
		},
	}
	return c
}

func testCapabilities() policy.Capabilities {
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"}
	return policy.Capabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

const testID = "3a376494ee188e35d9f6c88b26bff29231b3e5ae0c71370dcae23e9c82710a06"

func testProcess(i int) Process {
	return Process{
		Args: []string{"/bin/server", fmt.Sprint(i)}, WorkingDir: "/srv", Umask: "0022", User: ID{ID: "0", Name: "root"},
		Groups: []ID{{ID: "0", Name: "root"}}, Capabilities: testCapabilities(),
		Env: []string{"PATH=/usr/bin:/bin", "MODE=prod", "TERM=xterm", "HOSTNAME=web"},
	}
}

func testCreate(id string, i int) CreateInput {
	return CreateInput{
		ContainerID: id, Process: testProcess(i), SandboxDir: "/run/gcs/c/sandbox/sandboxMounts",
		HugePagesDir: "/run/gcs/c/sandbox/hugepages",
		Mounts: []policy.Mount{{
			Destination: "/etc/resolv.conf", Options: []string{"rbind", "rshared", "rw"}, Type: "bind",
			Source: "/run/gcs/c/sandbox/sandboxMounts/tmp/atlas/resolvconf/x",
		}},
	}
}

func testID2(i int) string { return fmt.Sprintf("%064x", i) }

func mustLoad(t testing.TB, p *policy.Policy) *Engine {
	t.Helper()
	e, err := New(p.Text(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustAllow(t testing.TB, d Decision, err error) {
	t.Helper()
	if err != nil || !d.Allowed {
		t.Fatalf("%s: not allowed: %q, %v", d.Point, d.Reasons, err)
	}
}

// start mounts and creates container i of the group.
func start(t testing.TB, e *Engine, i int) {
	t.Helper()
	mountAll(t, e, i)
	d, err := e.CreateContainer(context.Background(), testCreate(testID2(i), i))
	mustAllow(t, d, err)
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1, 200} {
		text := groupPolicy(n).Text()
		b.Run(fmt.Sprintf("containers=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(len(text)), "bytes")
			began := processor(b)
			for b.Loop() {
				if _, err := New(text, Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((processor(b)-began).Seconds()*1e3/float64(b.N), "cpu-ms")
		})
	}
}

// BenchmarkComplete measures what the first denial takes besides.
func BenchmarkComplete(b *testing.B) {
	e := mustLoad(b, groupPolicy(1))
	plain := *e.program
	for b.Loop() {
		e.program = &plain
		err := e.complete()
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecide measures one decision of each frequent kind, undone afterwards.
func BenchmarkDecide(b *testing.B) {
	ctx := context.Background()
	for _, n := range []int{1, 200} {
		e := mustLoad(b, groupPolicy(n))
		for i := range min(n, 100) {
			start(b, e, i)
		}
		exec := ExecInput{ContainerID: testID2(0), Process: testProcess(0)}
		exec.Args = []string{"/bin/sh"}
		last := n - 1
		var paths []string
		prepare := func(r Requests) {
			paths = nil
			for l, hash := range testContainer(last).Layers {
				target := fmt.Sprintf("/run/mounts/scsi/m%d", 900000+l)
				d, err := r.MountDevice(ctx, target, hash)
				mustAllow(b, d, err)
				paths = append([]string{target}, paths...)
			}
		}
		overlay := func(r Requests) (Decision, error) { return r.MountOverlay(ctx, testID, paths, "/x") }
		for _, c := range []struct {
			name   string
			before func(Requests)
			ask    func(Requests) (Decision, error)
			denied bool
		}{
			{"mount_device", nil, func(r Requests) (Decision, error) {
				return r.MountDevice(ctx, "/run/mounts/scsi/m999999", testContainer(last).Layers[7])
			}, false},
			{"mount_device_denied", nil, func(r Requests) (Decision, error) {
				return r.MountDevice(ctx, "/run/mounts/scsi/m999999", "bad")
			}, true},
			{"mount_overlay", prepare, overlay, false},
			{"create_container", func(r Requests) {
				prepare(r)
				d, err := overlay(r)
				mustAllow(b, d, err)
			}, func(r Requests) (Decision, error) { return r.CreateContainer(ctx, testCreate(testID, last)) }, false},
			{"exec_in_container", nil, func(r Requests) (Decision, error) { return r.ExecInContainer(ctx, exec) }, false},
			{"get_properties", nil, func(r Requests) (Decision, error) { return r.GetProperties(ctx) }, false},
		} {
			b.Run(fmt.Sprintf("%s/containers=%d", c.name, n), func(b *testing.B) {
				tx, err := e.Begin(ctx)
				if err != nil {
					b.Fatal(err)
				}
				defer tx.Rollback()
				if c.before != nil {
					c.before(tx.Requests)
				}
				if c.denied { // the first denial compiles what explains it
					_, err = c.ask(tx.Requests)
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					mark := e.store.state.mark()
					d, err := c.ask(tx.Requests)
					if err != nil || d.Allowed == c.denied {
						b.Fatal(d, err)
					}
					e.store.state.rollback(mark)
				}
			})
		}
	}
}
