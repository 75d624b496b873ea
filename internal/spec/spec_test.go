// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFromRunFlags(t *testing.T) {
	t.Parallel()
	sh := "/bin/sh"
	g, err := FromRunFlags(RunFlags{
		Name: "web", Image: "oci:img:latest", Command: []string{"-c", "true"}, Entrypoint: &sh,
		Env:       []string{"A=1", "B=x=y", "HOME", "A=2"},
		LookupEnv: func(n string) (string, bool) { return "/home/me", n == "HOME" },
		User:      "1000:staff", WorkingDir: "/srv", AllowExec: []string{`redis-cli ping`, `sh -c 'a "b"'`},
		Ports: []string{"8080:80", "127.0.0.1:53:5353/udp", "[::1]:8080:81/tcp"}[:2], Memory: "2GiB", CPUs: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &Group{
		Name: "web", CPUs: 2, MemoryMiB: 2048,
		Ports: []Port{{TCP, "", 8080, 80}, {UDP, "127.0.0.1", 53, 5353}},
		Containers: []Container{{
			Name: "web", Image: "oci:img:latest", Command: []string{"/bin/sh", "-c", "true"},
			Env:  []EnvVar{{Name: "A", Value: "2"}, {Name: "B", Value: "x=y"}, {Name: "HOME", Value: "/home/me"}},
			User: "1000:staff", WorkingDir: "/srv", AllowStdio: true, AllowPrivilegeEscalation: true,
			AllowExec: [][]string{{"redis-cli", "ping"}, {"sh", "-c", `a "b"`}},
		}},
	}
	if diff := cmp.Diff(want, g); diff != "" {
		t.Error(diff)
	}
}

func TestEntrypoint(t *testing.T) {
	t.Parallel()
	none := ""
	for name, c := range map[string]struct {
		flags         RunFlags
		command, args []string
	}{
		"image's":        {RunFlags{Command: []string{"a"}}, nil, []string{"a"}},
		"nothing at all": {RunFlags{}, nil, nil},
		"none":           {RunFlags{Entrypoint: &none, Command: []string{"a"}}, []string{"a"}, nil},
	} {
		c.flags.Image = "x"
		g, err := FromRunFlags(c.flags)
		if err != nil {
			t.Fatal(err)
		}
		got := g.Containers[0]
		if !cmp.Equal(got.Command, c.command) || !cmp.Equal(got.Args, c.args) {
			t.Errorf("%s: command %q, args %q", name, got.Command, got.Args)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*RunFlags)
		want   string
	}{
		"no image":          {func(f *RunFlags) { f.Image = "" }, "image is missing"},
		"capital name":      {func(f *RunFlags) { f.Name = "Web" }, `group: name "Web" may hold only`},
		"long name":         {func(f *RunFlags) { f.Name = strings.Repeat("a", 64) }, "64 characters"},
		"hyphen first":      {func(f *RunFlags) { f.Name = "-a" }, "inner hyphens"},
		"path as name":      {func(f *RunFlags) { f.Name = "../a" }, "inner hyphens"},
		"env without name":  {func(f *RunFlags) { f.Env = []string{"=x"} }, "has no name"},
		"env name":          {func(f *RunFlags) { f.Env = []string{"1A=x"} }, `name "1A": '1' is not allowed there`},
		"env name space":    {func(f *RunFlags) { f.Env = []string{"A B=x"} }, `' ' is not allowed there`},
		"env not set":       {func(f *RunFlags) { f.Env = []string{"A"} }, "is not set here"},
		"env with NUL":      {func(f *RunFlags) { f.Env = []string{"A=s3cret\x00"} }, "value of environment variable A: holds a NUL byte"},
		"port alone":        {func(f *RunFlags) { f.Ports = []string{"80"} }, `port "80": no colon`},
		"port zero":         {func(f *RunFlags) { f.Ports = []string{"0:80"} }, `host: "0" is not a port`},
		"port too big":      {func(f *RunFlags) { f.Ports = []string{"80:65536"} }, `guest: "65536" is not a port`},
		"port sign":         {func(f *RunFlags) { f.Ports = []string{"80:+80"} }, `guest: "+80"`},
		"port protocol":     {func(f *RunFlags) { f.Ports = []string{"80:80/sctp"} }, `protocol "sctp"`},
		"port address":      {func(f *RunFlags) { f.Ports = []string{"host:80:80"} }, `"host" is no IP address`},
		"port bare IPv6":    {func(f *RunFlags) { f.Ports = []string{"::1:80:80"} }, `no IP address (IPv6 needs brackets)`},
		"port twice":        {func(f *RunFlags) { f.Ports = []string{"80:80", "127.0.0.1:80:81"} }, "forwarded twice"},
		"memory bare":       {func(f *RunFlags) { f.Memory = "512" }, "has no unit: write 512m"},
		"memory fraction":   {func(f *RunFlags) { f.Memory = "1.5g" }, `memory "1.5g" is no whole number with a unit`},
		"memory too little": {func(f *RunFlags) { f.Memory = "64m" }, "64 MiB of memory, and a guest needs at least 224 MiB"},
		"memory just short": {func(f *RunFlags) { f.Memory = "223m" }, "223 MiB of memory, and a guest needs at least 224 MiB"},
		"memory too much":   {func(f *RunFlags) { f.Memory = "9000000g" }, "at most 16777216 are possible"},
		"memory overflow":   {func(f *RunFlags) { f.Memory = "99999999999g" }, "is too much"},
		"processors":        {func(f *RunFlags) { f.CPUs = -1 }, "-1 processors"},
		"relative workdir":  {func(f *RunFlags) { f.WorkingDir = "srv" }, "not absolute"},
		"user":              {func(f *RunFlags) { f.User = "a:b:c" }, "not USER[:GROUP]"},
		"user number":       {func(f *RunFlags) { f.User = "4294967296" }, "no 32-bit number"},
		"user empty group":  {func(f *RunFlags) { f.User = "a:" }, "not USER[:GROUP]"},
		"argument":          {func(f *RunFlags) { f.Command = []string{"\xff"} }, "is not UTF-8"},
		"open quotation":    {func(f *RunFlags) { f.AllowExec = []string{"sh -c 'a"} }, "not closed"},
		"empty command":     {func(f *RunFlags) { f.AllowExec = []string{" "} }, "is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := RunFlags{Name: "web", Image: "img"}
			c.change(&f)
			_, err := FromRunFlags(f)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error shows the value: %v", err)
			}
		})
	}
}

func TestSeveralContainersNeedNames(t *testing.T) {
	t.Parallel()
	g := Group{Containers: []Container{{Name: "a", Image: "x"}, {Image: "x"}}}
	if g.Validate() == nil {
		t.Error("a nameless container was accepted")
	}
	g.Containers[1].Name = "a"
	if g.Validate() == nil {
		t.Error("two containers of one name were accepted")
	}
	g.Containers[1].Name = "b"
	if err := g.Validate(); err != nil {
		t.Error(err)
	}
	g.Containers[1].Mounts = []Mount{{Kind: MountEmptyDir, Path: "/a/../b"}}
	if g.Validate() == nil {
		t.Error("an unclean mount path was accepted")
	}
}

func TestSplitWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":                   nil,
		" a  b ":             {"a", "b"},
		`''`:                 {""},
		`a\ b`:               {"a b"},
		`"a\"b\n" 'c\'`:      {`a"b\n`, `c\`},
		`pre"mid dle"'post'`: {"premid dlepost"},
	} {
		got, err := SplitWords(in)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"8080:80", "[::1]:80:80/udp", "1.2.3.4:1:1", ":::", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePort(s)
		if err == nil && (p.HostPort < 1 || p.HostPort > 65535 || p.GuestPort < 1 || p.GuestPort > 65535) {
			t.Errorf("%q: %+v", s, p)
		}
	})
}
