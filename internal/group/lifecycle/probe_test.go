// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"testing"
	"time"

	"cofferdam.dev/internal/spec"

	"pgregory.net/rapid"
)

func probes(startup, readiness, liveness *spec.Probe) func(*spec.Life) {
	return func(l *spec.Life) { l.Startup, l.Readiness, l.Liveness = startup, readiness, liveness }
}

func TestProbes(t *testing.T) {
	t.Parallel()
	p := func(p spec.Probe) *spec.Probe { return &p }
	grace := time.Second
	for name, test := range map[string]struct {
		container Container
		script    []string
		ready     bool
	}{
		"none": {c("a"), []string{"-> start a", "up a ->"}, true},
		"the usual numbers": {
			c("a", probes(nil, p(spec.Probe{}), nil)),
			[]string{"-> start a", "up a -> ask a readiness", "ok a readiness ->", "+9s ->", "+1s -> ask a readiness"}, true,
		},
		"not before the hook is done": {c("a", probes(nil, p(spec.Probe{}), nil)), []string{"-> start a", "launch a ->", "+1m ->", "begin a -> ask a readiness"}, false},
		"an initial delay": {
			c("a", probes(nil, p(spec.Probe{InitialDelay: 5 * time.Second}), nil)),
			[]string{"-> start a", "up a ->", "+4s ->", "+1s -> ask a readiness"}, false,
		},
		"one question at a time": {
			c("a", probes(nil, p(spec.Probe{Period: time.Second}), nil)),
			[]string{"-> start a", "up a -> ask a readiness", "+5s ->", "ok a readiness -> ask a readiness", "ok a readiness ->", "+1s -> ask a readiness"}, true,
		},
		"thresholds of readiness": {
			c("a", probes(nil, p(spec.Probe{Period: time.Second, SuccessThreshold: 2, FailureThreshold: 2}), nil)),
			[]string{
				"-> start a", "up a -> ask a readiness", "ok a readiness; +1s -> ask a readiness", "bad a readiness; +1s -> ask a readiness",
				"ok a readiness; +1s -> ask a readiness", "ok a readiness; +1s -> ask a readiness", "bad a readiness; +1s -> ask a readiness",
				"ok a readiness; +1s -> ask a readiness",
			}, true,
		},
		"readiness is lost and nothing is stopped": {
			c("a", probes(nil, p(spec.Probe{Period: time.Second, FailureThreshold: 1}), nil)),
			[]string{"-> start a", "up a -> ask a readiness", "ok a readiness; +1s -> ask a readiness", "bad a readiness; +1s -> ask a readiness"}, false,
		},
		"liveness fails three times": {
			c("a", probes(nil, nil, p(spec.Probe{Period: time.Second}))),
			[]string{
				"-> start a", "up a -> ask a liveness", "bad a liveness; +1s -> ask a liveness", "bad a liveness; +1s -> ask a liveness",
				"bad a liveness -> stop a probe", "+1h ->", "end a 137 -> start a", "up a -> ask a liveness",
			}, true,
		},
		"a success in between counts": {
			c("a", probes(nil, nil, p(spec.Probe{Period: time.Second, FailureThreshold: 2}))),
			[]string{
				"-> start a", "up a -> ask a liveness", "bad a liveness; +1s -> ask a liveness", "ok a liveness; +1s -> ask a liveness",
				"bad a liveness; +1s -> ask a liveness",
			}, true,
		},
		"startup holds the others back": {
			c("a", probes(p(spec.Probe{Period: time.Second}), p(spec.Probe{}), p(spec.Probe{}))),
			[]string{
				"-> start a", "up a -> ask a startup", "bad a startup; +1s -> ask a startup", "ok a startup -> ask a readiness, ask a liveness",
				"ok a readiness; ok a liveness; +10s -> ask a readiness, ask a liveness",
			}, true,
		},
		"startup fails": {
			c("a", probes(p(spec.Probe{Period: time.Second, FailureThreshold: 2}), p(spec.Probe{}), nil)),
			[]string{"-> start a", "up a -> ask a startup", "bad a startup; +1s -> ask a startup", "bad a startup -> stop a probe"}, false,
		},
		"a delay counts from the start of the container": {
			c("a", probes(p(spec.Probe{Period: time.Second}), nil, p(spec.Probe{InitialDelay: 5 * time.Second}))),
			[]string{"-> start a", "up a -> ask a startup", "+3s; ok a startup ->", "+1s ->", "+1s -> ask a liveness"}, true,
		},
		"failures that do not count yet": {
			c("a", probes(nil, nil, p(spec.Probe{Period: time.Second, FailureThreshold: 2, StartPeriod: 3 * time.Second}))),
			[]string{
				"-> start a", "up a -> ask a liveness", "bad a liveness; +1s -> ask a liveness", "bad a liveness; +1s -> ask a liveness",
				"bad a liveness; +1s -> ask a liveness", "bad a liveness; +1s -> ask a liveness", "bad a liveness -> stop a probe",
			}, false,
		},
		"a success ends the patience": {
			c("a", probes(nil, nil, p(spec.Probe{Period: time.Second, FailureThreshold: 1, StartPeriod: time.Minute}))),
			[]string{
				"-> start a", "up a -> ask a liveness", "bad a liveness; +1s -> ask a liveness", "ok a liveness; +1s -> ask a liveness",
				"bad a liveness -> stop a probe",
			}, false,
		},
		"the usual period after the patience": {
			c("a", probes(nil, p(spec.Probe{Period: 30 * time.Second, StartInterval: time.Second, StartPeriod: 2 * time.Second, FailureThreshold: 10}), nil)),
			[]string{
				"-> start a", "up a -> ask a readiness", "bad a readiness; +1s -> ask a readiness", "bad a readiness; +1s -> ask a readiness",
				"bad a readiness; +29s ->", "+1s -> ask a readiness",
			}, false,
		},
		"a quicker period until the first success": {
			c("a", probes(nil, p(spec.Probe{Period: 30 * time.Second, StartInterval: time.Second, StartPeriod: time.Minute, FailureThreshold: 10}), nil)),
			[]string{
				"-> start a", "up a -> ask a readiness", "bad a readiness; +1s -> ask a readiness", "ok a readiness; +29s ->", "+1s -> ask a readiness",
				"bad a readiness; +29s ->",
			}, true,
		},
		"a grace of its own": {
			c("a", probes(nil, nil, p(spec.Probe{FailureThreshold: 1, Grace: &grace}))), []string{"-> start a", "up a -> ask a liveness", "bad a liveness -> stop a probe"}, false,
		},
		"an answer to an earlier run": {
			c("a", probes(nil, p(spec.Probe{}), nil)), []string{"-> start a", "up a -> ask a readiness", "end a 1; ok a readiness -> start a", "up a -> ask a readiness"}, false,
		},
		"not an init container": {c("a", asInit, probes(p(spec.Probe{}), p(spec.Probe{}), p(spec.Probe{}))), []string{"-> start a", "up a ->", "+1m ->"}, true},
		"no questions at the end": {
			c("a", probes(nil, p(spec.Probe{}), p(spec.Probe{}))),
			[]string{"-> start a", "up a -> ask a readiness, ask a liveness", "ok a readiness; ok a liveness; stop -> stop a", "+1m ->"}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlay(t, spec.RestartAlways, test.container)
			p.script(test.script...)
			if st := p.g.Status("a"); st.Ready != test.ready {
				t.Errorf("status is %+v, want ready %v", st, test.ready)
			}
			p.bounded()
		})
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	grace := 7 * time.Second
	p := newPlay(t, spec.RestartAlways, c("a", probes(nil, nil, &spec.Probe{FailureThreshold: 1, Grace: &grace})))
	p.script("-> start a", "up a -> ask a liveness")
	p.do("bad a liveness")
	orders := p.g.Orders(p.now)
	if len(orders) != 1 || orders[0].Grace == nil || *orders[0].Grace != grace || orders[0].Probe != Liveness {
		t.Errorf("orders are %+v", orders)
	}
}

// TestAnything tells a group whatever may happen in any order: it never gives an order twice, never runs a container in
// two runs at once, and ends when it is stopped.
func TestAnything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		policy := rapid.SampledFrom([]spec.RestartPolicy{spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever}).Draw(rt, "policy")
		names := []string{"s", "i", "a", "b"}
		p := newPlay(t, policy, c("s", asSidecar, probes(&spec.Probe{FailureThreshold: 1}, nil, nil)), c("i", asInit), c("a", probes(nil, &spec.Probe{}, &spec.Probe{FailureThreshold: 2})),
			c("b", after("a", spec.ConditionHealthy)))
		verbs := []string{"launch", "begin", "end 0", "end 1", "unlaunched", "denied", "hook", "ok startup", "bad startup", "ok readiness", "bad liveness", "restart", "abandon", "+3s", "+5m"}
		running := map[string]bool{}
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			for _, o := range p.g.Orders(p.now) {
				if o.Do == Start && running[o.Container] {
					rt.Fatalf("%s is started while it runs", o.Container)
				}
				if o.Do == Start {
					running[o.Container] = true
				}
			}
			if extra := p.g.Orders(p.now); len(extra) > 0 && extra[0].Do == Start {
				rt.Fatalf("orders are given twice: %+v", extra)
			}
			name, verb := rapid.SampledFrom(names).Draw(rt, "name"), rapid.SampledFrom(verbs).Draw(rt, "verb")
			before := p.g.Status(name)
			word, arg := verb, ""
			if i := len("end "); verb[0] != '+' && len(verb) > i && verb[:i] == "end " {
				word, arg = "end", verb[i:]
			} else if verb[0] == 'o' || verb[0] == 'b' && verb != "begin" {
				for j := range verb {
					if verb[j] == ' ' {
						word, arg = verb[:j], verb[j+1:]
					}
				}
			}
			p.do(word + " " + name + " " + arg)
			if now := p.g.Status(name); now.Phase != before.Phase && (now.Phase == Waiting || now.Phase == Ended) {
				running[name] = false
			}
		}
		p.bounded()
	})
}
