// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/group/lifecycle"
	"cofferdam.dev/internal/group/supervise"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/sandbox/sandboxtest"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/testcap"
)

// The test binary is also the supervisor, the emulator, and for the test that kills it the whole service.
func TestMain(m *testing.M) {
	sandboxtest.RunIfEmulator()
	if len(os.Args) == 4 && os.Args[1] == "test-supervise" {
		err := supervise.Main(context.Background(), supervise.Config{
			Home: os.Args[2], Name: os.Args[3], Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
			Times: lifecycle.Times{BackOff: 10 * time.Millisecond, MaxBackOff: 50 * time.Millisecond, Calm: time.Hour},
			Probe: func(context.Context, string) (*qemu.Emulator, error) { return sandboxtest.Emulator() },
		})
		end(err)
	}
	if len(os.Args) == 3 && os.Args[1] == "test-serve" {
		end(serveUntilKilled(os.Args[2]))
	}
	code := testcap.NoLeaks(m)
	if dir, err := simulatedRoot(); err == nil {
		_ = os.RemoveAll(dir) // of no use any more
	}
	os.Exit(code)
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// attempts is how often a test looks, 10 ms apart, for what must come about: for minutes, which only matter when something
// is broken.
const attempts = 12_000

// simulatedRoot makes one root for all tests: making one takes seconds.
var simulatedRoot = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "simsp-")
	if err != nil {
		return "", err
	}
	_, err = simsp.Open(dir)
	return dir, err
})

// makeHome fills a state directory with what plans need.
func makeHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	from, err := simulatedRoot()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		to := filepath.Join(home, "simsp", rel)
		if err != nil || d.IsDir() {
			return errors.Join(err, os.Mkdir(to, 0o700))
		}
		data, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(to, data, 0o600))
	})
	for _, f := range []string{"kernel", "initrd", "layer.img"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(home, f), []byte(f), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return home
}

// planner makes plans for the played emulator. The image of a container says how it goes.
type planner struct{ home string }

func (p planner) Plan(ctx context.Context, g spec.Group, tell Tell) (*group.Plan, group.Contents, []string, error) {
	plan := &group.Plan{
		Accelerator: "tcg", TEE: "simulated", VCPUs: 1, MemoryMiB: 256, Network: group.NetworkNone, RestartPolicy: g.Restart,
		Boot:   group.Boot{Kernel: filepath.Join(p.home, "kernel"), Initrd: filepath.Join(p.home, "initrd"), Cmdline: "quiet"},
		Policy: []byte("package policy # " + g.Containers[0].Image),
	}
	contents := group.Contents{}
	for _, v := range g.Volumes {
		if v.Kind != spec.MountSecret {
			continue
		}
		contents[v.Name] = v.Files
		bare := v
		bare.Files = nil
		for _, f := range v.Files {
			bare.Files = append(bare.Files, spec.File{Path: f.Path, Mode: f.Mode})
		}
		plan.Volumes = append(plan.Volumes, group.Volume{Source: "sandbox:///tmp/atlas/secretsVolume/n-" + v.Name, Volume: bare})
	}
	for _, c := range g.Containers {
		tell(c.Name, event.Pulling, event.Normal, "pulling image "+c.Image)
		switch c.Image {
		case "missing":
			tell(c.Name, event.Failed, event.Warning, "no such image")
			return nil, nil, nil, errors.New("image missing: no such image")
		case "misfit":
			return nil, nil, nil, &Refusal{Policy: true, Message: "the policy does not admit the group", Details: []string{"container x: command"}}
		case "slow":
			select {
			case <-ctx.Done():
				return nil, nil, nil, ctx.Err()
			case <-time.After(time.Minute):
			}
		}
		tell(c.Name, event.Pulled, event.Normal, "pulled image "+c.Image)
		root := strings.Repeat("ab", 32)
		layer := group.Layer{Path: filepath.Join(p.home, "layer.img"), RootHash: root}
		plan.Containers = append(plan.Containers, group.ContainerPlan{
			Name: c.Name, Image: c.Image, Command: c.Command, WorkingDir: "/", Layers: []group.Layer{layer}, Life: c.Life,
		})
	}
	return plan, contents, nil, nil
}

// bench is a service with a store of its own.
type bench struct {
	t     *testing.T
	home  string
	store *group.Store
	log   *audit.Log
	api   *API
	http  *httptest.Server
}

func newBench(t *testing.T) *bench {
	t.Helper()
	home := makeHome(t)
	store, err := group.OpenStore(home)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, home: home, store: store}
	b.open()
	t.Cleanup(func() {
		b.close()
		b.sweep()
	})
	return b
}

// roles are what the callers of a bench may do, by their token.
type byToken struct{}

func (byToken) Authenticate(r *http.Request) (*auth.Identity, error) {
	token, err := auth.Bearer(r)
	if err != nil {
		return &auth.Identity{Method: "test", Subject: "operator", Roles: []auth.Role{RoleOperator}}, nil
	}
	return &auth.Identity{Method: "test", Subject: token, Roles: []auth.Role{auth.Role(token)}}, nil
}

func options(home string, store *group.Store, log *audit.Log) (Options, error) {
	self, err := os.Executable()
	return Options{
		Groups: store, Dir: filepath.Join(home, "documents"), Planner: planner{home}, Supervisor: []string{self, "test-supervise", home},
		Auth: byToken{}, Audit: log, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}, err
}

// open starts the service.
func (b *bench) open() {
	b.t.Helper()
	var err error
	b.log, err = audit.OpenState(b.home, "")
	if err != nil {
		b.t.Fatal(err)
	}
	o, err := options(b.home, b.store, b.log)
	if err == nil {
		b.api, err = New(o)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.http = httptest.NewServer(b.declared(b.api))
}

// close ends the service; the groups go on.
func (b *bench) close() {
	b.api.Close()
	b.http.Close()
	err := b.log.Close()
	if err != nil {
		b.t.Error(err)
	}
}

// sweep ends what still runs.
func (b *bench) sweep() {
	groups, _ := b.store.List()
	for _, g := range groups {
		err := b.api.stopGroup(context.Background(), g.Record.ID)
		if err != nil {
			b.t.Error(err)
		}
	}
}

// declared makes sure that every answer is one that the table of routes has.
func (b *bench) declared(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &recorded{ResponseWriter: w, code: 200}
		h.ServeHTTP(s, r)
		for _, rt := range routes() {
			_, ok := rt.match(strings.Split(r.URL.EscapedPath(), "/"))
			if !ok || rt.method != r.Method || s.code >= 400 || rt.id == "Sessions_Connect" {
				continue
			}
			if _, known := rt.answers[s.code]; !known {
				b.t.Errorf("%s answered %d, which is not in its description", rt.id, s.code)
			}
		}
	})
}

type recorded struct {
	http.ResponseWriter
	code int
}

func (r *recorded) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorded) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// reply is an answer.
type reply struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

// at finds a part of the answer's body: names and numbers.
func (r *reply) at(path ...any) any {
	var v any = r.body
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = member(v, p)
		case int:
			list, _ := v.([]any)
			if p >= len(list) {
				return nil
			}
			v = list[p]
		}
	}
	return v
}

const resourceGroup = "/subscriptions/sub/resourceGroups/rg"

func pathOf(name string) string {
	return resourceGroup + "/providers/Microsoft.ContainerInstance/containerGroups/" + name
}

// call sends a request. A path without a host is one of the service.
func (b *bench) call(method, path, body string, headers ...string) *reply {
	b.t.Helper()
	r, err := b.ask(b.t.Context(), method, path, body, headers...)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) ask(ctx context.Context, method, path, body string, headers ...string) (*reply, error) {
	u, err := url.Parse(path)
	if err != nil {
		return nil, err
	}
	if u.Host == "" {
		u, err = url.Parse(b.http.URL + path)
		if err != nil {
			return nil, err
		}
	}
	if q := u.Query(); !q.Has("api-version") {
		q.Set("api-version", "2023-05-01")
		u.RawQuery = q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.http.Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	data, err := io.ReadAll(resp.Body)
	r := &reply{status: resp.StatusCode, header: resp.Header, text: string(data)}
	if len(bytes.TrimSpace(data)) > 0 {
		err = errors.Join(err, json.Unmarshal(data, &r.body))
	}
	return r, err
}

// want makes sure of an answer's status and, of an error, its code.
func (b *bench) want(r *reply, status int, code ...string) *reply {
	b.t.Helper()
	if r.status != status || len(code) > 0 && r.at("error", "code") != code[0] {
		b.t.Fatalf("answer is %d %s; want %d %v", r.status, r.text, status, code)
	}
	return r
}

// follow asks for an operation until it has ended, and returns its last answer.
func (b *bench) follow(r *reply) *reply {
	b.t.Helper()
	at := r.header.Get("Azure-AsyncOperation")
	if at == "" {
		b.t.Fatalf("answer %d %s says no operation", r.status, r.text)
	}
	for range attempts {
		o := b.want(b.call("GET", at, ""), 200)
		if o.at("status") != inProgress {
			return o
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("the operation %s goes on and on", at)
	return nil
}

// until gets a resource until it is as wanted.
func (b *bench) until(name, what string, wanted func(*reply) bool) *reply {
	b.t.Helper()
	var r *reply
	for range attempts {
		r = b.want(b.call("GET", pathOf(name), ""), 200)
		if wanted(r) {
			return r
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("never came about: %s\n%s", what, r.text)
	return nil
}

// resource is a group of one container that runs a script.
func resource(image, script string, more ...string) string {
	command, _ := json.Marshal([]string{"/bin/sh", "-c", script})
	return `{"location": "here", "tags": {"a": "b"}, "properties": {"osType": "Linux", "restartPolicy": "Never"` +
		strings.Join(slices.Concat([]string{""}, more), ", ") + `, "containers": [{"name": "main", "properties": {"image": "` + image +
		`", "command": ` + string(command) + `, "resources": {"requests": {"cpu": 1, "memoryInGB": 0.1}}}}]}}`
}

// lasting is a script that runs until it is told to end.
const lasting = "echo out; echo err >&2; trap 'echo bye; exit 0' TERM; while :; do sleep 0.01; done"

// put makes a group and waits until it runs.
func (b *bench) put(name, body string) *reply {
	b.t.Helper()
	r := b.call("PUT", pathOf(name), body)
	if r.status != 200 && r.status != 201 {
		b.t.Fatalf("answer is %d %s", r.status, r.text)
	}
	if o := b.follow(r); o.at("status") != succeeded {
		b.t.Fatalf("the operation is %s", o.text)
	}
	return r
}
