// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/spec/seccomp"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/denial"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/replay"
)

const (
	// scratchFilesystem and umask are the guest's choice; the host has no say.
	scratchFilesystem = "ext4"
	umask             = "0022"
	// sandboxScheme begins the source of a mount that the guest keeps below replay.SandboxDir.
	sandboxScheme = "sandbox://"
)

// record writes down the question that ask puts, with the answer that it had.
func (w *watcher) record(d *guestv1.Denial, ask func(engine.Requests) (engine.Decision, error)) {
	outcome := replay.Allow
	if d != nil {
		outcome = replay.Deny
	}
	r := engine.NewRequests(func(_ context.Context, point engine.Point, input map[string]any) (engine.Decision, error) {
		err := w.o.Record.Append(replay.Step{Name: point, Input: input, Decision: outcome})
		if err != nil {
			w.o.Failed(err)
		}
		return engine.Decision{}, nil
	})
	_, _ = ask(r) // nobody decides here: the decision was made
}

func createInput(q *guestv1.CreateContainerRequest, who *guestv1.Identity, d *guestv1.Denial) engine.CreateInput {
	in := engine.CreateInput{
		ContainerID: q.GetContainerId(), SandboxDir: replay.SandboxDir, Privileged: q.GetPrivileged(),
		Process: engine.Process{
			Args: q.GetCommand(), Env: q.GetEnv(), WorkingDir: q.GetWorkingDir(), Umask: umask,
			NoNewPrivileges: q.GetNoNewPrivileges(), Capabilities: capabilities(q.GetCapabilities()),
		},
	}
	in.User, in.Groups = accounts(who, d)
	if len(q.GetSeccomp()) > 0 {
		hash, err := seccomp.Hash(q.GetSeccomp())
		if err == nil { // otherwise the guest refused it before it asked any policy
			in.SeccompProfileSHA256 = hash
		}
	}
	for _, m := range q.GetMounts() {
		source := replay.SandboxDir + strings.TrimPrefix(m.GetSource(), sandboxScheme)
		in.Mounts = append(in.Mounts, policy.Mount{
			Destination: m.GetDestination(), Source: source, Type: m.GetType(), Options: m.GetOptions(),
		})
	}
	return in
}

func execInput(q *guestv1.ExecProcessRequest, who *guestv1.Identity, d *guestv1.Denial) engine.ExecInput {
	in := engine.ExecInput{ContainerID: q.GetContainerId(), Process: engine.Process{
		Args: q.GetCommand(), Env: q.GetEnv(), WorkingDir: q.GetWorkingDir(), Umask: umask,
		NoNewPrivileges: q.GetNoNewPrivileges(), Capabilities: capabilities(q.GetCapabilities()),
	}}
	in.User, in.Groups = accounts(who, d)
	return in
}

func capabilities(c *guestv1.Capabilities) policy.Capabilities {
	return policy.Capabilities{
		Bounding: c.GetBounding(), Effective: c.GetEffective(), Inheritable: c.GetInheritable(),
		Permitted: c.GetPermitted(), Ambient: c.GetAmbient(),
	}
}

// accounts are those that the guest found. It tells in its answer, or in its refusal unless that became too long.
func accounts(who *guestv1.Identity, d *guestv1.Denial) (engine.ID, []engine.ID) {
	if d == nil && who == nil {
		return engine.ID{}, nil // an older guest; nobody is better than somebody else
	}
	if d == nil {
		var groups []engine.ID
		for _, g := range who.GetGroups() {
			groups = append(groups, account(g))
		}
		return account(who.GetUser()), groups
	}
	refused, err := denial.Decode(d.GetDecision())
	if err != nil {
		return engine.ID{}, nil
	}
	var in struct {
		User   engine.ID
		Groups []engine.ID
	}
	text, err := json.Marshal(refused.Input)
	if err != nil || json.Unmarshal(text, &in) != nil {
		return engine.ID{}, nil
	}
	return in.User, in.Groups
}

func account(a *guestv1.Account) engine.ID {
	return engine.ID{ID: strconv.FormatUint(uint64(a.GetId()), 10), Name: a.GetName()}
}

func hexadecimal(b []byte) string { return hex.EncodeToString(b) }
