// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/channel"
	"cofferdam.dev/policy/engine"
)

// silentHost is a control port whose host sent some bytes, takes no answer, and went away.
type silentHost struct{ io.Reader }

func (silentHost) Write(p []byte) (int, error) { return len(p), nil }
func (silentHost) Close() error                { return nil }

// wire is the bytes of a channel whose first stream carries the calls.
func wire(calls ...[]byte) []byte {
	content := append([]byte{0x01}, bytes.Join(calls, nil)...)
	b := []byte{0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	b = binary.BigEndian.AppendUint32(b, uint32(len(content))) // small
	return append(b, content...)
}

func rpc(f *testing.F, number uint32, method string, m proto.Message) []byte {
	f.Helper()
	payload, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	req, err := proto.Marshal(&ttrpc.Request{Service: "cofferdam.guest.v1.Guest", Method: method, Payload: payload})
	if err != nil {
		f.Fatal(err)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(req))) // small
	b = binary.BigEndian.AppendUint32(b, number)
	return append(append(b, 0x01, 0), req...)
}

// FuzzControlPort feeds bytes to the control port of a guest whose policy denies everything: nothing may happen but what is the
// host's to say anyway.
func FuzzControlPort(f *testing.F) {
	f.Add(wire(rpc(f, 1, "MountLayer", layerRequest(0)), rpc(f, 3, "MountOverlay", overlayRequest(idA))))
	f.Add(wire(rpc(f, 1, "CreateContainer", createRequest(idA)), rpc(f, 3, "ExecProcess", execRequest(idA))))
	f.Add(wire(rpc(f, 1, "SetPolicy", &guestv1.SetPolicyRequest{Policy: policyText}), rpc(f, 3, "PowerOff", &guestv1.PowerOffRequest{})))
	f.Add(wire(rpc(f, 1, "FillVolume", &guestv1.FillVolumeRequest{Source: secretSource, Files: []*guestv1.VolumeFile{{Path: "a", Content: []byte("b")}}}),
		rpc(f, 3, "ShareVolume", &guestv1.ShareVolumeRequest{Source: "sandbox:///tmp/atlas/azureFileVolume/x"})))
	f.Add(wire(rpc(f, 1, "ConfigureNetwork", networkRequest()), rpc(f, 3, "Probe", &guestv1.ProbeRequest{Port: 1, TimeoutMs: 1})))
	f.Add(wire(rpc(f, 1, "MountScratch", &guestv1.MountScratchRequest{Serial: "s", Target: "/run/gcs/c/sandbox"})))
	f.Add(wire(rpc(f, 1, "Evidence", &guestv1.EvidenceRequest{Nonce: make([]byte, 8)}), rpc(f, 3, "WaitProcess", &guestv1.WaitProcessRequest{ContainerId: idA})))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := ready(t)
		mounted(t, r)
		r.log.take()
		r.decider.decide = func(p engine.Point, _ string) engine.Decision {
			return engine.Decision{Point: p, Reasons: []string{"no"}}
		}
		server, err := NewServer(r.Service)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() {
			served <- channel.Serve(context.Background(), silentHost{bytes.NewReader(in)}, server, r.broker)
		}()
		select {
		case err := <-served:
			t.Logf("serving ended with: %v", err)
		case <-time.After(patience):
			t.Fatal("serving did not end with its input")
		}
		r.mu.Lock() // a call may still be on its way
		defer r.mu.Unlock()
		select {
		case <-r.off: // the host may always power off
		default:
			a := slices.DeleteFunc(acts(r.log.take()), func(e string) bool {
				word, _, _ := strings.Cut(e, " ")
				return word == "Fill" || word == "Share" || word == "served"
			})
			if len(a) != 0 {
				t.Errorf("the bytes led to %q", a)
			}
		}
		r.policy = &fakeDecider{log: r.log, decide: allowAll}
	})
}

// FuzzCreateRequest feeds structured requests of any content to a guest whose policy allows everything: what gets
// through has the form that the runtime relies on.
func FuzzCreateRequest(f *testing.F) {
	for _, m := range []*guestv1.CreateContainerRequest{createRequest(idA), {}} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var q guestv1.CreateContainerRequest
		if proto.Unmarshal(in, &q) != nil {
			return
		}
		q.ContainerId = idA
		r := ready(t)
		mounted(t, r)
		_, err := r.CreateContainer(t.Context(), &q)
		if err != nil {
			if guestv1.DenialFrom(err) == nil {
				t.Errorf("the error is no denial: %v", err)
			}
			return
		}
		s := r.runtime.specs[idA]
		for _, m := range s.Mounts {
			if !sourceForm.match(sandboxScheme + m.Source) {
				t.Errorf("mount source %q", m.Source)
			}
		}
		for _, list := range [][]string{s.Args, s.Env, {s.WorkingDir, s.Hostname}} {
			for _, text := range list {
				if bytes.ContainsRune([]byte(text), 0) {
					t.Errorf("NUL in %q", text)
				}
			}
		}
	})
}
