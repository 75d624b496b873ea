// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// valid is a group that uses much of the model.
func valid() Group {
	minute := time.Minute
	check := Action{Exec: []string{"check"}}
	return Group{
		Restart: RestartOnFailure, StopTimeout: &minute, Hostname: "web",
		DNS:         DNS{Servers: []string{"192.0.2.1", "2001:db8::1"}, Search: []string{"example.org"}, Options: []string{"ndots:2"}},
		HostAliases: []HostAlias{{Address: "192.0.2.2", Names: []string{"db_1", "db.example.org"}}},
		Egress:      &Egress{Rules: []EgressRule{{Prefix: "192.0.2.0/24", Protocol: TCP, Ports: []uint16{443}}}},
		Ports:       []Port{{Protocol: TCP, GuestPort: 80}, {Protocol: TCP, GuestPort: 81}},
		Volumes: []Volume{
			{Name: "data_1", Kind: MountEmptyDir},
			{Name: "keys", Kind: MountSecret, Files: []File{{Path: "a/b", Content: Content("x"), Mode: 0o400}}},
			{Name: "code", Kind: MountGitRepo, Repository: &Repository{URL: "https://example.org/r", Directory: "."}},
		},
		Containers: []Container{
			{
				Name: "web", Image: "i", AllowExec: [][]string{{"check"}}, Exposed: []Port{{Protocol: UDP, GuestPort: 53}},
				Mounts: []Mount{
					{Kind: MountEmptyDir, Path: "/data", Volume: "data_1", SubPath: "a/b"},
					{Kind: MountSecret, Path: "/keys", Volume: "keys"}, {Kind: MountEmptyDir, Path: "/own"},
				},
				Resources: Resources{RequestCPUMillis: 100, LimitCPUMillis: 200, RequestMemoryBytes: 1 << 20},
				Life: Life{
					After:     []Dependency{{Container: "db", Condition: ConditionHealthy}, {Container: "job", Condition: ConditionCompleted, Optional: true}},
					Readiness: &Probe{Action: check, SuccessThreshold: 2}, Liveness: &Probe{Action: Action{HTTP: &HTTPRequest{Port: 80, Path: "/x?y=1"}}, Grace: &minute},
					PreStop: &Action{Sleep: time.Second}, TerminationMessagePath: "/dev/termination-log",
				},
			},
			{Name: "db", Image: "i", AllowExec: [][]string{{"check"}}, Life: Life{Restart: RestartOnFailure, MaxRestarts: 3, Readiness: &Probe{Action: check}}},
			{Name: "job", Image: "i", Life: Life{Restart: RestartNever, After: []Dependency{{Container: "db", Condition: ConditionStarted}}}},
			{Name: "init", Image: "i", Life: Life{Init: true}},
			{Name: "sidecar", Image: "i", Life: Life{Init: true, Restart: RestartAlways, Startup: &Probe{Action: Action{TCP: &TCPConnection{Port: 1}}}}},
		},
	}
}

func TestValidateLife(t *testing.T) {
	t.Parallel()
	g := valid()
	if err := g.Validate(); err != nil {
		t.Fatal(err)
	}
	negative, zero := -time.Second, time.Duration(0)
	probe := func(change func(*Probe)) func(*Group) { return func(g *Group) { change(g.Containers[0].Readiness) } }
	for name, c := range map[string]struct {
		change func(*Group)
		want   string
	}{
		"restart":             {func(g *Group) { g.Restart = "Sometimes" }, `group: restart policy "Sometimes" is none of`},
		"restart of one":      {func(g *Group) { g.Containers[2].Restart = "no" }, `container 3 ("job"): restart policy "no"`},
		"negative stop":       {func(g *Group) { g.StopTimeout = &negative }, "which is negative"},
		"negative own stop":   {func(g *Group) { g.Containers[0].StopTimeout = &negative }, "which is negative"},
		"restarts of always":  {func(g *Group) { g.Containers[0].MaxRestarts = 1 }, "only OnFailure"},
		"only init":           {func(g *Group) { g.Containers = g.Containers[3:] }, "init containers only"},
		"cycle":               {func(g *Group) { g.Containers[1].After = []Dependency{{Container: "web", Condition: ConditionStarted}} }, "containers wait for each other: web → db → web"},
		"long cycle":          {func(g *Group) { g.Containers[1].After = []Dependency{{Container: "job", Condition: ConditionStarted}} }, "db → job → db"},
		"itself":              {func(g *Group) { g.Containers[2].After[0].Container = "job" }, "job → job"},
		"unknown name":        {func(g *Group) { g.Containers[2].After[0].Container = "nobody" }, `waits for "nobody", and the group has no such container`},
		"waits for init":      {func(g *Group) { g.Containers[2].After[0].Container = "init" }, "is an init container"},
		"never healthy":       {func(g *Group) { g.Containers[1].Readiness = nil }, `waits for "db" to be healthy`},
		"condition":           {func(g *Group) { g.Containers[2].After[0].Condition = "" }, `condition "" is none of`},
		"init waits":          {func(g *Group) { g.Containers[3].After = g.Containers[2].After }, "waits for those before it"},
		"init on failure":     {func(g *Group) { g.Containers[3].Restart = RestartNever }, "restart policy of an init container"},
		"init with a probe":   {func(g *Group) { g.Containers[3].Liveness = &Probe{Action: Action{TCP: &TCPConnection{Port: 1}}} }, "no probes and no hooks"},
		"termination message": {func(g *Group) { g.Containers[0].TerminationMessagePath = "log" }, "termination message"},
		"no action":           {probe(func(p *Probe) { p.Exec = nil }), "readiness probe: it says 0 things"},
		"two actions":         {probe(func(p *Probe) { p.TCP = &TCPConnection{Port: 1} }), "readiness probe: it says 2 things"},
		"sleeping probe":      {probe(func(p *Probe) { p.Action = Action{Sleep: 1} }), "can not sleep"},
		"port 0":              {probe(func(p *Probe) { p.Action = Action{TCP: &TCPConnection{}} }), "port 0"},
		"path":                {probe(func(p *Probe) { p.Action = Action{HTTP: &HTTPRequest{Port: 1, Path: "x"}} }), "does not begin with a slash"},
		"split path":          {probe(func(p *Probe) { p.Action = Action{HTTP: &HTTPRequest{Port: 1, Path: "/ HTTP/1.1\r\n"}} }), "what a request line can not"},
		"header": {probe(func(p *Probe) {
			p.Action = Action{HTTP: &HTTPRequest{Port: 1, Path: "/", Headers: []Header{{Name: "a b"}}}}
		}), `header name "a b"`},
		"header's value": {probe(func(p *Probe) {
			p.Action = Action{HTTP: &HTTPRequest{Port: 1, Path: "/", Headers: []Header{{"A", "s3cret\r\n"}}}}
		}), "value of header A"},
		"not allowed":       {func(g *Group) { g.Containers[0].AllowExec = nil }, `command ["check"] is not among those`},
		"thresholds":        {probe(func(p *Probe) { p.FailureThreshold = -1 }), "expected 1 or more"},
		"negative period":   {probe(func(p *Probe) { p.Period = -1 }), "period is -1ns"},
		"no grace":          {probe(func(p *Probe) { p.Grace = &zero }), "expected more than nothing"},
		"successes to live": {func(g *Group) { g.Containers[0].Liveness.SuccessThreshold = 2 }, "liveness probe: it needs 2 successes"},
		"negative sleep":    {func(g *Group) { g.Containers[0].PreStop.Sleep = -1 }, "hook before the stop: it sleeps"},
		"processors":        {func(g *Group) { g.Containers[0].Resources.RequestCPUMillis = 300 }, "asks for 300m of processors, and is limited to 200m"},
		"memory":            {func(g *Group) { g.Containers[0].Resources.LimitMemoryBytes = 1 }, "and is limited to 1"},
		"too much memory":   {func(g *Group) { g.Containers[0].Resources.RequestMemoryBytes = 1 << 60 }, "memory is more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := valid()
			c.change(&g)
			err := g.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestValidateGroup(t *testing.T) {
	t.Parallel()
	mount := func(change func(*Mount)) func(*Group) { return func(g *Group) { change(&g.Containers[0].Mounts[0]) } }
	file := func(change func(*File)) func(*Group) { return func(g *Group) { change(&g.Volumes[1].Files[0]) } }
	egress := func(change func(*EgressRule)) func(*Group) { return func(g *Group) { change(&g.Egress.Rules[0]) } }
	for name, c := range map[string]struct {
		change func(*Group)
		want   string
	}{
		"volume twice":      {func(g *Group) { g.Volumes[1].Name = "data_1" }, `volume "data_1" is given twice`},
		"volume's name":     {func(g *Group) { g.Volumes[0].Name = "../x" }, "letters, digits"},
		"dots as a name":    {func(g *Group) { g.Volumes[0].Name = ".." }, "letters, digits"},
		"volume's kind":     {func(g *Group) { g.Volumes[0].Kind = MountResolvConf }, `kind "resolvconf"`},
		"content":           {func(g *Group) { g.Volumes[0].Files = g.Volumes[1].Files }, "its content is not that of kind emptydir"},
		"repository":        {func(g *Group) { g.Volumes[2].Repository.Directory = "../x" }, `directory "../x" of the repository`},
		"unknown volume":    {mount(func(m *Mount) { m.Volume = "x" }), `is of volume "x", which the group does not have`},
		"other kind":        {mount(func(m *Mount) { m.Kind = MountSecret }), "is of kind secretsVolume, and volume"},
		"part of nothing":   {mount(func(m *Mount) { m.Volume = "" }), "part of no volume"},
		"part outside":      {mount(func(m *Mount) { m.SubPath = "../x" }), `the part "../x"`},
		"file outside":      {file(func(f *File) { f.Path = "../x" }), "not relative and clean"},
		"file twice":        {func(g *Group) { g.Volumes[1].Files = append(g.Volumes[1].Files, g.Volumes[1].Files[0]) }, `file "a/b" is given twice`},
		"set-user-ID":       {file(func(f *File) { f.Mode = 0o4755 }), "more than permission bits"},
		"much content":      {file(func(f *File) { f.Content = make([]byte, 9<<20) }), "longer than"},
		"host name":         {func(g *Group) { g.Hostname = "a b" }, `host name "a b"`},
		"name server":       {func(g *Group) { g.DNS.Servers[0] = "example.org" }, `"example.org" is no IP address`},
		"search domain":     {func(g *Group) { g.DNS.Search[0] = "a\nnameserver 192.0.2.9" }, "search domain or option"},
		"alias's address":   {func(g *Group) { g.HostAliases[0].Address = "fe80::1%eth0" }, "is no IP address"},
		"alias's name":      {func(g *Group) { g.HostAliases[0].Names[0] = "a b" }, `"a b" is no host name`},
		"alias of nobody":   {func(g *Group) { g.HostAliases[0].Names = nil }, "has no names"},
		"exposed":           {func(g *Group) { g.Containers[0].Exposed[0].GuestPort = 70000 }, "is not one from 1 to 65535"},
		"protocol":          {func(g *Group) { g.Ports[0].Protocol = "sctp" }, `protocol "sctp"`},
		"host's address":    {func(g *Group) { g.Ports[0].HostIP = "x" }, `"x" is no IP address`},
		"egress":            {egress(func(r *EgressRule) { r.Prefix = "192.0.2.1" }), "is no prefix"},
		"bits":              {egress(func(r *EgressRule) { r.Prefix = "192.0.2.1/24" }), "write 192.0.2.0/24"},
		"egress's protocol": {egress(func(r *EgressRule) { r.Protocol = "icmp" }), `protocol "icmp"`},
		"egress's port":     {egress(func(r *EgressRule) { r.Ports[0] = 0 }), "port 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := valid()
			c.change(&g)
			err := g.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestEgressList(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*Egress{
		"none":                    {},
		" 192.0.2.0/24\n":         {Rules: []EgressRule{{Prefix: "192.0.2.0/24"}}},
		"192.0.2.1/32:53/udp":     {Rules: []EgressRule{{Prefix: "192.0.2.1/32", Protocol: UDP, Ports: []uint16{53}}}},
		"2001:db8::/32:80,443":    {Rules: []EgressRule{{Prefix: "2001:db8::/32", Ports: []uint16{80, 443}}}},
		"0.0.0.0/0/tcp ::/0/tcp ": {Rules: []EgressRule{{Prefix: "0.0.0.0/0", Protocol: TCP}, {Prefix: "::/0", Protocol: TCP}}},
	} {
		got, err := ParseEgressList(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v %s", text, err, diff)
		}
	}
	for text, want := range map[string]string{
		"": "is empty", "192.0.2.1": "length of the prefix is missing", "example.org/24": "no prefix", "192.0.2.0/24:": "is not a port", "192.0.2.0/24:0": "is not a port",
		"192.0.2.0/24:80-90": "is not a port", "192.0.2.0/24/icmp": "no prefix", "192.0.2.1/24": "write 192.0.2.0/24", "192.0.2.0/24 none": "length of the prefix",
		"192.0.2.0/24, 198.51.100.0/24": "no prefix",
	} {
		if _, err := ParseEgressList(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

// TestContentIsNeverShown tries every way in which a value is usually shown, alone and within all that holds it.
func TestContentIsNeverShown(t *testing.T) {
	t.Parallel()
	const secret = "s3cret"
	group := valid()
	group.Volumes[1].Files[0].Content = Content(secret)
	group.Credentials = []RegistryCredential{{Server: "r", Username: "u", Password: Content(secret)}}
	for _, v := range []any{Content(secret), group.Volumes[1].Files[0], group.Volumes[1], group.Volumes, group.Credentials[0], group, &group} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%U", "%c", "%t", "%e"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(data)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", slog.Any("value", v))
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", slog.Any("value", v))
		decimal := strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]")
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("% x", secret), decimal, "czNjcmV0"} {
			if strings.Contains(out.String(), form) {
				t.Errorf("%T shows its content as %q: %s", v, form, out.String())
			}
		}
	}
}

// TestEgressRoundTrip: a rule that is written down is read as it was.
func TestEgressRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := EgressRule{
			Prefix:   rapid.SampledFrom([]string{"0.0.0.0/0", "192.0.2.0/24", "::/0", "2001:db8::/32", "198.51.100.7/32"}).Draw(t, "prefix"),
			Protocol: rapid.SampledFrom([]Protocol{"", TCP, UDP}).Draw(t, "protocol"),
			Ports:    rapid.SliceOfN(rapid.Uint16Range(1, 65535), 0, 4).Draw(t, "ports"),
		}
		text, separator := want.Prefix, ":"
		for _, p := range want.Ports {
			text, separator = text+separator+fmt.Sprint(p), ","
		}
		if want.Protocol != "" {
			text += "/" + string(want.Protocol)
		}
		got, err := ParseEgressList(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if len(want.Ports) == 0 {
			want.Ports = nil
		}
		if diff := cmp.Diff([]EgressRule{want}, got.Rules); diff != "" {
			t.Fatalf("%q: %s", text, diff)
		}
	})
}

func FuzzParseEgressList(f *testing.F) {
	for _, s := range []string{"none", "192.0.2.0/24:443/tcp ::/0", "1/2/3:4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if e, err := ParseEgressList(s); err == nil && e.check() != nil {
			t.Errorf("%q is read and not valid: %v", s, e.check())
		}
	})
}
