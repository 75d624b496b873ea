// SPDX-License-Identifier: Apache-2.0

// Package oraclecases records what the engine answers to sequences of requests under generated policies, for an
// independent enforcer to be asked the same: the module in internal/oracle reads what is recorded here.
package oraclecases

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

var update = flag.Bool("update", false, "record anew")

// recorded is where the other module finds the cases.
var recorded = filepath.Join("..", "oracle", "testdata", "cases.json")

// request is one question to an enforcer. Which fields count depends on the point.
type request struct {
	Point        string               `json:"point"`
	Container    string               `json:"container,omitempty"`
	Target       string               `json:"target,omitempty"`
	Hash         string               `json:"hash,omitempty"`
	Layers       []string             `json:"layers,omitempty"`
	Plain        bool                 `json:"plain,omitempty"` // a writable device that is not encrypted
	Filesystem   string               `json:"filesystem,omitempty"`
	Args         []string             `json:"args,omitempty"`
	Env          []string             `json:"env,omitempty"`
	Dir          string               `json:"dir,omitempty"`
	User         engine.ID            `json:"user,omitzero"`
	Umask        string               `json:"umask,omitempty"`
	NoNew        bool                 `json:"no_new_privileges,omitempty"`
	Privileged   bool                 `json:"privileged,omitempty"`
	Capabilities *policy.Capabilities `json:"capabilities,omitempty"`
	Mounts       []policy.Mount       `json:"mounts,omitempty"`
	Seccomp      string               `json:"seccomp,omitempty"`
	Signal       int                  `json:"signal,omitempty"`
	Init         bool                 `json:"init,omitempty"`
	Issuer       string               `json:"issuer,omitempty"`
	Feed         string               `json:"feed,omitempty"`
	Text         string               `json:"text,omitempty"`
}

// step is a request, by number, and what the engine said to it.
type step struct {
	Request int      `json:"r"`
	Allowed bool     `json:"a,omitempty"`
	Reasons []string `json:"w,omitempty"`
	Env     []string `json:"e,omitempty"`
	Stdio   bool     `json:"s,omitempty"`
	// Capabilities are those kept of the bounding set.
	Capabilities []string `json:"c,omitempty"`
}

// sequence is what is asked of one enforcer, in order.
type sequence struct {
	Name   string `json:"name"`
	Policy string `json:"policy"` // by name
	Steps  []step `json:"steps"`
}

type cases struct {
	Policies  map[string]string `json:"policies"`
	Requests  []request         `json:"requests"`
	Sequences []sequence        `json:"sequences"`
}

func (r *request) process() engine.Process {
	p := engine.Process{
		Args: r.Args, Env: r.Env, WorkingDir: r.Dir, User: r.User, Groups: []engine.ID{r.User}, Umask: r.Umask, NoNewPrivileges: r.NoNew,
	}
	if r.Capabilities != nil {
		p.Capabilities = *r.Capabilities
	}
	return p
}

// ask puts a request to the engine.
func (r *request) ask(ctx context.Context, e *engine.Engine) (engine.Decision, error) {
	switch engine.Point(r.Point) {
	case engine.PointMountDevice:
		return e.MountDevice(ctx, r.Target, r.Hash)
	case engine.PointUnmountDevice:
		return e.UnmountDevice(ctx, r.Target)
	case engine.PointRWMountDevice:
		return e.RWMountDevice(ctx, r.Target, !r.Plain, true, r.Filesystem)
	case engine.PointRWUnmountDevice:
		return e.RWUnmountDevice(ctx, r.Target)
	case engine.PointMountOverlay:
		return e.MountOverlay(ctx, r.Container, r.Layers, r.Target)
	case engine.PointUnmountOverlay:
		return e.UnmountOverlay(ctx, r.Target)
	case engine.PointCreateContainer:
		return e.CreateContainer(ctx, engine.CreateInput{
			ContainerID: r.Container, Process: r.process(), Mounts: r.Mounts, Privileged: r.Privileged, SeccompProfileSHA256: r.Seccomp,
			SandboxDir: sandboxDir, HugePagesDir: "/run/gcs/c/sandbox/hugepages",
		})
	case engine.PointExecInContainer:
		return e.ExecInContainer(ctx, engine.ExecInput{ContainerID: r.Container, Process: r.process()})
	case engine.PointExecExternal:
		return e.ExecExternal(ctx, r.Args, r.Env, r.Dir)
	case engine.PointSignalContainerProcess:
		return e.SignalContainerProcess(ctx, engine.SignalInput{ContainerID: r.Container, Signal: r.Signal, Init: r.Init, Args: r.Args})
	case engine.PointShutdownContainer:
		return e.ShutdownContainer(ctx, r.Container)
	case engine.PointGetProperties:
		return e.GetProperties(ctx)
	case engine.PointDumpStacks:
		return e.DumpStacks(ctx)
	case engine.PointRuntimeLogging:
		return e.RuntimeLogging(ctx)
	case engine.PointPlan9Mount:
		return e.Plan9Mount(ctx, r.Target)
	case engine.PointScratchMount:
		return e.ScratchMount(ctx, r.Target, !r.Plain)
	case engine.PointScratchUnmount:
		return e.ScratchUnmount(ctx, r.Target)
	case engine.PointLoadFragment:
		return e.LoadFragment(ctx, engine.Fragment{Issuer: r.Issuer, Feed: r.Feed, Text: []byte(r.Text)})
	}
	return engine.Decision{}, fmt.Errorf("point %q is not known here", r.Point)
}

// TestCases replays what is recorded, and with -update records anew.
func TestCases(t *testing.T) {
	got := cases{Requests: allRequests(t), Policies: map[string]string{}}
	for i, p := range policies(t) {
		got.Policies[p.name] = string(p.text)
		random := rand.New(rand.NewPCG(uint64(i), 2026)) // the same sequences each time
		for n := range 8 {
			s := sequence{Name: fmt.Sprintf("%s-%d", p.name, n), Policy: p.name}
			if n > 0 {
				s.Steps = wander(random, len(got.Requests), p.way, 40)
			} else {
				for _, r := range p.way { // the intended way, nothing else
					s.Steps = append(s.Steps, step{Request: r})
				}
			}
			answer(t, &got, &s)
			got.Sequences = append(got.Sequences, s)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(got)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		err = os.WriteFile(recorded, b.Bytes(), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Error("decisions differ from those that the other enforcer was asked about: run with -update, and the other module's test")
	}
}

// wander mostly goes the intended way, and strays from it.
func wander(random *rand.Rand, requests int, way []int, steps int) []step {
	var list []step
	for next := 0; len(list) < steps; {
		if next < len(way) && random.IntN(10) < 6 {
			list = append(list, step{Request: way[next]})
			next++
			continue
		}
		list = append(list, step{Request: random.IntN(requests)})
	}
	return list
}

func answer(t *testing.T, c *cases, s *sequence) {
	t.Helper()
	e, err := engine.New([]byte(c.Policies[s.Policy]), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	allowed := 0
	for i := range s.Steps {
		at := &s.Steps[i]
		d, err := c.Requests[at.Request].ask(context.Background(), e)
		if err != nil {
			t.Fatal(err)
		}
		at.Allowed, at.Reasons = d.Allowed, d.Reasons
		if !d.Allowed {
			continue
		}
		allowed++
		at.Env, at.Stdio = d.EnvList, d.AllowStdio
		if d.Capabilities != nil {
			at.Capabilities = d.Capabilities.Bounding
		}
	}
	if s.Name[len(s.Name)-2:] == "-0" && allowed != len(s.Steps) {
		for _, at := range s.Steps {
			t.Logf("%s: %v %q", c.Requests[at.Request].Point, at.Allowed, at.Reasons)
		}
		t.Fatalf("%s: the intended way is denied", s.Name)
	}
}
