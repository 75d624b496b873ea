// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/spec"

	"github.com/google/go-cmp/cmp"
)

// container is one of which nothing is said but what is changed.
func container(name string, change func(*spec.Container)) spec.Container {
	c := spec.Container{Name: name, Image: "i", AllowStdio: true, AllowPrivilegeEscalation: true, Life: spec.Life{Restart: spec.RestartNever}}
	if change != nil {
		change(&c)
	}
	return c
}

func TestServiceLife(t *testing.T) {
	t.Parallel()
	second := time.Second
	probe := func(change func(*spec.Probe), command ...string) func(*spec.Container) {
		return func(c *spec.Container) {
			c.AllowExec = [][]string{command}
			c.Readiness = &spec.Probe{Action: spec.Action{Exec: command}, Period: 30 * time.Second, Timeout: 30 * time.Second, FailureThreshold: 3}
			change(c.Readiness)
			if c.Readiness.InitialDelay = c.Readiness.StartInterval; c.Readiness.InitialDelay == 0 {
				c.Readiness.InitialDelay = c.Readiness.Period
			}
		}
	}
	for text, want := range map[string]func(*spec.Container){
		"restart: 'no'":             nil,
		"restart: always":           func(c *spec.Container) { c.Restart = spec.RestartAlways },
		"restart: unless-stopped":   func(c *spec.Container) { c.Restart = spec.RestartAlways },
		"restart: on-failure":       func(c *spec.Container) { c.Restart = spec.RestartOnFailure },
		"restart: on-failure:3":     func(c *spec.Container) { c.Restart, c.MaxRestarts = spec.RestartOnFailure, 3 },
		"stop_grace_period: 1s":     func(c *spec.Container) { c.StopTimeout = &second },
		"read_only: true":           func(c *spec.Container) { c.ReadOnlyRoot = true },
		"tty: true":                 func(c *spec.Container) { c.Terminal = true },
		"stdin_open: true":          func(c *spec.Container) { c.Stdin = true },
		"network_mode: service:web": nil,
		"healthcheck: {test: x y}":  probe(func(*spec.Probe) {}, "/bin/sh", "-c", "x y"),
		"healthcheck: {test: [CMD-SHELL, x y], retries: 5}": probe(func(p *spec.Probe) { p.FailureThreshold = 5 }, "/bin/sh", "-c", "x y"),
		"healthcheck: {test: [CMD, x], interval: 1m30s, timeout: 2s, start_period: 3s}": probe(func(p *spec.Probe) {
			p.Period, p.Timeout, p.StartPeriod, p.StartInterval = 90*time.Second, 2*time.Second, 3*time.Second, 5*time.Second
		}, "x"),
		"healthcheck: {test: [CMD, x], start_period: 3s, start_interval: 1s}": probe(func(p *spec.Probe) { p.StartPeriod, p.StartInterval = 3*time.Second, second }, "x"),
		"healthcheck: {test: [NONE]}":                                         nil,
		"healthcheck: {test: x, disable: true}":                               nil,
		"mem_limit: 64m":                                                      func(c *spec.Container) { c.Resources.LimitMemoryBytes = 64 << 20 },
		"mem_reservation: 1.5GB":                                              func(c *spec.Container) { c.Resources.RequestMemoryBytes = 3 << 29 },
		"mem_limit: 67108864":                                                 func(c *spec.Container) { c.Resources.LimitMemoryBytes = 64 << 20 },
		"cpus: 0.5":                                                           func(c *spec.Container) { c.Resources.LimitCPUMillis = 500 },
		"deploy: {restart_policy: {}}":                                        func(c *spec.Container) { c.Restart = spec.RestartAlways },
		"deploy: {resources: {limits: {pids: 1}}}":                            nil,
		"deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}":  func(c *spec.Container) { c.Restart, c.MaxRestarts = spec.RestartOnFailure, 2 },
		"deploy: {resources: {limits: {cpus: '0.25', memory: 1k}, reservations: {memory: 1k}}}": func(c *spec.Container) {
			c.Resources = spec.Resources{LimitCPUMillis: 250, LimitMemoryBytes: 1024, RequestMemoryBytes: 1024}
		},
		"expose: ['80', '53/udp', '90-91']": func(c *spec.Container) {
			c.Exposed = []spec.Port{{Protocol: spec.TCP, GuestPort: 80}, {Protocol: spec.UDP, GuestPort: 53}, {Protocol: spec.TCP, GuestPort: 90}, {Protocol: spec.TCP, GuestPort: 91}}
		},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			g, _, err := read("services:\n  web:\n    image: i\n    "+text+"\n", Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(container("web", want), g.Containers[0]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]spec.Dependency{
		"depends_on: [db]":   {{Container: "db", Condition: spec.ConditionStarted}},
		"depends_on: {db: }": {{Container: "db", Condition: spec.ConditionStarted}},
		"depends_on: {db: {condition: service_healthy}}":                                 {{Container: "db", Condition: spec.ConditionHealthy}},
		"depends_on: {db: {condition: service_completed_successfully, required: false}}": {{Container: "db", Condition: spec.ConditionCompleted, Optional: true}},
		"depends_on: {nobody: {condition: service_started, required: false}}":            nil,
		"links: ['db:database']":            {{Container: "db", Condition: spec.ConditionStarted}},
		"{depends_on: [db], links: ['db']}": {{Container: "db", Condition: spec.ConditionStarted}},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			web := "\n    " + text
			if keys, ok := strings.CutPrefix(text, "{"); ok {
				web = "\n    " + strings.ReplaceAll(strings.TrimSuffix(keys, "}"), ", links", "\n    links")
			}
			g, _, err := read("services:\n  web:\n    image: i"+web+"\n  db:\n    image: i\n    healthcheck: {test: x}\n", Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, g.Containers[0].After); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]spec.Port{
		"80":                  {{Protocol: spec.TCP, GuestPort: 80}},
		"'8080:80'":           {{Protocol: spec.TCP, HostPort: 8080, GuestPort: 80}},
		"'53:53/udp'":         {{Protocol: spec.UDP, HostPort: 53, GuestPort: 53}},
		"'127.0.0.1:8080:80'": {{Protocol: spec.TCP, HostIP: "127.0.0.1", HostPort: 8080, GuestPort: 80}},
		"'127.0.0.1::80'":     {{Protocol: spec.TCP, HostIP: "127.0.0.1", GuestPort: 80}},
		"'[::1]:8080:80'":     {{Protocol: spec.TCP, HostIP: "::1", HostPort: 8080, GuestPort: 80}},
		"'::1:8080:80'":       {{Protocol: spec.TCP, HostIP: "::1", HostPort: 8080, GuestPort: 80}},
		"'8080-8081:80-81'":   {{Protocol: spec.TCP, HostPort: 8080, GuestPort: 80}, {Protocol: spec.TCP, HostPort: 8081, GuestPort: 81}},
		"'80-81/udp'":         {{Protocol: spec.UDP, GuestPort: 80}, {Protocol: spec.UDP, GuestPort: 81}},
		"{target: 80}":        {{Protocol: spec.TCP, GuestPort: 80}},
		"{target: 80, published: '8080', host_ip: '::1', protocol: udp, mode: host}": {{Protocol: spec.UDP, HostIP: "::1", HostPort: 8080, GuestPort: 80}},
	} {
		g, _, err := read("services: {web: {image: i, ports: ["+text+"]}}", Options{})
		if diff := cmp.Diff(want, g.Ports); diff != "" || err != nil {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
}

func TestGroupNetwork(t *testing.T) {
	t.Parallel()
	g, w, err := read(`
x-cofferdam: {egress: ["192.0.2.0/24:443/tcp"]}
services:
  web: {image: i, hostname: front, container_name: the_web, dns: 192.0.2.53, dns_search: [example.org], dns_opt: ["ndots:2"], networks: {default: {aliases: [www]}}, extra_hosts: ["a:192.0.2.1", "b=[2001:db8::1]", "c=192.0.2.1"]}
  db: {image: i, hostname: back, dns: 192.0.2.53, dns_search: example.org, dns_opt: ["ndots:2"], extra_hosts: {d: 192.0.2.1}}
`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := spec.Group{
		Origin: "$", Containers: []spec.Container{container("web", nil), container("db", nil)}, Hostname: "front",
		DNS: spec.DNS{Servers: []string{"192.0.2.53"}, Search: []string{"example.org"}, Options: []string{"ndots:2"}},
		HostAliases: []spec.HostAlias{
			{Address: "127.0.0.1", Names: []string{"web", "the_web", "front", "www", "db", "back"}},
			{Address: "192.0.2.1", Names: []string{"a", "c", "d"}}, {Address: "2001:db8::1", Names: []string{"b"}},
		},
		Egress: &spec.Egress{Rules: []spec.EgressRule{{Prefix: "192.0.2.0/24", Protocol: spec.TCP, Ports: []uint16{443}}}},
	}
	if diff := cmp.Diff(want, g); diff != "" || len(w) != 2 {
		t.Errorf("%s, warnings %v", diff, w)
	}
	g, _, err = read("x-cofferdam: {egress: []}\nservices: {web: {image: i}}", Options{})
	if diff := cmp.Diff(&spec.Egress{}, g.Egress); diff != "" || err != nil {
		t.Errorf("nothing allowed: %v %s", err, diff)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	g, _, err := read(`
services:
  web:
    image: i
    secrets: [token, {source: token, target: other, mode: 0400}, {source: key, target: /etc/app/key.pem, mode: "0440"}]
    configs: [settings, {source: settings, target: /etc/app/app.conf, mode: 292}]
secrets: {token: {environment: TOKEN}, key: {file: ./key.pem}}
configs: {settings: {content: "mode=${MODE:-fast}"}}
`, Options{Variable: variables(map[string]string{"TOKEN": "t"}), File: files(map[string]string{"./key.pem": "k"})})
	if err != nil {
		t.Fatal(err)
	}
	volumes := []spec.Volume{
		{Name: "web.secrets", Kind: spec.MountSecret, Files: []spec.File{{Path: "token", Content: spec.Content("t"), Mode: 0o444}, {Path: "other", Content: spec.Content("t"), Mode: 0o400}}},
		{Name: "web.files", Kind: spec.MountSecret, Files: []spec.File{
			{Path: "etc/app/key.pem", Content: spec.Content("k"), Mode: 0o440},
			{Path: "settings", Content: spec.Content("mode=fast"), Mode: 0o444}, {Path: "etc/app/app.conf", Content: spec.Content("mode=fast"), Mode: 0o444},
		}},
	}
	if diff := cmp.Diff(volumes, g.Volumes); diff != "" {
		t.Error(diff)
	}
	file := func(path, sub string) spec.Mount {
		return spec.Mount{Kind: spec.MountSecret, Path: path, ReadOnly: true, Volume: "web.files", SubPath: sub}
	}
	mounts := []spec.Mount{
		file("/etc/app/key.pem", "etc/app/key.pem"), file("/settings", "settings"), file("/etc/app/app.conf", "etc/app/app.conf"),
		{Kind: spec.MountSecret, Path: "/run/secrets", ReadOnly: true, Volume: "web.secrets"},
	}
	if diff := cmp.Diff(mounts, g.Containers[0].Mounts); diff != "" {
		t.Error(diff)
	}
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	g, w, err := read(`
services:
  web: {image: i, volumes: ["data_1:/data", /cache, {type: tmpfs, target: /t, tmpfs: {size: 1m}}, {type: volume, source: data_1, target: /part, volume: {subpath: a/b}}], tmpfs: ["/run:size=2k"]}
  db: {image: i, volumes: ["data_1:/var/data:ro"]}
volumes: {data_1: , unused: }
`, Options{})
	if err != nil {
		t.Fatal(err)
	}
	volumes := []spec.Volume{
		{Name: "data_1", Kind: spec.MountEmptyDir}, {Name: "web.tmpfs1", Kind: spec.MountEmptyDir, Memory: true, SizeLimitBytes: 1 << 20},
		{Name: "web.tmpfs2", Kind: spec.MountEmptyDir, Memory: true, SizeLimitBytes: 2048},
	}
	if diff := cmp.Diff(volumes, g.Volumes); diff != "" {
		t.Error(diff)
	}
	mount := func(path, volume string) spec.Mount {
		return spec.Mount{Kind: spec.MountEmptyDir, Path: path, Volume: volume}
	}
	part, shared := mount("/part", "data_1"), mount("/var/data", "data_1")
	part.SubPath, shared.ReadOnly = "a/b", true
	if diff := cmp.Diff([]spec.Mount{mount("/data", "data_1"), mount("/cache", ""), mount("/t", "web.tmpfs1"), part, mount("/run", "web.tmpfs2")}, g.Containers[0].Mounts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]spec.Mount{shared}, g.Containers[1].Mounts); diff != "" || len(w) != 1 || w[0].Code != spec.WarnChanged {
		t.Errorf("%s, warnings %v", diff, w)
	}
}

func TestLifeRefusals(t *testing.T) {
	t.Parallel()
	service := func(keys string) string {
		return "services:\n  db: {image: i}\n  web:\n    image: i\n    " + keys + "\nsecrets: {token: {content: 's3cret$'}, none: {}, far: {external: true}, gone: {file: x}, unset: {environment: NOPE}}\n"
	}
	for name, c := range map[string]struct{ text, want string }{
		"restart":           {service("restart: sometimes"), `restart is "sometimes"`},
		"restarts":          {service("restart: always:3"), "only on-failure has a number"},
		"grace":             {service("stop_grace_period: 10"), "expected a time such as 1m30s"},
		"cycle":             {"services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [a]}}", "a → b → a"},
		"nobody":            {service("depends_on: [nobody]"), `waits for "nobody"`},
		"condition":         {service("depends_on: {db: {condition: service_bored}}"), `condition "service_bored"`},
		"unchecked health":  {service("depends_on: {db: {condition: service_healthy}}"), "nothing that checks its health"},
		"retries":           {service("healthcheck: {test: x, retries: -1}"), "expected a whole number"},
		"interval":          {service("healthcheck: {test: x, interval: -1s}"), "expected a time"},
		"no network":        {service("network_mode: none"), "one network of its own"},
		"other's network":   {service("network_mode: service:nobody"), "one network of its own"},
		"one port twice":    {"services: {a: {image: i, ports: ['80:80']}, b: {image: i, ports: ['81:80']}}", `services "a" and "b" both listen on port 80/tcp`},
		"unequal ranges":    {service("ports: ['8080-8085:80']"), "the host has 6 ports for 1"},
		"long range":        {service("ports: ['1-2000']"), "no range of up to 1000"},
		"backward range":    {service("ports: ['81-80']"), "no range"},
		"protocol":          {service("ports: ['80/sctp']"), `protocol "sctp"`},
		"address":           {service("ports: ['host:80:80']"), `"host" is no IP address`},
		"host's gateway":    {service("extra_hosts: ['h:host-gateway']"), "nothing of the host is reached"},
		"resolvers":         {"services: {a: {image: i, dns: 192.0.2.1}, b: {image: i, dns: 192.0.2.2}}", "different resolvers"},
		"memory":            {service("mem_limit: much"), `"much" is no size`},
		"too much":          {service("mem_limit: 99999999999t"), "is too much"},
		"processors":        {service("cpus: 1e9"), "expected a decimal number"},
		"two limits":        {"services: {a: {image: i, mem_limit: 1m, deploy: {resources: {limits: {memory: 2m}}}}}", "something else outside of deploy"},
		"devices":           {service("deploy: {resources: {reservations: {devices: [{}]}}}"), "no devices"},
		"attempts":          {service("deploy: {restart_policy: {condition: any, max_attempts: 2}}"), "only condition on-failure"},
		"undeclared secret": {service("secrets: [nobody]"), `"nobody" is not declared under secrets`},
		"external secret":   {service("secrets: [far]"), "is not in the description"},
		"empty secret":      {service("secrets: [none]"), "exactly one of file, content and environment"},
		"missing file":      {service("secrets: [gone]"), `file "x": file does not exist`},
		"unset secret":      {service("secrets: [unset]"), "NOPE has no value"},
		"lone dollar":       {service("secrets: [token]"), "write $$ for one"},
		"mode":              {service("secrets: [{source: token, mode: 4755}]"), "expected permission bits"},
		"target":            {service("secrets: [{source: token, target: ../x}]"), "not a clean path"},
		"twice":             {service("configs: [c, c]") + "configs: {c: {content: x}}\n", `mount path "/c" is used twice`},
		"egress":            {"x-cofferdam: {egress: [example.org]}\n" + service(""), "length of the prefix is missing"},
		"egress as a text":  {"x-cofferdam: {egress: none}\n" + service(""), "egress is a list"},
		"key of extension":  {"x-cofferdam: {ingress: []}\n" + service(""), `key "ingress"`},
		"egress of one":     {service("x-cofferdam: {egress: []}"), "stands beside services"},
		"bind":              {service("volumes: ['/etc/x:/y:ro']"), "under configs or secrets"},
		"signal":            {service("stop_signal: SIGINT"), `key "stop_signal" is not supported`},
		"size of a tmpfs":   {service("tmpfs: /x:size=big"), `"big" is no size`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, w, err := read(c.text, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if strings.Contains(fmt.Sprint(w, err), "s3cret") {
				t.Errorf("the secret is shown: %v", err)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"shm_size: 1g": "shm_size has no effect", "scale: 3": "one instance is run", "deploy: {replicas: 2}": "one instance is run",
		"healthcheck: {interval: 1s}": "health checks of images are not read", "tmpfs: /x:mode=1777": `"mode=1777" of a tmpfs`,
		"deploy: {restart_policy: {delay: 5s}}": "delay has no effect", "deploy: {resources: {limits: {pids: 1}}}": "pids has no effect",
	} {
		_, w, err := read("services:\n  web:\n    image: i\n    "+text+"\n", Options{})
		if err != nil || len(w) != 1 || !strings.Contains(w[0].Text, want) {
			t.Errorf("%s: warnings %v, %v; want %q", text, w, err, want)
		}
	}
}
