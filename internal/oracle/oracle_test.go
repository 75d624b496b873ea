// SPDX-License-Identifier: Apache-2.0

//go:build rego

package oracle

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/Microsoft/hcsshim/pkg/securitypolicy"
	oci "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
)

// request, step and sequence are what the main module records.
type request struct {
	Point        string                 `json:"point"`
	Container    string                 `json:"container"`
	Target       string                 `json:"target"`
	Hash         string                 `json:"hash"`
	Layers       []string               `json:"layers"`
	Plain        bool                   `json:"plain"`
	Filesystem   string                 `json:"filesystem"`
	Args         []string               `json:"args"`
	Env          []string               `json:"env"`
	Dir          string                 `json:"dir"`
	User         user                   `json:"user"`
	Umask        string                 `json:"umask"`
	NoNew        bool                   `json:"no_new_privileges"`
	Privileged   bool                   `json:"privileged"`
	Capabilities *oci.LinuxCapabilities `json:"capabilities"`
	Mounts       []oci.Mount            `json:"mounts"`
	Seccomp      string                 `json:"seccomp"`
	Signal       int                    `json:"signal"`
	Init         bool                   `json:"init"`
	Issuer       string                 `json:"issuer"`
	Feed         string                 `json:"feed"`
	Text         string                 `json:"text"`
}

type user struct{ ID, Name string }

type step struct {
	Request      int      `json:"r"`
	Allowed      bool     `json:"a"`
	Reasons      []string `json:"w"`
	Env          []string `json:"e"`
	Stdio        bool     `json:"s"`
	Capabilities []string `json:"c"`
}

type sequence struct {
	Name   string `json:"name"`
	Policy string `json:"policy"`
	Steps  []step `json:"steps"`
}

// said is an answer of the other enforcer.
type said struct {
	env          []string
	stdio        bool
	capabilities *oci.LinuxCapabilities
	err          error
}

func (r *request) ask(ctx context.Context, e securitypolicy.SecurityPolicyEnforcer) said {
	who := securitypolicy.IDName{ID: r.User.ID, Name: r.User.Name}
	groups := []securitypolicy.IDName{who}
	switch r.Point {
	case "mount_device":
		return said{err: e.EnforceDeviceMountPolicy(ctx, r.Target, r.Hash)}
	case "unmount_device":
		return said{err: e.EnforceDeviceUnmountPolicy(ctx, r.Target)}
	case "rw_mount_device":
		return said{err: e.EnforceRWDeviceMountPolicy(ctx, r.Target, !r.Plain, true, r.Filesystem)}
	case "rw_unmount_device":
		return said{err: e.EnforceRWDeviceUnmountPolicy(ctx, r.Target)}
	case "mount_overlay":
		return said{err: e.EnforceOverlayMountPolicy(ctx, r.Container, r.Layers, r.Target)}
	case "unmount_overlay":
		return said{err: e.EnforceOverlayUnmountPolicy(ctx, r.Target)}
	case "create_container":
		env, caps, stdio, err := e.EnforceCreateContainerPolicyV2(ctx, r.Container, r.Args, r.Env, r.Dir, r.Mounts, who, &securitypolicy.CreateContainerOptions{
			SandboxID: "sandbox", Privileged: &r.Privileged, NoNewPrivileges: &r.NoNew, Groups: groups, Umask: r.Umask,
			Capabilities: r.Capabilities, SeccompProfileSHA256: r.Seccomp,
		})
		return said{env, stdio, caps, err}
	case "exec_in_container":
		env, caps, stdio, err := e.EnforceExecInContainerPolicyV2(ctx, r.Container, r.Args, r.Env, r.Dir, who, &securitypolicy.ExecOptions{
			Groups: groups, Umask: r.Umask, Capabilities: r.Capabilities, NoNewPrivileges: &r.NoNew,
		})
		return said{env, stdio, caps, err}
	case "exec_external":
		env, stdio, err := e.EnforceExecExternalProcessPolicy(ctx, r.Args, r.Env, r.Dir)
		return said{env: env, stdio: stdio, err: err}
	case "signal_container_process":
		return said{err: e.EnforceSignalContainerProcessPolicyV2(ctx, r.Container, &securitypolicy.SignalContainerOptions{
			IsInitProcess: r.Init, LinuxSignal: syscall.Signal(r.Signal), LinuxStartupArgs: r.Args,
		})}
	case "shutdown_container":
		return said{err: e.EnforceShutdownContainerPolicy(ctx, r.Container)}
	case "get_properties":
		return said{err: e.EnforceGetPropertiesPolicy(ctx)}
	case "dump_stacks":
		return said{err: e.EnforceDumpStacksPolicy(ctx)}
	case "runtime_logging":
		return said{err: e.EnforceRuntimeLoggingPolicy(ctx)}
	case "plan9_mount":
		return said{err: e.EnforcePlan9MountPolicy(ctx, r.Target)}
	case "scratch_mount":
		return said{err: e.EnforceScratchMountPolicy(ctx, r.Target, !r.Plain)}
	case "scratch_unmount":
		return said{err: e.EnforceScratchUnmountPolicy(ctx, r.Target)}
	case "load_fragment":
		return said{err: e.LoadFragment(ctx, r.Issuer, r.Feed, r.Text)}
	}
	return said{err: fmt.Errorf("point %q is not known here", r.Point)}
}

// reasons reads those of a denial.
func reasons(err error) ([]string, error) {
	_, rest, _ := strings.Cut(err.Error(), "policyDecision< ")
	text, _, found := strings.Cut(rest, " >policyDecision")
	if !found {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	var d struct {
		Decision string
		Reason   struct{ Errors []string }
	}
	err = json.Unmarshal(raw, &d)
	if err == nil && d.Decision != "deny" {
		err = errors.New("it is no denial")
	}
	slices.Sort(d.Reason.Errors)
	return d.Reason.Errors, err
}

// missingRule is in no generated text, as it is in none of confcom's; this version of hcsshim then denies the unmount of
// every writable device, later ones and ours let their framework decide. It is added for hcsshim, so that the states of
// both stay the same.
const missingRule = "\n\nrw_unmount_device := data.framework.rw_unmount_device\n"

// narrower tells the one request that we deny and hcsshim allows, without effect: to shut a container down again.
func narrower(r *request, ours step, theirs said) bool {
	return r.Point == "shutdown_container" && !ours.Allowed && theirs.err == nil && slices.Equal(ours.Reasons, []string{"container not started"})
}

// tally counts what was compared.
type tally struct{ steps, denials, same, again int }

// TestEnforcersAgree asks hcsshim's enforcer the same in the same order. Each answer must be the same, and so must be
// what is kept of environment and capabilities, and the access to standard streams. Where hcsshim gives reasons, one at
// least must be ours: how many it gives changes with its version.
func TestEnforcersAgree(t *testing.T) {
	logrus.SetLevel(logrus.PanicLevel)
	data, err := os.ReadFile("testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Policies  map[string]string
		Requests  []request
		Sequences []sequence
	}
	err = json.Unmarshal(data, &all)
	if err != nil {
		t.Fatal(err)
	}
	var n tally
	for _, s := range all.Sequences {
		text := []byte(all.Policies[s.Policy] + missingRule)
		e, err := securitypolicy.CreateSecurityPolicyEnforcer("rego", base64.StdEncoding.EncodeToString(text), nil, nil, 0)
		if err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		for i, ours := range s.Steps {
			where := fmt.Sprintf("%s, step %d, %s", s.Name, i, all.Requests[ours.Request].Point)
			if !n.compare(t, where, e, &all.Requests[ours.Request], ours) {
				break // the states differ from here on
			}
		}
	}
	t.Logf("%d steps in %d sequences; of %d denials with reasons %d have the very same; %d containers were shut down again",
		n.steps, len(all.Sequences), n.denials, n.same, n.again)
	if n.steps < 1500 || n.denials < 500 {
		t.Errorf("only %d steps and %d denials with reasons were compared", n.steps, n.denials)
	}
}

func (n *tally) compare(t *testing.T, where string, e securitypolicy.SecurityPolicyEnforcer, r *request, ours step) bool {
	t.Helper()
	theirs := r.ask(t.Context(), e)
	n.steps++
	if narrower(r, ours, theirs) {
		n.again++
		return true
	}
	if (theirs.err == nil) != ours.Allowed {
		t.Errorf("%s: we said %v %q, hcsshim %v", where, ours.Allowed, ours.Reasons, theirs.err)
		return false
	}
	if ours.Allowed {
		compareKept(t, where, ours, theirs)
		return true
	}
	given, err := reasons(theirs.err)
	if err != nil || len(given) == 0 {
		return true // refused outside Rego, in words of its own, or without a reason
	}
	n.denials++
	if slices.Equal(given, ours.Reasons) {
		n.same++
	}
	if !slices.ContainsFunc(given, func(reason string) bool { return slices.Contains(ours.Reasons, reason) }) {
		t.Errorf("%s: our reasons are %q, hcsshim's %q", where, ours.Reasons, given)
	}
	return true
}

func compareKept(t *testing.T, where string, ours step, theirs said) {
	t.Helper()
	if theirs.stdio != ours.Stdio {
		t.Errorf("%s: standard streams %v, hcsshim %v", where, ours.Stdio, theirs.stdio)
	}
	if !sameSet(ours.Env, theirs.env) {
		t.Errorf("%s: kept %q, hcsshim %q", where, ours.Env, theirs.env)
	}
	if theirs.capabilities != nil && !sameSet(ours.Capabilities, theirs.capabilities.Bounding) {
		t.Errorf("%s: kept %q, hcsshim %q", where, ours.Capabilities, theirs.capabilities.Bounding)
	}
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}
