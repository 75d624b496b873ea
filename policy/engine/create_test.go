// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"slices"
	"testing"

	"cofferdam.dev/policy"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// create loads a one-container policy after a change, and asks to create its container after another.
func create(t *testing.T, change func(*policy.Policy, *policy.Container), request func(*CreateInput)) (Decision, error) {
	t.Helper()
	p := groupPolicy(1)
	if change != nil {
		change(p, &p.Containers[0])
	}
	e := mustLoad(t, p)
	mountAll(t, e, 0)
	in := testCreate(testID2(0), 0)
	if request != nil {
		request(&in)
	}
	return e.CreateContainer(context.Background(), in)
}

func TestCreateRefusals(t *testing.T) {
	t.Parallel()
	strict := func(p *policy.Policy, _ *policy.Container) {
		p.AllowEnvironmentVariableDropping, p.AllowCapabilityDropping = false, false
	}
	for name, c := range map[string]struct {
		policy  func(*policy.Policy, *policy.Container)
		request func(*CreateInput)
		want    []string
	}{
		"command":        {nil, func(in *CreateInput) { in.Args = append(in.Args, "-x") }, []string{"invalid command"}},
		"null command":   {func(_ *policy.Policy, c *policy.Container) { c.Command = nil }, func(in *CreateInput) { in.Args = nil }, []string{"invalid command"}},
		"directory":      {nil, func(in *CreateInput) { in.WorkingDir = "/" }, []string{"invalid working directory"}},
		"privileged":     {nil, func(in *CreateInput) { in.Privileged = true }, []string{"privileged escalation not allowed"}},
		"new privileges": {func(_ *policy.Policy, c *policy.Container) { c.NoNewPrivileges = true }, nil, []string{"invalid noNewPrivileges"}},
		"seccomp":        {nil, func(in *CreateInput) { in.SeccompProfileSHA256 = "x" }, []string{"invalid seccomp"}},
		"device":         {nil, func(in *CreateInput) { in.Devices = []map[string]any{{"path": "/dev/kvm"}} }, []string{"devices not supported"}},
		"umask":          {nil, func(in *CreateInput) { in.Umask = "0000" }, []string{"invalid user"}},
		"user": {func(_ *policy.Policy, c *policy.Container) {
			c.User.UserIDName = policy.IDName{Pattern: "1000", Strategy: policy.StrategyID}
		}, nil, []string{"invalid user"}},
		"group": {func(_ *policy.Policy, c *policy.Container) {
			c.User.GroupIDNames[0] = policy.IDName{Pattern: "staff", Strategy: policy.StrategyName}
		}, nil, []string{"invalid user"}},
		"unknown strategy": {func(_ *policy.Policy, c *policy.Container) { c.User.UserIDName.Strategy = "all" }, nil, []string{"invalid user"}},
		"other container":  {nil, func(in *CreateInput) { in.Args, in.WorkingDir = nil, "/" }, []string{"invalid command", "invalid working directory"}},
		"mount":            {nil, func(in *CreateInput) { in.Mounts[0].Destination = "/etc/passwd" }, []string{"invalid mount list: /etc/passwd"}},
		"mount options":    {nil, func(in *CreateInput) { in.Mounts[0].Options = []string{"rbind", "rshared", "rw", "dev"} }, []string{"invalid mount list: /etc/resolv.conf"}},
		"mount type":       {nil, func(in *CreateInput) { in.Mounts[0].Type = "tmpfs" }, []string{"invalid mount list: /etc/resolv.conf"}},
		"mount elsewhere":  {nil, func(in *CreateInput) { in.Mounts[0].Source = "/run/gcs/c/sandbox/sandboxMounts/tmp/atlas/emptydir/x" }, []string{"invalid mount list: /etc/resolv.conf"}},
		"mount led out":    {nil, func(in *CreateInput) { in.Mounts[0].Source += "/../../../../../../.." }, []string{"invalid mount list: /etc/resolv.conf"}},
		"mount embedded":   {nil, func(in *CreateInput) { in.Mounts[0].Source = "/evil" + in.Mounts[0].Source }, []string{"invalid mount list: /etc/resolv.conf"}},
		"huge pages where there are none": {func(_ *policy.Policy, c *policy.Container) {
			c.Mounts = []policy.Mount{{Destination: "/huge", Source: "hugepages://.+", Type: "bind"}}
		}, func(in *CreateInput) {
			in.HugePagesDir = ""
			in.Mounts = []policy.Mount{{Destination: "/huge", Source: in.SandboxDir + "/tmp/atlas/emptydir/x", Type: "bind"}}
		}, []string{"invalid mount list: /huge"}},
		"mount pattern": {nil, func(in *CreateInput) { in.Mounts[0].Source = "sandbox:///tmp/atlas/resolvconf/.+" }, []string{"invalid mount list: /etc/resolv.conf"}},
		"default mount": {nil, func(in *CreateInput) { in.Mounts[0] = policy.Mount{Destination: "/proc", Type: "proc", Source: "proc"} }, []string{"invalid mount list: /proc"}},
		"environment": {strict, func(in *CreateInput) { in.Env = append(in.Env, "LD_PRELOAD=/x", "MODE=dev") }, []string{
			"invalid env list", "invalid env list: LD_PRELOAD,MODE",
		}},
		"tail of a rule": {strict, func(in *CreateInput) { in.Env = append(in.Env, "XHOSTNAME=a") }, []string{
			"invalid env list", "invalid env list: XHOSTNAME",
		}},
		"required variable": {
			func(_ *policy.Policy, c *policy.Container) { c.EnvRules[1].Required = true },
			func(in *CreateInput) {
				in.Env = slices.DeleteFunc(in.Env, func(s string) bool { return s == "MODE=prod" })
			},
			[]string{"missing required environment variable"},
		},
		"more capabilities":  {strict, func(in *CreateInput) { in.Capabilities.Effective = append(in.Capabilities.Effective, "CAP_SYS_ADMIN") }, []string{"capabilities don't match"}},
		"fewer capabilities": {nil, func(in *CreateInput) { in.Capabilities.Effective = nil }, []string{"capabilities don't match"}},
		"ambient":            {strict, func(in *CreateInput) { in.Capabilities.Ambient = []string{"CAP_KILL"} }, []string{"capabilities don't match"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := create(t, c.policy, c.request)
			wantDenied(t, d, err, c.want...)
		})
	}
}

func TestCreateKeeps(t *testing.T) {
	t.Parallel()
	d, err := create(t, nil, func(in *CreateInput) {
		in.Env = []string{"HOSTNAME=b", "EVIL=1", "PATH=/usr/bin:/bin", "HOSTNAME=a", "PATH=/usr/bin:/bin", "nonsense", ""}
		in.Capabilities.Bounding = []string{"CAP_SYS_ADMIN", "CAP_SETUID", "CAP_CHOWN", "CAP_KILL", "CAP_SETGID"}
		in.Capabilities.Ambient = []string{"CAP_KILL"}
	})
	mustAllow(t, d, err)
	if diff := cmp.Diff([]string{"HOSTNAME=b", "PATH=/usr/bin:/bin", "HOSTNAME=a", "PATH=/usr/bin:/bin"}, d.EnvList); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	want := testCapabilities()
	want.Bounding = []string{"CAP_SETUID", "CAP_CHOWN", "CAP_KILL", "CAP_SETGID"}
	if diff := cmp.Diff(&want, d.Capabilities, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	if !d.AllowStdio {
		t.Error("standard streams are refused")
	}
}

// TestCreateAllows are requests at the edge of what a policy lists.
func TestCreateAllows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy  func(*policy.Policy, *policy.Container)
		request func(*CreateInput)
	}{
		"no mounts":         {nil, func(in *CreateInput) { in.Mounts = nil }},
		"options reordered": {nil, func(in *CreateInput) { slices.Reverse(in.Mounts[0].Options) }},
		"less environment":  {nil, func(in *CreateInput) { in.Env = nil }},
		"no new privileges": {nil, func(in *CreateInput) { in.NoNewPrivileges = true }},
		"elevated": {
			func(_ *policy.Policy, c *policy.Container) { c.AllowElevated = true },
			func(in *CreateInput) { in.Privileged = true },
		},
		"pairs": {
			func(p *policy.Policy, c *policy.Container) {
				p.FrameworkVersion, p.AllowEnvironmentVariableDropping = "0.5.0", false
				c.EnvRules = []policy.EnvRule{{Name: "A", NameStrategy: policy.StrategyString, Value: ".*", ValueStrategy: policy.StrategyRegexp, Required: true}}
			},
			func(in *CreateInput) { in.Env = []string{"A=b=c"} },
		},
		"group by pattern": {
			func(_ *policy.Policy, c *policy.Container) {
				c.User.GroupIDNames[0] = policy.IDName{Pattern: "ro+t", Strategy: policy.StrategyRegexp}
			}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := create(t, c.policy, c.request)
			mustAllow(t, d, err)
		})
	}
}

// TestAlternationEscapesAnchors pins a trap that hcsshim has too: anchors are added textually, so that an alternation
// at the top of a pattern is anchored on one side only. Generated policies have no such pattern.
func TestAlternationEscapesAnchors(t *testing.T) {
	t.Parallel()
	d, err := create(t, func(p *policy.Policy, c *policy.Container) {
		p.AllowEnvironmentVariableDropping = false
		c.EnvRules = []policy.EnvRule{{Pattern: "MODE=prod|MODE=dev", Strategy: policy.StrategyRegexp}}
	}, func(in *CreateInput) { in.Env = []string{"MODE=prodEVIL"} })
	mustAllow(t, d, err)
}

// TestAmbiguousEnvironment has two candidates that would keep different variables, equally many.
func TestAmbiguousEnvironment(t *testing.T) {
	t.Parallel()
	d, err := create(t, func(p *policy.Policy, c *policy.Container) {
		other := *c
		other.EnvRules = []policy.EnvRule{{Pattern: "B=1", Strategy: policy.StrategyString}}
		c.EnvRules = []policy.EnvRule{{Pattern: "A=1", Strategy: policy.StrategyString}}
		p.Containers = append(p.Containers, other)
	}, func(in *CreateInput) { in.Env = []string{"A=1", "B=1"} })
	wantDenied(t, d, err, "invalid env list")
}

// TestNearestCandidate has two candidates that each meet what the other does not: no requirement is unmet by all.
func TestNearestCandidate(t *testing.T) {
	t.Parallel()
	d, err := create(t, func(p *policy.Policy, c *policy.Container) {
		other := *c
		other.WorkingDir, other.Command = "/", []string{"x"}
		other.SeccompProfileSHA256 = "abc"
		p.Containers = append(p.Containers, other)
	}, func(in *CreateInput) { in.Args = []string{"x"} })
	wantDenied(t, d, err, "no single match; the nearest one has: invalid command")
}
