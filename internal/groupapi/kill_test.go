// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/groupapi/socket"
	"cofferdam.dev/internal/serve"
)

// serveUntilKilled is the service as a process of its own, on the socket s of the state directory.
func serveUntilKilled(home string) error {
	store, err := group.OpenStore(home)
	if err != nil {
		return err
	}
	log, err := audit.OpenState(home, "")
	if err != nil {
		return err
	}
	o, err := options(home, store, log)
	if err != nil {
		return err
	}
	api, err := New(o)
	if err != nil {
		return err
	}
	l, err := socket.Listen(filepath.Join(home, "s"))
	if err != nil {
		return err
	}
	srv, err := serve.New(context.Background(), serve.Options{Name: "groups", Listener: l, Handler: api, Error: Error})
	if err != nil {
		return err
	}
	return srv.Run(context.Background())
}

// victim is a service that is killed over and over.
type victim struct {
	t       *testing.T
	home    string
	rand    *rand.Rand
	client  *http.Client
	store   *group.Store
	cmd     *exec.Cmd
	exited  chan struct{}     // closed when cmd has ended; nil of none
	settled map[string]string // by name: "there" or "gone", where an answer said so and nothing was asked since
	anchor  string            // the ID of a group that nobody touches
}

func newVictim(t *testing.T, seed, worker uint64) *victim {
	t.Helper()
	v := &victim{t: t, home: makeHome(t), rand: rand.New(rand.NewPCG(seed, worker)), settled: map[string]string{}}
	path := filepath.Join(v.home, "s")
	v.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	var err error
	v.store, err = group.OpenStore(v.home)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// ask sends a request; the error is that of a service that is gone.
func (v *victim) ask(method, path, body string) (*reply, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://localhost"+path+"?api-version=2023-05-01", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	r := &reply{status: resp.StatusCode, text: string(data)}
	if len(data) > 0 {
		err = json.Unmarshal(data, &r.body)
	}
	return r, err
}

// start runs the service and waits until it answers. One that ends is started again, as whoever watches over services does: a
// process that the killed one was just starting has a copy of its locks and its socket for a moment.
func (v *victim) start() bool {
	self, err := os.Executable()
	if err != nil {
		v.t.Error(err)
		return false
	}
	for range attempts {
		if v.exited == nil {
			v.cmd, v.exited = exec.Command(self, "test-serve", v.home), make(chan struct{})
			v.cmd.Stderr = os.Stderr
			if err = v.cmd.Start(); err != nil {
				v.t.Error(err)
				return false
			}
			go func(cmd *exec.Cmd, exited chan struct{}) {
				_ = cmd.Wait() // it is killed, as a rule
				close(exited)
			}(v.cmd, v.exited)
		}
		if r, err := v.ask("GET", strings.TrimSuffix(pathOf(""), "/"), ""); err == nil && r.status == 200 {
			return true
		}
		select {
		case <-v.exited:
			v.exited = nil
		case <-time.After(10 * time.Millisecond):
		}
	}
	v.t.Error("the service does not start")
	return false
}

func (v *victim) kill() {
	_ = v.cmd.Process.Kill() // it is ours, and may have ended
	<-v.exited
	v.exited = nil
}

// calm waits until nothing is in transition, and returns the resources by name.
func (v *victim) calm() map[string]any {
	for range attempts {
		r, err := v.ask("GET", strings.TrimSuffix(pathOf(""), "/"), "")
		if err != nil {
			v.t.Error(err)
			return nil
		}
		found, busy := map[string]any{}, false
		list, _ := r.at("value").([]any)
		for _, one := range list {
			state := member(member(one, "properties"), "provisioningState")
			busy = busy || state != "Succeeded" && state != "Failed"
			found[fmt.Sprint(member(one, "name"))] = one
		}
		if !busy {
			return found
		}
		time.Sleep(10 * time.Millisecond)
	}
	v.t.Error("the resources never calm down")
	return nil
}

// inspect compares what the service says with what is there.
func (v *victim) inspect() {
	found := v.calm()
	for name, want := range v.settled {
		if _, there := found[name]; there != (want == "there") {
			v.t.Errorf("%s: the answer was that it is %s, and it is there: %v", name, want, there)
		}
	}
	groups, err := v.store.List()
	if err != nil {
		v.t.Error(err)
	}
	byID := map[string]*group.Group{}
	owners := map[string]int{}
	for _, g := range groups {
		byID[g.Record.ID] = g
		owners[g.Record.Source]++
		name := g.Record.Source[strings.LastIndexByte(g.Record.Source, '/')+1:]
		if _, known := found[name]; !known || owners[g.Record.Source] > 1 {
			v.t.Errorf("group %s belongs to nobody, or is one of several of %s", g.Record.Name, name)
		}
	}
	for name, one := range found {
		v.inspectOne(name, one, byID)
	}
	halves, _ := filepath.Glob(filepath.Join(v.home, "documents", ".new-*"))
	if len(halves) > 0 {
		v.t.Errorf("left behind: %v", halves)
	}
}

func (v *victim) inspectOne(name string, one any, byID map[string]*group.Group) {
	state, ours := member(member(one, "properties"), "provisioningState"), member(one, extensionMember)
	id, _ := member(ours, "groupID").(string)
	g := byID[id]
	switch {
	case state == "Succeeded" && g == nil:
		v.t.Errorf("%s has succeeded, and its group is lost: %v", name, one)
	case state == "Failed" && member(ours, "error") == nil && g != nil:
		v.t.Errorf("%s has failed without a reason: %v", name, one)
	}
	if g == nil || g.Record.Started == nil {
		return
	}
	r, err := v.ask("GET", pathOf(name)+"/containers/main/logs", "")
	if err != nil || r.status != 200 {
		v.t.Errorf("the log of %s: %v, %v", name, r, err)
		return
	}
	if c := g.Record.Containers[0]; c.Started != nil && !strings.Contains(fmt.Sprint(r.at("content")), "out\n") && g.Record.State.Final() {
		v.t.Logf("%s was killed before it wrote: %q", name, r.text)
	}
	if name == "anchor" {
		content := fmt.Sprint(r.at("content"))
		if id != v.anchor || !g.Alive || !strings.Contains(content, "out\n") || strings.Count(content, "out\n") != 1 {
			v.t.Errorf("the group that nobody touches is %s, alive %v, and was %s; its log is %q", id, g.Alive, v.anchor, content)
		}
	}
}

// disturb asks for things until the service is gone.
func (v *victim) disturb() {
	for {
		name := []string{"one", "two"}[v.rand.IntN(2)]
		var method, path, body string
		switch v.rand.IntN(8) {
		case 0, 1, 2, 3:
			method, path, body = "PUT", "", resource(fmt.Sprintf("img-%d", v.rand.IntN(3)), lasting)
		case 4:
			method, path = "DELETE", ""
		case 5:
			method, path = "POST", "/stop"
		case 6:
			method, path = "POST", "/start"
		case 7:
			method, path, body = "PATCH", "", `{"tags": {"x": "y"}}`
		}
		was := v.settled[name]
		if method == "PUT" || method == "DELETE" {
			delete(v.settled, name) // nobody knows, until there is an answer
		}
		r, err := v.ask(method, pathOf(name)+path, body)
		switch {
		case err != nil:
			return
		case method == "PUT" && r.status < 300:
			v.settled[name] = "there"
		case method == "DELETE" && r.status < 300:
			v.settled[name] = "gone"
		case was != "" && (method == "PUT" || method == "DELETE"):
			v.settled[name] = was // it was turned down
		}
		if r.status >= 500 {
			v.t.Errorf("%s %s is %d %s", method, path, r.status, r.text)
		}
		time.Sleep(time.Duration(v.rand.IntN(100)) * time.Millisecond)
	}
}

// TestServiceIsKilledAnywhere kills the service at random moments. No group and no log may be lost, and what the next service
// says must be true.
func TestServiceIsKilledAnywhere(t *testing.T) {
	t.Parallel()
	const workers = 4
	points := 200
	if testing.Short() {
		points = 12
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var all sync.WaitGroup
	for w := range workers {
		v := newVictim(t, seed, uint64(w))
		all.Go(func() {
			defer v.sweep()
			for i := range points / workers {
				if !v.start() {
					return
				}
				if i == 0 {
					v.dropAnchor()
				}
				v.inspect()
				after := time.Duration(v.rand.Int64N(int64(400 * time.Millisecond)))
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					v.disturb()
				}()
				time.Sleep(after)
				v.kill()
				<-ended
				if v.t.Failed() {
					return
				}
			}
			if v.start() {
				v.inspect()
				v.kill()
			}
			v.verifyAudit()
		})
	}
	all.Wait()
}

// dropAnchor makes the group that nobody touches.
func (v *victim) dropAnchor() {
	r, err := v.ask("PUT", pathOf("anchor"), resource("img", lasting))
	if err != nil || r.status != 201 {
		v.t.Errorf("%v, %v", r, err)
		return
	}
	v.anchor, _ = member(member(v.calm()["anchor"], extensionMember), "groupID").(string)
	for range attempts { // its first words are in its log
		r, err = v.ask("GET", pathOf("anchor")+"/containers/main/logs", "")
		if err == nil && strings.Contains(fmt.Sprint(r.at("content")), "out\n") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	v.t.Error("the anchor says nothing")
}

// sweep ends what still runs.
func (v *victim) sweep() {
	groups, _ := v.store.List()
	a := &API{opts: Options{Groups: v.store}}
	for _, g := range groups {
		if err := a.stopGroup(context.Background(), g.Record.ID); err != nil && !errors.Is(err, group.ErrNotFound) {
			v.t.Error(err)
		}
	}
}

// verifyAudit makes sure that the chain of the log holds across all kills.
func (v *victim) verifyAudit() {
	text, err := os.ReadFile(filepath.Join(v.home, "audit-key.pem"))
	block, _ := pem.Decode(text)
	if err != nil || block == nil {
		v.t.Errorf("the key of the audit log: %v", err)
		return
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	public, ok := key.(*ecdsa.PublicKey)
	if err != nil || !ok {
		v.t.Errorf("the key of the audit log is a %T: %v", key, err)
		return
	}
	verifier, err := audit.NewVerifier([]*ecdsa.PublicKey{public}, nil)
	if err != nil {
		v.t.Error(err)
		return
	}
	files, _ := filepath.Glob(filepath.Join(v.home, "audit", "*"))
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err == nil {
			err = verifier.File(name, bytes.NewReader(data))
		}
		if err != nil {
			v.t.Error(err)
		}
	}
}
