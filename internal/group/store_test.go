// SPDX-License-Identifier: Apache-2.0

package group

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

func testPlan(name string) *Plan {
	return &Plan{
		Name: name, Accelerator: "tcg", TEE: "simulated", VCPUs: 1, MemoryMiB: 256, Network: NetworkNAT,
		Ports:  []Port{{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: 80, GuestPort: 8080}},
		Boot:   Boot{Kernel: "/k", Initrd: "/i"},
		Policy: []byte("package policy"),
		Containers: []ContainerPlan{
			{Name: "web", Image: "nginx", Command: []string{"nginx"}, Layers: []Layer{{Path: "/l", RootHash: strings.Repeat("0a", 32)}}},
			{Name: "side", Image: "busybox", Command: []string{"sh"}, Layers: []Layer{{Path: "/l", RootHash: strings.Repeat("0b", 32)}}},
		},
	}
}

func testStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Store, name string) *Created {
	t.Helper()
	c, err := s.Create(testPlan(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestCreateAndLookup(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	c := create(t, s, "web")
	create(t, s, "")
	for _, ref := range []string{"web", c.Record.ID, c.Record.ID[:8]} {
		g, err := s.Lookup(ref)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.Record, g.Record); diff != "" || !g.Alive {
			t.Errorf("%s: alive %v, record differs:\n%s", ref, g.Alive, diff)
		}
	}
	for _, ref := range []string{"", "other", c.Record.ID[:3], "../web", strings.Repeat("0", 32)} {
		_, err := s.Lookup(ref)
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	_, err := s.Create(testPlan("web"))
	if !errors.Is(err, ErrExists) {
		t.Errorf("second group of a name: %v", err)
	}
	plan, record, err := Load(c.Dir)
	if err != nil || plan.Name != "web" || record.PolicyHash != c.Record.PolicyHash {
		t.Errorf("loaded %+v, %+v, %v", plan, record, err)
	}
	for _, f := range []string{"record.json", "plan.json", "lock"} {
		info, err := os.Stat(filepath.Join(c.Dir, f))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
}

// TestDeadGroup has a group whose supervisor vanished without a word.
func TestDeadGroup(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	c := create(t, s, "dead")
	c.Record.State, c.Record.MachinePID = StateRunning, 1
	c.Record.Containers[0].State = StateRunning
	code := 0
	c.Record.Containers[1].State, c.Record.Containers[1].ExitCode = StateExited, &code
	err := errors.Join(WriteRecord(c.Dir, c.Record), os.WriteFile(filepath.Join(c.Dir, "scratch0.img"), nil, 0o600),
		os.WriteFile(filepath.Join(c.Dir, "sock"), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.Lookup("dead")
	if err != nil || !g.Alive || g.Record.State != StateRunning {
		t.Fatalf("with its lock held: %+v, %v", g, err)
	}
	_, err = s.Dial("dead")
	if err == nil {
		t.Error("nobody answers, and Dial works")
	}
	err = s.Remove("dead")
	if !errors.Is(err, ErrRunning) {
		t.Errorf("removing a live group: %v", err)
	}
	err = c.release()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // found out, and then remembered
		g, err = s.Lookup("dead")
		if err != nil || g.Alive || g.Record.State != StateFailed || g.Record.Reason != ReasonSupervisorGone || g.Record.MachinePID != 0 {
			t.Errorf("without: %+v, %v", g.Record, err)
		}
		if a, b := g.Record.Containers[0], g.Record.Containers[1]; a.State != StateFailed || b.State != StateExited {
			t.Errorf("containers are %s and %s", a.State, b.State)
		}
	}
	var told []event.Event
	err = s.Events(t.Context(), "dead", event.Options{}, func(e event.Event) error { told = append(told, e); return nil })
	if err != nil || len(told) != 1 || told[0].Name != event.MachineLost || told[0].Count != 1 {
		t.Errorf("the events are %+v, %v", told, err)
	}
	for _, f := range []string{"scratch0.img", "sock"} {
		_, err = os.Stat(filepath.Join(c.Dir, f))
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", f, err)
		}
	}
	_, err = s.Dial("dead")
	if !errors.Is(err, ErrNotRunning) {
		t.Errorf("dialling a dead group: %v", err)
	}
	err = s.Remove("dead")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Lookup("dead")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("after removal: %v", err)
	}
}

func TestDamagedGroups(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	good := create(t, s, "good")
	for name, record := range map[string]string{"empty": "", "odd": `{"schema":"x"}`, "unknown": `{"schema":"` + RecordSchema + `","extra":1}`} {
		dir := filepath.Join(s.dir, name)
		err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, fileRecord), []byte(record), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.List()
	if len(list) != 1 || list[0].Record.ID != good.Record.ID {
		t.Errorf("list has %d groups", len(list))
	}
	for _, name := range []string{"empty", "odd", "unknown"} {
		if err == nil || !strings.Contains(err.Error(), "group "+name) {
			t.Errorf("error does not name %s: %v", name, err)
		}
	}
	g, err := s.Lookup("good") // others' damage is no obstacle
	if err != nil || g.Record.Name != "good" {
		t.Errorf("lookup: %v", err)
	}
}

// TestHalfMade has a group whose creation was cut off before its record was written.
func TestHalfMade(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	err := os.MkdirAll(filepath.Join(s.dir, "half", dirLogs), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != 0 {
		t.Errorf("list has %d groups, %v", len(list), err)
	}
	create(t, s, "half")
}

func TestPlanValidate(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Plan){
		`name "Web"`:             func(p *Plan) { p.Name = "Web" },
		`name "../x"`:            func(p *Plan) { p.Name = "../x" },
		"policy has 0 bytes":     func(p *Plan) { p.Policy = nil },
		"absolute paths":         func(p *Plan) { p.Boot.Kernel = "k" },
		"must be decided":        func(p *Plan) { p.TEE = "" },
		`network is ""`:          func(p *Plan) { p.Network = "" },
		"no ports to forward":    func(p *Plan) { p.Network = NetworkNone },
		"host ports on network":  func(p *Plan) { p.Network, p.Ports, p.HostPorts = NetworkNone, nil, []uint16{80} },
		"at most 64":             func(p *Plan) { p.HostPorts = make([]uint16, 65) },
		"no name of a device":    func(p *Plan) { p.Network = "tap:../x" },
		"forwards no ports":      func(p *Plan) { p.Network, p.Addresses = "bridge:br0", []string{"10.0.0.2/24"} },
		"needs 1 to 4 addresses": func(p *Plan) { p.Network, p.Ports = "bridge:br0", nil },
		"brings its own":         func(p *Plan) { p.Addresses = []string{"10.0.0.2/24"} },
		`address "10.0.0.2"`:     func(p *Plan) { p.Network, p.Ports, p.Addresses = "tap:t0", nil, []string{"10.0.0.2"} },
		`gateway "x"`: func(p *Plan) {
			p.Network, p.Ports, p.Addresses, p.Gateways = "tap:t0", nil, []string{"10.0.0.2/24"}, []string{"x"}
		},
		"want tcp or udp":           func(p *Plan) { p.Ports[0].Protocol = "sctp" },
		"host address":              func(p *Plan) { p.Ports[0].HostIP = "localhost" },
		"guest port is 0":           func(p *Plan) { p.Ports[0].GuestPort = 0 },
		"forwarded twice":           func(p *Plan) { p.Ports = append(p.Ports, p.Ports[0]) },
		"0 containers":              func(p *Plan) { p.Containers = nil },
		"33 containers":             func(p *Plan) { p.Containers = make([]ContainerPlan, 33) },
		"used twice":                func(p *Plan) { p.Containers[1].Name = "web" },
		"command is empty":          func(p *Plan) { p.Containers[0].Command = nil },
		"0 layers":                  func(p *Plan) { p.Containers[0].Layers = nil },
		"64 hexadecimal digits":     func(p *Plan) { p.Containers[0].Layers[0].RootHash = "zz" },
		"64 lower-case hexadecimal": func(p *Plan) { p.Containers[0].ID = "x" },
		`layer path "l"`:            func(p *Plan) { p.Containers[0].Layers[0].Path = "l" },
		"stop signal 65":            func(p *Plan) { p.Containers[0].StopSignal = 65 },
		"is negative":               func(p *Plan) { p.Containers[0].ScratchMiB = -1 },
	} {
		p := testPlan("web")
		change(p)
		c, err := testStore(t).Create(p)
		if err == nil {
			_ = c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}

func TestRecordContainer(t *testing.T) {
	t.Parallel()
	r := create(t, testStore(t), "web").Record
	id := r.Containers[1].ID
	for ref, want := range map[string]string{"side": "side", id: "side", id[:10]: "side", "web": "web"} {
		c, err := r.Container(ref)
		if err != nil || c.Name != want {
			t.Errorf("%q: %v", ref, err)
		}
	}
	for _, ref := range []string{"", "other", id[:3]} {
		_, err := r.Container(ref)
		if err == nil {
			t.Errorf("%q names a container", ref)
		}
	}
	r.Containers = r.Containers[:1]
	c, err := r.Container("")
	if err != nil || c.Name != "web" {
		t.Errorf("the only container: %v", err)
	}
}

func TestRecordExitCode(t *testing.T) {
	t.Parallel()
	zero, seven := 0, 7
	r := &Record{State: StateExited, Containers: []Container{{ExitCode: &zero}, {ExitCode: &seven}}}
	code, ok := r.ExitCode()
	if code != 7 || !ok {
		t.Errorf("exit code is %d, %v", code, ok)
	}
	r.Containers[0].ExitCode = nil
	_, ok = r.ExitCode()
	if ok {
		t.Error("a container that never ran has an exit code")
	}
}

func TestRecordIsTrueAboutSimulation(t *testing.T) {
	t.Parallel()
	for tee, want := range map[string]bool{"simulated": true, "snp": false, "tdx": false, "": true, "other": true} {
		p := testPlan("x")
		p.TEE = tee
		r := newRecord(p, time.Now())
		data, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		err = json.Unmarshal(data, &m)
		if err != nil || m["simulated"] != want {
			t.Errorf("TEE %q: simulated is %v, %v", tee, m["simulated"], err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for range 1000 {
		n := randomName()
		if ValidateName(n) != nil {
			t.Fatalf("made-up name %q is not valid", n)
		}
	}
	for _, n := range []string{"", "-a", "a-", "a_b", "a/b", ".", "é", strings.Repeat("a", 64), "a\n"} {
		if ValidateName(n) == nil {
			t.Errorf("%q is a valid name", n)
		}
	}
}

// TestDeepSocket has a state directory whose socket path would not fit into an address.
func TestDeepSocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again, over what a killed supervisor left
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		c, err := DialDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		_ = l.Close()
	}
	err = errors.Join(RemoveSocket(dir), RemoveSocket(dir))
	if err != nil {
		t.Error(err)
	}
}

func FuzzParsePlan(f *testing.F) {
	data, err := marshalPlan(testPlan("seed"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"schema":"` + PlanSchema + `"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePlan(data)
		if err != nil {
			return
		}
		again, err := marshalPlan(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := ParsePlan(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, q); diff != "" {
			t.Errorf("plan changes when it is written and read:\n%s", diff)
		}
	})
}
