// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/policy"
)

// The model checker asks a policy of two containers every sequence of requests of a small alphabet, however long: states
// are remembered, there are finitely many, and it stops when none is new. It holds each request that is admitted against an account of its own: what was admitted before, and what the policy lists, compared
// in plain Go. It knows nothing of how the framework decides.

// account is what has been admitted so far.
type account struct {
	devices  map[string]string   // target → hash
	overlays map[string][]string // container ID → its layers' hashes, base first, as they were when it was mounted
	targets  map[string]bool     // overlays that are mounted
	created  map[string]string   // container ID → name of the policy's container that it was created as
}

func newAccount() *account {
	return &account{map[string]string{}, map[string][]string{}, map[string]bool{}, map[string]string{}}
}

func (a *account) key() string {
	return fmt.Sprint(a.devices, a.overlays, a.targets, a.created) // maps print sorted
}

func (a *account) clone() *account {
	b := newAccount()
	for k, v := range a.devices {
		b.devices[k] = v
	}
	for k, v := range a.overlays {
		b.overlays[k] = v
	}
	for k, v := range a.targets {
		b.targets[k] = v
	}
	for k, v := range a.created {
		b.created[k] = v
	}
	return b
}

// ask is one request of the alphabet: how it is made, and what may be wrong with admitting it.
type ask struct {
	name  string
	good  bool // it must be admitted somewhere, or the exploration shows nothing
	make  func(context.Context, *Tx) (Decision, error)
	admit func(a *account, p *policy.Policy, d Decision) error // records it; an error is a violation
}

var modelTarget = regexp.MustCompile(`\A/run/mounts/scsi/m[0-9]+\z`)

func mountAsk(good bool, target, hash string) ask {
	return ask{"mount " + target + " " + hash, good,
		func(ctx context.Context, tx *Tx) (Decision, error) { return tx.MountDevice(ctx, target, hash) },
		func(a *account, p *policy.Policy, _ Decision) error {
			listed := slices.ContainsFunc(p.Containers, func(c policy.Container) bool { return slices.Contains(c.Layers, hash) })
			switch {
			case !listed:
				return fmt.Errorf("unlisted layer %s was mounted", hash)
			case !modelTarget.MatchString(target):
				return fmt.Errorf("a layer was mounted at %s", target)
			case a.devices[target] != "":
				return fmt.Errorf("the layer at %s was covered", target)
			}
			a.devices[target] = hash
			return nil
		}}
}

func unmountAsk(target string) ask {
	return ask{"unmount " + target, true,
		func(ctx context.Context, tx *Tx) (Decision, error) { return tx.UnmountDevice(ctx, target) },
		func(a *account, _ *policy.Policy, _ Decision) error {
			if a.devices[target] == "" {
				return fmt.Errorf("nothing was unmounted at %s", target)
			}
			delete(a.devices, target)
			return nil
		}}
}

func overlayAsk(good bool, id, target string, paths ...string) ask {
	return ask{fmt.Sprintf("overlay %s %v at %s", id[63:], paths, target), good,
		func(ctx context.Context, tx *Tx) (Decision, error) { return tx.MountOverlay(ctx, id, paths, target) },
		func(a *account, p *policy.Policy, _ Decision) error {
			var hashes []string
			for _, path := range slices.Backward(paths) {
				hashes = append(hashes, a.devices[path])
			}
			listed := slices.ContainsFunc(p.Containers, func(c policy.Container) bool { return slices.Equal(c.Layers, hashes) })
			switch {
			case !listed:
				return fmt.Errorf("an overlay of %q is no container's", hashes)
			case a.overlays[id] != nil:
				return fmt.Errorf("container %s got a second overlay", id)
			case a.targets[target]:
				return fmt.Errorf("the overlay at %s was covered", target)
			}
			a.overlays[id], a.targets[target] = hashes, true
			return nil
		}}
}

func unmountOverlayAsk(target string) ask {
	return ask{"unmount overlay " + target, true,
		func(ctx context.Context, tx *Tx) (Decision, error) { return tx.UnmountOverlay(ctx, target) },
		func(a *account, _ *policy.Policy, _ Decision) error {
			if !a.targets[target] {
				return fmt.Errorf("no overlay was unmounted at %s", target)
			}
			delete(a.targets, target)
			return nil
		}}
}

func createAsk(good bool, name string, in CreateInput) ask {
	return ask{"create " + name, good,
		func(ctx context.Context, tx *Tx) (Decision, error) { return tx.CreateContainer(ctx, in) },
		func(a *account, p *policy.Policy, d Decision) error {
			if a.created[in.ContainerID] != "" {
				return fmt.Errorf("container %s was created a second time", in.ContainerID)
			}
			var faults []string
			for _, c := range p.Containers {
				fault := processFault(c, c.Command, in.Process, d)
				switch {
				case !slices.Equal(c.Layers, a.overlays[in.ContainerID]):
					fault = "other layers"
				case fault == "" && (in.Privileged || len(in.Devices) > 0 || in.SeccompProfileSHA256 != ""):
					fault = "privileges"
				case fault == "":
					fault = mountFault(c, in.Mounts)
				}
				if fault == "" {
					a.created[in.ContainerID] = c.Name
					return nil
				}
				faults = append(faults, c.Name+": "+fault)
			}
			return fmt.Errorf("an unlisted container was created: %v", faults)
		}}
}

func execAsk(good bool, id string, process Process) ask {
	return ask{fmt.Sprintf("exec %v %v in %s", process.Args, process.Env, id[63:]), good,
		func(ctx context.Context, tx *Tx) (Decision, error) {
			return tx.ExecInContainer(ctx, ExecInput{ContainerID: id, Process: process})
		},
		func(a *account, p *policy.Policy, d Decision) error {
			for _, c := range p.Containers {
				if c.Name != a.created[id] {
					continue
				}
				for _, e := range c.ExecProcesses {
					if processFault(c, e.Command, process, d) == "" {
						return nil
					}
				}
			}
			return fmt.Errorf("unlisted process %q was started in %q", process.Args, a.created[id])
		}}
}

func signalAsk(good bool, id string, signal int) ask {
	return ask{fmt.Sprintf("signal %d to %s", signal, id[63:]), good,
		func(ctx context.Context, tx *Tx) (Decision, error) {
			return tx.SignalContainerProcess(ctx, SignalInput{ContainerID: id, Signal: signal, Init: true})
		},
		func(a *account, p *policy.Policy, _ Decision) error {
			for _, c := range p.Containers {
				if c.Name == a.created[id] && slices.Contains(c.Signals, signal) {
					return nil
				}
			}
			return fmt.Errorf("signal %d was sent to %q", signal, a.created[id])
		}}
}

// processFault compares what a process is started with to a container of the policy; empty means that it is listed.
func processFault(c policy.Container, command []string, in Process, d Decision) string {
	switch {
	case !slices.Equal(command, in.Args):
		return "command"
	case c.WorkingDir != in.WorkingDir:
		return "working directory"
	case in.User.ID != c.User.UserIDName.Pattern || in.Umask != c.User.Umask:
		return "user"
	case d.Capabilities == nil || !slices.Equal(c.Capabilities.Effective, d.Capabilities.Effective):
		return "capabilities"
	}
	for _, e := range d.EnvList {
		if e != "PATH=/bin" && (!strings.HasPrefix(e, "HOSTNAME=") || len(e) < len("HOSTNAME=x")) {
			return "environment " + e
		}
	}
	return ""
}

// mountFault knows the one mount that the model's containers list.
func mountFault(c policy.Container, mounts []policy.Mount) string {
	for _, m := range mounts {
		if m.Destination != c.Mounts[0].Destination || m.Source != modelMount().Source || !slices.Equal(m.Options, c.Mounts[0].Options) {
			return "mount " + m.Destination
		}
	}
	return ""
}

// endless is the depth that ends when there are no new states.
const endless = math.MaxInt

// checker explores.
type checker struct {
	policy   *policy.Policy
	alphabet []ask
	seen     map[[32]byte]int // state → how many further requests were followed from it
	admitted map[string]int
	asked    int
	depth    int // of the deepest state whose requests were asked
	trace    []string
	found    error
}

// explore asks every request in the present state, and goes on from where it leads. It returns at the first violation.
func (c *checker) explore(ctx context.Context, tx *Tx, a *account, depth int) error {
	state := tx.engine.store.state
	v, _ := state.read(nil)
	key := sha256.Sum256([]byte(v.String() + a.key()))
	if left, ok := c.seen[key]; ok && left >= depth || depth == 0 {
		return nil
	}
	c.seen[key] = depth
	c.depth = max(c.depth, len(c.trace))
	if depth != endless {
		depth--
	}
	for _, request := range c.alphabet {
		mark := state.mark()
		c.asked++
		d, err := request.make(ctx, tx)
		if err != nil {
			return fmt.Errorf("%s: %w", request.name, err)
		}
		if !d.Allowed {
			if len(d.Reasons) == 0 {
				return fmt.Errorf("%s: denied without a reason", request.name)
			}
			continue
		}
		c.admitted[request.name]++
		c.trace = append(c.trace, request.name)
		next := a.clone()
		if c.found = request.admit(next, c.policy, d); c.found != nil {
			return nil
		}
		if err := c.explore(ctx, tx, next, depth); err != nil || c.found != nil {
			return err
		}
		c.trace = c.trace[:len(c.trace)-1]
		state.rollback(mark)
	}
	return nil
}

func check(t *testing.T, text string, depth int) *checker {
	t.Helper()
	e, err := New([]byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	tx, err := e.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	c := &checker{policy: modelPolicy(), alphabet: modelAlphabet(), seen: map[[32]byte]int{}, admitted: map[string]int{}}
	if err := c.explore(ctx, tx, newAccount(), depth); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNoStateAdmitsTheUnlisted is the invariant: whatever the host asks, in whatever order, nothing that the policy
// does not list is mounted, started, or started twice. The depth is whatever it takes to have been in every state.
func TestNoStateAdmitsTheUnlisted(t *testing.T) {
	t.Parallel()
	depth := endless
	if testing.Short() {
		depth = 6
	}
	start := time.Now()
	c := check(t, string(modelPolicy().Text()), depth)
	if c.found != nil {
		t.Fatalf("%v, after %s", c.found, strings.Join(c.trace, "; "))
	}
	if c.depth+1 < 6 || depth == endless && len(c.seen) < 200 {
		t.Errorf("only %d states, to a depth of %d", len(c.seen), c.depth+1)
	}
	t.Logf("%d states, %d requests, depth %d, %v", len(c.seen), c.asked, c.depth+1, time.Since(start).Round(time.Millisecond))
	for _, request := range c.alphabet {
		if n := c.admitted[request.name]; n > 0 != request.good {
			t.Errorf("%s was admitted %d times, expected: %v", request.name, n, request.good)
		}
	}
}
