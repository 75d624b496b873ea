// SPDX-License-Identifier: Apache-2.0

package oraclecases

import (
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/policygen"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

const (
	sandboxDir = "/run/gcs/c/sandbox/sandboxMounts"
	idA        = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB        = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	m0, m1, m2 = "/run/mounts/scsi/m0", "/run/mounts/scsi/m1", "/run/mounts/scsi/m2"
	issuer     = "did:x509:0:sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA::subject:CN:Publisher"
	feed       = "registry.example/app"
)

var base, webRoot, dbRoot = strings.Repeat("1", 64), strings.Repeat("2", 64), strings.Repeat("3", 64)

var facts = map[string]policygen.ImageFacts{
	"web": {Reference: "web", LayerRoots: []string{base, webRoot}, Config: policygen.ImageConfig{
		Env: []string{"PATH=/bin", "MODE=image"}, Entrypoint: []string{"/web"}, Cmd: []string{"serve"}, User: "www:33", WorkingDir: "/srv",
		StopSignal: "SIGQUIT",
	}},
	"db": {Reference: "db", LayerRoots: []string{base, dbRoot}, Config: policygen.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"/db"}}},
}

// group is a web server and its database.
func group() spec.Group {
	return spec.Group{Containers: []spec.Container{
		{
			Name: "web", Image: "web", AllowStdio: true, AllowPrivilegeEscalation: true, AllowExec: [][]string{{"/health"}},
			Env:    []spec.EnvVar{{Name: "PORT", Value: "80"}},
			Mounts: []spec.Mount{{Kind: spec.MountEmptyDir, Path: "/data"}, {Kind: spec.MountSecret, Path: "/secret", ReadOnly: true}},
		},
		{Name: "db", Image: "db", Privileged: true},
	}}
}

// named is a policy with the requests, by number, that it is for.
type named struct {
	name string
	text []byte
	way  []int
}

func policies(t *testing.T) []named {
	t.Helper()
	make := func(g spec.Group, o policygen.Options) []byte {
		p, err := policygen.Generate(g, facts, o)
		if err != nil {
			t.Fatal(err)
		}
		return p.Text()
	}
	debug := group()
	debug.Debug = true
	imported := policy.Fragment{Issuer: issuer, Feed: feed, MinimumSVN: "2", Includes: []string{"containers"}}
	only := policy.Policy{
		APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework, Fragments: []policy.Fragment{imported},
		AllowEnvironmentVariableDropping: true, AllowCapabilityDropping: true,
	}
	strict := only
	strict.AllowEnvironmentVariableDropping, strict.AllowCapabilityDropping = false, false
	way := wayOf(t)
	withFragment := append([]int{way.fragment}, way.web...)
	return []named{
		{"run", make(group(), policygen.RunOptions()), way.both},
		{"service", make(group(), policygen.Options{}), way.both},
		{"debug", make(debug, policygen.Options{}), way.both},
		{"importing", make(group(), policygen.Options{Fragments: []policy.Fragment{imported}}), append([]int{way.fragment}, way.both...)},
		{"fragment", only.Text(), withFragment},
		{"strict", strict.Text(), withFragment},
	}
}

// fragmentText is a fragment with the group's web server.
func fragmentText(t *testing.T, svn string) string {
	t.Helper()
	p, err := policygen.Generate(group(), facts, policygen.RunOptions())
	if err != nil {
		t.Fatal(err)
	}
	f := policy.FragmentText{Namespace: "app", SVN: svn, FrameworkVersion: policy.DeployedFramework, Containers: p.Containers[:1]}
	text, err := f.Text()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func bind(destination, source, access string) policy.Mount {
	return policy.Mount{Destination: destination, Options: []string{"rbind", "rshared", access}, Source: sandboxDir + source, Type: "bind"}
}

// start is a request to create the web server, with a change.
func start(t *testing.T, change func(*request)) request {
	t.Helper()
	p, err := policygen.Generate(group(), facts, policygen.RunOptions())
	if err != nil {
		t.Fatal(err)
	}
	c := p.Containers[0]
	r := request{
		Point: string(engine.PointCreateContainer), Container: idA, Args: []string{"/web", "serve"}, Dir: "/srv",
		Env: []string{"PORT=80", "PATH=/bin", "MODE=image", "TERM=xterm"}, User: engine.ID{ID: "33", Name: "www"}, Umask: "0022",
		Capabilities: &c.Capabilities,
		Mounts:       []policy.Mount{bind("/data", "/tmp/atlas/emptydir/x", "rw"), bind("/etc/resolv.conf", "/tmp/atlas/resolvconf/x", "rw")},
	}
	if change != nil {
		change(&r)
	}
	return r
}

// startDB is a request to create the database, which is privileged.
func startDB(t *testing.T) request {
	t.Helper()
	p, err := policygen.Generate(group(), facts, policygen.RunOptions())
	if err != nil {
		t.Fatal(err)
	}
	c := p.Containers[1]
	return start(t, func(r *request) {
		r.Container, r.Args, r.Dir, r.Privileged, r.Capabilities = idB, []string{"/db"}, "/", true, &c.Capabilities
		r.Env, r.Mounts, r.NoNew = []string{"PATH=/bin"}, nil, true
	})
}

func exec(t *testing.T, id, command string, change func(*request)) request {
	t.Helper()
	return start(t, func(r *request) {
		r.Point, r.Container, r.Args, r.Mounts = string(engine.PointExecInContainer), id, []string{command}, nil
		if change != nil {
			change(r)
		}
	})
}

func at(point engine.Point, target string) request {
	return request{Point: string(point), Target: target}
}

func layer(target, hash string) request {
	return request{Point: string(engine.PointMountDevice), Target: target, Hash: hash}
}

func overlay(id string, layers ...string) request {
	return request{Point: string(engine.PointMountOverlay), Container: id, Layers: layers, Target: "/run/gcs/c/" + id + "/rootfs"}
}

func signal(id string, number int, init bool, args ...string) request {
	return request{Point: string(engine.PointSignalContainerProcess), Container: id, Signal: number, Init: init, Args: args}
}

func scratch(id string, plain bool, filesystem string) request {
	return request{Point: string(engine.PointRWMountDevice), Target: "/run/gcs/c/" + id, Plain: plain, Filesystem: filesystem}
}

func fragment(issuer, feed, text string) request {
	return request{Point: string(engine.PointLoadFragment), Issuer: issuer, Feed: feed, Text: text}
}

// intended are the requests of the way, in its order: first the web server's, then the database's.
func intended(t *testing.T) (web, db []request) {
	t.Helper()
	web = []request{
		layer(m0, base), layer(m1, webRoot), scratch(idA, false, "ext4"), overlay(idA, m1, m0), start(t, nil), exec(t, idA, "/health", nil),
		signal(idA, 15, true, "/web", "serve"),
	}
	db = []request{
		layer(m2, dbRoot), overlay(idB, m2, m0), startDB(t), at(engine.PointGetProperties, ""), signal(idB, 9, true, "/db"),
		{Point: string(engine.PointShutdownContainer), Container: idA}, at(engine.PointUnmountOverlay, "/run/gcs/c/"+idA+"/rootfs"),
		at(engine.PointRWUnmountDevice, "/run/gcs/c/"+idA), at(engine.PointUnmountDevice, m1),
	}
	return web, db
}

// allRequests are those of the way, and others that go astray in one thing each.
func allRequests(t *testing.T) []request {
	t.Helper()
	first, second := intended(t)
	change := func(f func(*request)) request { return start(t, f) }
	other := *start(t, nil).Capabilities
	other.Bounding = append(slices.Clone(other.Bounding), "CAP_SYS_ADMIN")
	fewer := *start(t, nil).Capabilities
	fewer.Bounding = fewer.Bounding[:3]
	rest := []request{
		fragment(issuer, feed, fragmentText(t, "3")), fragment(issuer, feed, fragmentText(t, "1")), fragment(issuer, "other", fragmentText(t, "3")),
		fragment("did:x509:0:sha256:other", feed, "package app\n\nsvn := \"3\"\n"),
		layer(m1, strings.Repeat("9", 64)), layer(m1, base), layer(m2, webRoot), layer("/run/mounts/scsi/x", base), layer("/etc", base),
		overlay(idA, m0, m1), overlay(idB, m1, m0), overlay(idA, m0), overlay(idA, m2, m1, m0), overlay(idB, m2),
		scratch(idA, true, "ext4"), scratch(idA, false, "btrfs"), scratch("b", false, "ext4"), scratch(idB, false, "xfs"),
		change(func(r *request) { r.Args = []string{"/web"} }), change(func(r *request) { r.Args = []string{"/web", "serve", "-x"} }),
		change(func(r *request) { r.Env = append(slices.Clone(r.Env), "LD_PRELOAD=/x", "HOSTNAME=h", "TMP=/x") }),
		change(func(r *request) { r.Env[1] = "PATH=/evil" }), change(func(r *request) { r.Env = nil }),
		change(func(r *request) { r.Dir = "/" }), change(func(r *request) { r.User = engine.ID{ID: "0", Name: "root"} }),
		change(func(r *request) { r.Umask = "0000" }), change(func(r *request) { r.Privileged = true }), change(func(r *request) { r.NoNew = true }),
		change(func(r *request) { r.Capabilities = &other }), change(func(r *request) { r.Capabilities = &fewer }),
		change(func(r *request) { r.Seccomp = strings.Repeat("5", 64) }), change(func(r *request) { r.Container = idB }),
		change(func(r *request) {
			r.Mounts = append(slices.Clone(r.Mounts), bind("/secret", "/tmp/atlas/secretsVolume/s", "ro"))
		}),
		change(func(r *request) {
			r.Mounts = append(slices.Clone(r.Mounts), bind("/secret", "/tmp/atlas/secretsVolume/s", "rw"))
		}),
		change(func(r *request) {
			r.Mounts = append(slices.Clone(r.Mounts), bind("/etc", "/tmp/atlas/emptydir/x", "rw"))
		}),
		change(func(r *request) { r.Mounts[0].Source = "/etc" }),
		exec(t, idA, "/bin/sh", nil), exec(t, idB, "/health", nil), exec(t, idA, "/health", func(r *request) { r.Dir = "/" }),
		exec(t, idA, "/health", func(r *request) { r.Env = append(slices.Clone(r.Env), "X=y") }),
		exec(t, idA, "/health", func(r *request) { r.User = engine.ID{ID: "0", Name: "root"} }),
		signal(idA, 9, true, "/web", "serve"), signal(idA, 3, true, "/web", "serve"), signal(idA, 1, true, "/web", "serve"),
		signal(idA, 9, false, "/health"), signal(idB, 15, true, "/db"), signal(idB, 9, false, "/bin/sh"),
		{Point: string(engine.PointShutdownContainer), Container: idB}, {Point: string(engine.PointExecExternal), Args: []string{"/bin/sh"}, Dir: "/"},
		at(engine.PointDumpStacks, ""), at(engine.PointRuntimeLogging, ""), at(engine.PointPlan9Mount, "/run/gcs/c/"+idA+"/sandbox/mounts/m1"),
		at(engine.PointUnmountDevice, m0), at(engine.PointUnmountDevice, m2), at(engine.PointUnmountDevice, "/run/gcs/c/"+idA),
		at(engine.PointRWUnmountDevice, m0), at(engine.PointRWUnmountDevice, "/run/gcs/c/"+idB), at(engine.PointUnmountOverlay, "/run/gcs/c/"+idB+"/rootfs"),
		at(engine.PointScratchMount, "/run/gcs/c/"+idA), {Point: string(engine.PointScratchMount), Target: "/run/gcs/c/" + idB, Plain: true},
		at(engine.PointScratchUnmount, "/run/gcs/c/"+idA),
	}
	return slices.Concat(first, second, rest)
}

// ways are the intended requests by number.
type ways struct {
	web, both []int
	fragment  int
}

func wayOf(t *testing.T) ways {
	t.Helper()
	first, second := intended(t)
	var w ways
	for i := range len(first) + len(second) {
		w.both = append(w.both, i)
	}
	w.web, w.fragment = w.both[:len(first)], len(w.both)
	return w
}
