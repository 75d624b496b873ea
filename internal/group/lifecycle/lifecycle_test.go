// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/spec"

	"github.com/google/go-cmp/cmp"
)

// play is a group whose life is told line by line, at a time that tests set.
type play struct {
	t   *testing.T
	g   *Group
	now time.Time
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newPlay(t *testing.T, policy spec.RestartPolicy, containers ...Container) *play {
	t.Helper()
	g, err := New(containers, policy, Times{})
	if err != nil {
		t.Fatal(err)
	}
	return &play{t: t, g: g, now: epoch}
}

// do tells what happened: words such as "up a" (launched and begun), "launch a", "begin a", "end a 3", "unlaunched a",
// "denied a", "hook a", "ok a readiness", "bad a liveness", "stop", "restart a", "abandon a", "+10s".
func (p *play) do(what string) {
	p.t.Helper()
	w := strings.Fields(what)
	name, run := "", 0
	if len(w) > 1 {
		name = w[1]
		run = p.g.Status(name).Runs
	}
	switch w[0] {
	case "up":
		p.g.Launched(name, run, p.now)
		p.g.Begun(name, run, p.now)
	case "launch":
		p.g.Launched(name, run, p.now)
	case "begin":
		p.g.Begun(name, run, p.now)
	case "end":
		code, err := strconv.Atoi(w[2])
		if err != nil {
			p.t.Fatal(err)
		}
		p.g.Ended(name, run, code, p.now)
	case "unlaunched", "denied":
		p.g.NotStarted(name, run, p.now, w[0] == "denied")
	case "hook":
		p.g.HookFailed(name, run)
	case "ok", "bad":
		p.g.Probed(name, run, Probe(w[2]), w[0] == "ok", p.now)
	case "stop":
		p.g.Stop()
	case "restart":
		p.g.Restart(name, p.now)
	case "abandon":
		p.g.Abandoned(name, run, p.now)
	default:
		d, err := time.ParseDuration(strings.TrimPrefix(w[0], "+"))
		if err != nil {
			p.t.Fatalf("%q: %v", what, err)
		}
		p.now = p.now.Add(d)
	}
}

// orders are those that are given now, as words.
func (p *play) orders() string {
	var words []string
	for _, o := range p.g.Orders(p.now) {
		word := string(o.Do) + " " + o.Container
		if o.Do == Ask {
			word += " " + string(o.Probe)
		}
		if o.Do == Stop && o.Why != StopGroup {
			word += " " + string(o.Why)
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// script plays lines of the form "what; what -> orders".
func (p *play) script(lines ...string) {
	p.t.Helper()
	for _, line := range lines {
		did, want, _ := strings.Cut(line, "->")
		for what := range strings.SplitSeq(did, ";") {
			if what = strings.TrimSpace(what); what != "" {
				p.do(what)
			}
		}
		if got := p.orders(); got != strings.TrimSpace(want) {
			p.t.Errorf("%s: orders are %q, want %q", line, got, strings.TrimSpace(want))
		}
	}
}

func c(name string, change ...func(*spec.Life)) Container {
	x := Container{Name: name}
	for _, f := range change {
		f(&x.Life)
	}
	return x
}

func asInit(l *spec.Life) { l.Init = true }

func asSidecar(l *spec.Life) { l.Init, l.Restart = true, spec.RestartAlways }

func restart(p spec.RestartPolicy) func(*spec.Life) { return func(l *spec.Life) { l.Restart = p } }

func after(name string, how spec.Condition, optional ...bool) func(*spec.Life) {
	return func(l *spec.Life) {
		l.After = append(l.After, spec.Dependency{Container: name, Condition: how, Optional: len(optional) > 0})
	}
}

// TestRestartDecision is the whole table of who is started again: policy of the group, of the container, kind, exit code.
func TestRestartDecision(t *testing.T) {
	t.Parallel()
	policies := []spec.RestartPolicy{"", spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever}
	for _, group := range policies {
		for _, own := range policies {
			for _, init := range []bool{false, true} {
				for _, code := range []int{0, 1, 137} {
					p := own
					if p == "" {
						p = group
					}
					want := p == spec.RestartAlways || p == spec.RestartOnFailure && code != 0
					if init && own != spec.RestartAlways { // it has done its work, or tries again
						want = (p == spec.RestartAlways || p == spec.RestartOnFailure) && code != 0
					}
					name := fmt.Sprintf("group %q, own %q, init %v, code %d", group, own, init, code)
					x := c("x", restart(own), func(l *spec.Life) { l.Init = init })
					play := newPlay(t, group, x, c("app", restart(spec.RestartAlways)))
					_ = play.orders()
					play.do("up x")
					_ = play.orders()
					play.do(fmt.Sprintf("end x %d", code))
					got := strings.Contains(play.orders(), "start x")
					if got != want {
						t.Errorf("%s: started again: %v, want %v", name, got, want)
					}
				}
			}
		}
	}
}

// A container whose restarts are counted is started again so often, and anew after somebody asked for it.
func TestMaxRestarts(t *testing.T) {
	t.Parallel()
	p := newPlay(t, "", c("x", restart(spec.RestartOnFailure), func(l *spec.Life) { l.MaxRestarts = 2 }), c("app", restart(spec.RestartAlways)))
	_ = p.orders()
	p.script("up x; up app; end x 1 -> start x", "up x; end x 1 ->", "+10s -> start x", "up x; end x 1 ->", "+1h ->")
	if st := p.g.Status("x"); st.Phase != Ended || st.Restarts != 2 {
		t.Errorf("status is %+v", st)
	}
	p.g.Restart("x", p.now)
	p.script("-> start x", "up x; end x 1 -> start x")
}

// TestBackOff has the kubelet's waits: at once, then 10 s, doubling to 5 min, and from the beginning after 10 calm minutes.
func TestBackOff(t *testing.T) {
	t.Parallel()
	p := newPlay(t, spec.RestartAlways, c("a"))
	p.script("-> start a")
	for i, wait := range []time.Duration{0, 10, 20, 40, 80, 160, 300, 300, 300} {
		wait *= time.Second
		p.do("up a")
		p.do("+9m59s")
		p.do("end a 1")
		if wait > 0 {
			if got := p.orders(); got != "" {
				t.Errorf("wait %d: %q at once", i, got)
			}
			st := p.g.Status("a")
			if st.Phase != Waiting || st.Why != ForBackOff || !st.Until.Equal(p.now.Add(wait)) || !p.g.Next().Equal(p.now.Add(wait)) {
				t.Errorf("wait %d: status is %+v, next %v, want %v", i, st, p.g.Next(), p.now.Add(wait))
			}
			p.now = p.now.Add(wait - time.Nanosecond)
			if got := p.orders(); got != "" {
				t.Errorf("wait %d: %q a moment too soon", i, got)
			}
			p.now = p.now.Add(time.Nanosecond)
		}
		if got := p.orders(); got != "start a" {
			t.Errorf("wait %d: orders are %q after it", i, got)
		}
		if st := p.g.Status("a"); st.Restarts != i+1 || st.Runs != i+2 {
			t.Errorf("wait %d: %d restarts, %d runs", i, st.Restarts, st.Runs)
		}
	}
	p.script("up a; +10m; end a 1 -> start a", "up a; end a 1 ->", "+10s -> start a", "unlaunched a ->", "+19s ->", "+1s -> start a")
}

func TestScripts(t *testing.T) {
	t.Parallel()
	always, onFailure, never := spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever
	started, healthy, completed := spec.ConditionStarted, spec.ConditionHealthy, spec.ConditionCompleted
	for name, test := range map[string]struct {
		policy     spec.RestartPolicy
		containers []Container
		script     []string
		done       bool
		failed     string
	}{
		"one, never": {never, []Container{c("a")}, []string{"-> start a", "up a ->", "end a 3 ->"}, true, ""},
		"all at once": {
			never, []Container{c("a"), c("b")}, []string{"-> start a, start b", "up a; end a 0 ->", "up b; end b 0 ->"}, true, "",
		},
		"init containers in order": {
			always, []Container{c("app"), c("i1", asInit), c("i2", asInit)},
			[]string{"-> start i1", "up i1 ->", "end i1 0 -> start i2", "up i2; end i2 0 -> start app", "up app ->"}, false, "",
		},
		"an init container tries again": {
			always, []Container{c("i", asInit), c("app")},
			[]string{"-> start i", "up i; end i 1 -> start i", "up i; end i 1 ->", "+10s -> start i", "up i; end i 0 -> start app"}, false, "",
		},
		"an init container fails for good": {
			never, []Container{c("i", asInit), c("j", asInit), c("app")}, []string{"-> start i", "up i; end i 1 ->"}, true, "i",
		},
		"an init container of its own policy": {
			always, []Container{c("i", asInit, restart(never)), c("app")}, []string{"-> start i", "up i; end i 1 ->"}, true, "i",
		},
		"an init container can not be started": {
			always, []Container{c("i", asInit), c("app")}, []string{"-> start i", "denied i ->"}, true, "i",
		},
		"a sidecar lets the next one go when it is up": {
			never, []Container{c("s", asSidecar), c("i", asInit), c("app")},
			[]string{
				"-> start s", "launch s ->", "begin s -> start i", "up i; end i 0 -> start app", "up app; end app 0 -> stop s", "end s 0 ->",
			}, true, "",
		},
		"a sidecar waits for its startup probe": {
			never, []Container{c("s", asSidecar, func(l *spec.Life) { l.Startup = &spec.Probe{} }), c("app")},
			[]string{"-> start s", "up s -> ask s startup", "ok s startup -> start app"}, false, "",
		},
		"a sidecar is started again whatever the policy": {
			never, []Container{c("s", asSidecar), c("app")},
			[]string{"-> start s", "up s -> start app", "up app; end s 0 -> start s", "up s; end s 1 ->", "end app 0 ->"}, true, "",
		},
		"sidecars go last, and backwards": {
			never, []Container{c("s1", asSidecar), c("s2", asSidecar), c("a"), c("b")},
			[]string{
				"-> start s1", "up s1 -> start s2", "up s2 -> start a, start b", "up a; up b; stop -> stop a, stop b", "end a 0 ->",
				"end b 0 -> stop s2", "end s2 0 -> stop s1", "end s1 0 ->",
			}, true, "",
		},
		"sidecars go when an init container fails": {
			never, []Container{c("s", asSidecar), c("i", asInit), c("app")},
			[]string{"-> start s", "up s -> start i", "up i; end i 1 -> stop s", "end s 0 ->"}, true, "i",
		},
		"after another was started": {
			always, []Container{c("b", after("a", started)), c("a")}, []string{"-> start a", "launch a ->", "begin a -> start b"}, false, "",
		},
		"after another is healthy": {
			always, []Container{c("b", after("a", healthy)), c("a", func(l *spec.Life) { l.Readiness = &spec.Probe{} })},
			[]string{"-> start a", "up a -> ask a readiness", "bad a readiness ->", "+10s -> ask a readiness", "ok a readiness -> start b"}, false, "",
		},
		"after another is healthy that has no probe": {
			always, []Container{c("b", after("a", healthy)), c("a")}, []string{"-> start a", "up a -> start b"}, false, "",
		},
		"after another has completed": {
			onFailure, []Container{c("b", after("a", completed)), c("a")},
			[]string{"-> start a", "up a; end a 1 -> start a", "up a; end a 0 -> start b", "up b; end b 0 ->"}, true, "",
		},
		"never after another that failed": {
			never, []Container{c("c", after("b", started)), c("b", after("a", completed)), c("a"), c("d")},
			[]string{"-> start a, start d", "up a; up d; end a 1 ->", "end d 0 ->"}, true, "",
		},
		"all the same after another that failed": {
			never, []Container{c("b", after("a", completed, true)), c("a")}, []string{"-> start a", "up a; end a 1 -> start b"}, false, "",
		},
		"a dependency is asked for once": {
			always, []Container{c("a", restart(never)), c("b", after("a", started))},
			[]string{"-> start a", "up a -> start b", "up b; end a 1; end b 1 -> start b"}, false, "",
		},
		"who depends goes first": {
			always, []Container{c("db"), c("app", after("db", started)), c("web", after("app", started))},
			[]string{
				"-> start db", "up db -> start app", "up app -> start web", "up web; stop -> stop web", "end web 0 -> stop app", "end app 0 -> stop db", "end db 0 ->",
			}, true, "",
		},
		"stopped before the turn": {
			always, []Container{c("i", asInit), c("app")}, []string{"-> start i", "stop ->", "launch i -> stop i", "begin i; end i 143 ->"}, true, "",
		},
		"stopped in a back-off": {
			always, []Container{c("a")}, []string{"-> start a", "up a; end a 1 -> start a", "up a; end a 1 ->", "stop ->"}, true, "",
		},
		"stopped while it starts, and it can not": {always, []Container{c("a")}, []string{"-> start a", "stop ->", "unlaunched a ->"}, true, ""},
		"it can not be stopped":                   {always, []Container{c("a")}, []string{"-> start a", "up a; stop -> stop a", "abandon a ->"}, true, ""},
		"it can not be started": {
			onFailure, []Container{c("a")}, []string{"-> start a", "unlaunched a -> start a", "unlaunched a ->", "+10s -> start a", "denied a ->"}, true, "",
		},
		"a hook fails": {
			always, []Container{c("a")}, []string{"-> start a", "launch a; hook a -> stop a hook", "end a 137 -> start a"}, false, "",
		},
		"restarted by hand while it runs": {
			never, []Container{c("a"), c("b")},
			[]string{"-> start a, start b", "up a; up b; restart a -> stop a restart", "end a 143 -> start a", "up a; end a 0 ->"}, false, "",
		},
		"restarted by hand in a back-off, which begins again": {
			always, []Container{c("a")},
			[]string{"-> start a", "up a; end a 1 -> start a", "up a; end a 1 ->", "restart a -> start a", "up a; end a 1 -> start a", "up a; end a 1 ->", "+10s -> start a"}, false, "",
		},
		"restarted by hand after its end": {
			never, []Container{c("a"), c("b")}, []string{"-> start a, start b", "up a; up b; end a 0 ->", "restart a -> start a"}, false, "",
		},
		"restarted by hand while it stops": {
			never, []Container{c("a"), c("b")}, []string{"-> start a, start b", "up a; up b; hook a -> stop a hook", "restart a ->", "end a 1 -> start a"}, false, "",
		},
		"not restarted while the group ends": {
			always, []Container{c("a")}, []string{"-> start a", "up a; stop -> stop a", "restart a; end a 0 ->"}, true, "",
		},
		"init containers alone": {never, []Container{c("i", asInit)}, []string{"-> start i", "up i; end i 0 ->"}, true, ""},
		"old news": {
			always, []Container{c("a")}, []string{"end a 1 -> start a", "up a; up a; end a 1; end a 1; end a 1 -> start a", "hook a; ok a liveness ->"}, false, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlay(t, test.policy, test.containers...)
			p.script(test.script...)
			if p.g.Done() != test.done || p.g.Failed() != test.failed {
				t.Errorf("done %v, want %v; failed %q, want %q", p.g.Done(), test.done, p.g.Failed(), test.failed)
			}
			p.bounded()
		})
	}
}

// bounded checks that a group that was stopped comes to its end, whatever it has been through.
func (p *play) bounded() {
	p.do("stop")
	for range 4 * len(p.g.all) {
		for _, o := range p.g.Orders(p.now) {
			if o.Do != Stop {
				p.t.Errorf("an order to %s after the end", o.Do)
			}
		}
		for _, c := range p.g.all {
			switch c.status.Phase {
			case Starting:
				p.do("unlaunched " + c.Name)
			case Stopping:
				p.do("end " + c.Name + " 137")
			default:
			}
		}
	}
	if !p.g.Done() {
		p.t.Error("the group does not end")
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	p := newPlay(t, spec.RestartAlways, c("i", asInit), c("app", after("db", spec.ConditionHealthy)), c("db", func(l *spec.Life) { l.Readiness = &spec.Probe{} }))
	see := func(want map[string]Status) {
		t.Helper()
		got := map[string]Status{}
		for name := range want {
			got[name] = p.g.Status(name)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	see(map[string]Status{"i": {Phase: Waiting, Why: ForBackOff}, "app": {Phase: Waiting, Why: ForInit, For: "i"}, "db": {Phase: Waiting, Why: ForInit, For: "i"}})
	p.script("-> start i", "up i; end i 0 -> start db", "up db -> ask db readiness")
	see(map[string]Status{
		"i": {Phase: Ended, Runs: 1}, "app": {Phase: Waiting, Why: ForDependency, For: "db"}, "db": {Phase: Running, Runs: 1, Up: true},
	})
	if p.g.Ready() || p.g.AllStarted() {
		t.Error("ready, or all started, too soon")
	}
	p.script("ok db readiness -> start app", "up app ->")
	see(map[string]Status{"app": {Phase: Running, Runs: 1, Up: true, Ready: true}, "db": {Phase: Running, Runs: 1, Up: true, Ready: true}})
	if !p.g.Ready() || !p.g.AllStarted() {
		t.Error("not ready, or not all started")
	}
	jobs := newPlay(t, spec.RestartNever, c("job"), c("web"), c("never", after("job", spec.ConditionCompleted)))
	jobs.script("-> start job, start web", "up job; up web; end job 1 ->")
	if jobs.g.Ready() || !jobs.g.AllStarted() {
		t.Error("ready with a job that failed, or not all started that can be")
	}
	jobs.script("restart job -> start job", "up job; end job 0 ->")
	if st := jobs.g.Status("never"); st.Phase != Ended || st.Why != ForDependency || jobs.g.Ready() {
		t.Errorf("a container that was given up is %+v", st)
	}
	if st := p.g.Status("nobody"); st.Phase != Ended {
		t.Errorf("an unknown container is %+v", st)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		containers []Container
		want       string
	}{
		"good":                       {[]Container{c("a", after("b", spec.ConditionStarted)), c("b"), c("i", asInit)}, ""},
		"none":                       {nil, ""},
		"twice":                      {[]Container{c("a"), c("a")}, "listed twice"},
		"unknown":                    {[]Container{c("a", after("x", spec.ConditionStarted))}, "no container of the group"},
		"itself":                     {[]Container{c("a", after("a", spec.ConditionStarted))}, "waits for itself"},
		"a ring":                     {[]Container{c("a", after("b", spec.ConditionStarted)), c("b", after("a", spec.ConditionHealthy))}, "waits for itself"},
		"init after an app":          {[]Container{c("i", asInit, after("a", spec.ConditionStarted)), c("a")}, "waits for itself"},
		"init after a later one":     {[]Container{c("i", asInit, after("j", spec.ConditionCompleted)), c("j", asInit)}, "waits for itself"},
		"init after an earlier one":  {[]Container{c("i", asInit), c("j", asInit, after("i", spec.ConditionCompleted))}, ""},
		"no condition":               {[]Container{c("a", after("b", "")), c("b")}, "condition"},
		"a policy that there is not": {[]Container{c("a", restart("Sometimes"))}, "restart policy"},
	} {
		_, err := New(test.containers, "", Times{})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want %q", name, err, test.want)
		}
	}
}

func TestMayRestart(t *testing.T) {
	t.Parallel()
	got := []bool{
		MayRestart(spec.Life{}, ""), MayRestart(spec.Life{}, spec.RestartOnFailure), MayRestart(spec.Life{Restart: spec.RestartNever}, spec.RestartAlways),
		MayRestart(spec.Life{Init: true, Restart: spec.RestartAlways}, spec.RestartNever),
	}
	if !slices.Equal(got, []bool{false, true, false, true}) {
		t.Errorf("got %v", got)
	}
}
