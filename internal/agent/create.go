// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

// sandboxScheme begins a mount source that the guest keeps.
const sandboxScheme = "sandbox://"

// CreateContainer implements guestv1.GuestService.
func (s *Service) CreateContainer(ctx context.Context, r *guestv1.CreateContainerRequest) (*guestv1.CreateContainerResponse, error) {
	point := engine.PointCreateContainer
	seccomp, digest, err := checkCreate(r)
	if err != nil {
		return nil, err
	}
	err = s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	id := r.GetContainerId()
	o := s.overlays[id]
	if o == nil {
		return nil, denial(guestv1.CodeNotFound, string(point), "the container's root filesystem is not mounted")
	}
	if s.containers[id] != nil {
		return nil, denial(guestv1.CodeWrongState, string(point), "the container was created before")
	}
	user, err := s.lookupUser(point, o, r.GetUser())
	if err != nil {
		return nil, err
	}
	spec := &container.Spec{
		ID: id, Rootfs: o.target, Hostname: r.GetHostname(), Privileged: r.GetPrivileged(), Seccomp: seccomp,
		ReadOnlyRoot: r.GetReadOnlyRoot(),
		MemoryBytes:  r.GetMemoryLimitBytes(), CPUMillis: r.GetCpuMillis(),
		Process: container.Process{
			Args: r.GetCommand(), Env: r.GetEnv(), WorkingDir: r.GetWorkingDir(), User: user,
			NoNewPrivileges: r.GetNoNewPrivileges(), Capabilities: capabilities(r.GetCapabilities()), Stdio: stdio(r.GetStdio()),
		},
	}
	in := engine.CreateInput{
		ContainerID: id, Process: question(&spec.Process), SandboxDir: s.cfg.VolumeRoot,
		Privileged: r.GetPrivileged(), SeccompProfileSHA256: digest,
	}
	for _, m := range r.GetMounts() {
		source := strings.TrimPrefix(m.GetSource(), sandboxScheme)
		spec.Mounts = append(spec.Mounts, container.Mount{Destination: m.GetDestination(), Source: source, Options: m.GetOptions()})
		in.Mounts = append(in.Mounts, policy.Mount{
			Destination: m.GetDestination(), Source: s.cfg.Runtime.VolumePath(source), Type: m.GetType(), Options: m.GetOptions(),
		})
	}
	i := &instance{id: id, args: spec.Args, logs: slices.ContainsFunc(spec.Mounts, func(m container.Mount) bool {
		return container.IsTerminationLog(m.Source)
	})}
	resp := &guestv1.CreateContainerResponse{}
	err = s.decide(ctx, point, r.GetEnv(), func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.CreateContainer(ctx, in)
	}, func(ctx context.Context, d engine.Decision) error {
		return s.create(ctx, spec, d, i, resp)
	})
	if err != nil {
		return nil, err
	}
	s.containers[id] = i
	return resp, nil
}

// create makes the container as far as the decision goes.
func (s *Service) create(ctx context.Context, spec *container.Spec, d engine.Decision, i *instance, resp *guestv1.CreateContainerResponse) error {
	narrow(&spec.Process, d)
	s.withhold(&spec.Process)
	s.settled, s.created = true, true
	err := s.limitEgress()
	if err != nil {
		return err
	}
	spec.Evidence, err = s.cfg.Evidence.Open(spec.ID, s.text, s.report)
	if err != nil {
		return err
	}
	i.init, err = s.cfg.Runtime.Create(ctx, spec)
	if err == nil {
		resp.Env, resp.Identity = spec.Env, identity(spec.User)
		resp.Stdio, i.tokens, err = s.grant(i.init)
	}
	if err == nil {
		return nil
	}
	undo := s.remove(ctx, spec.ID)
	if undo != nil {
		return s.breakDown(string(engine.PointCreateContainer), undo)
	}
	return err
}

// remove ends a container, and its evidence socket with it.
func (s *Service) remove(ctx context.Context, id string) error {
	return errors.Join(s.cfg.Runtime.Remove(ctx, id), s.cfg.Evidence.Close(id))
}

// checkCreate checks the form of a request and reads its seccomp profile, with the digest that policies name it by.
func checkCreate(r *guestv1.CreateContainerRequest) (*specs.LinuxSeccomp, string, error) {
	c := newCheck(string(engine.PointCreateContainer))
	c.containerID(r.GetContainerId())
	c.program(r.GetCommand(), r.GetEnv(), r.GetWorkingDir(), r.GetUser(), r.GetCapabilities())
	c.size("seccomp", len(r.GetSeccomp()), 0, maxSeccomp)
	c.mounts(r.GetMounts())
	c.form("hostname", r.GetHostname(), hostnameForm)
	if r.GetMemoryLimitBytes() != 0 {
		c.number("memory_limit_bytes", r.GetMemoryLimitBytes(), minMemory, maxMemory)
	}
	if r.GetCpuMillis() != 0 {
		c.number("cpu_millis", uint64(r.GetCpuMillis()), 10, maxCPUMillis)
	}
	if c.err() != nil {
		return nil, "", c.err()
	}
	profile, digest, err := parseSeccomp(r.GetSeccomp())
	if err != nil {
		c.that(false, "seccomp", "an OCI LinuxSeccomp document", clip(err.Error(), maxQuoted))
		return nil, "", c.err()
	}
	return profile, digest, nil
}

// parseSeccomp reads a profile and returns the SHA-256 of its normal form, which is what policies contain. Without a
// profile both are empty.
func parseSeccomp(b []byte) (*specs.LinuxSeccomp, string, error) {
	if len(b) == 0 {
		return nil, "", nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var p specs.LinuxSeccomp
	err := d.Decode(&p)
	if err != nil {
		return nil, "", err
	}
	_, err = d.Token()
	if !errors.Is(err, io.EOF) {
		return nil, "", errors.New("something follows the document")
	}
	if p.ListenerPath != "" || p.ListenerMetadata != "" {
		return nil, "", errors.New("listeners are not supported")
	}
	normal, err := json.Marshal(p)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(normal)
	return &p, hex.EncodeToString(sum[:]), nil
}

// lookupUser resolves the user in the container's root filesystem, which the policy is asked about next.
func (s *Service) lookupUser(point engine.Point, o *overlay, user string) (container.User, error) {
	u, err := s.cfg.Runtime.LookupUser(o.target, user)
	if err != nil {
		d := denial(guestv1.CodeBadRequest, string(point), clip(err.Error(), maxReason))
		d.Field, d.Expected = "user", "a user of the image, or a number"
		return container.User{}, d
	}
	return u, nil
}

// narrow reduces a process to what the decision keeps of it.
func narrow(p *container.Process, d engine.Decision) {
	p.Env = d.EnvList
	p.Capabilities = policy.Capabilities{}
	if d.Capabilities != nil {
		p.Capabilities = *d.Capabilities
	}
	if !d.AllowStdio {
		p.Stdio = container.Stdio{}
	}
}

// question is a process as the policy is asked about it.
func question(p *container.Process) engine.Process {
	q := engine.Process{
		Args: p.Args, Env: p.Env, WorkingDir: p.WorkingDir, NoNewPrivileges: p.NoNewPrivileges,
		Capabilities: p.Capabilities, Umask: fmt.Sprintf("%04o", container.Umask),
		User:   engine.ID{ID: strconv.FormatUint(uint64(p.User.UID), 10), Name: p.User.Name},
		Groups: []engine.ID{{ID: strconv.FormatUint(uint64(p.User.GID), 10), Name: p.User.Group}},
	}
	for i, g := range p.User.Extra {
		q.Groups = append(q.Groups, engine.ID{ID: strconv.FormatUint(uint64(g), 10), Name: p.User.Groups[i]})
	}
	return q
}

// identity says what a process runs as.
func identity(u container.User) *guestv1.Identity {
	i := &guestv1.Identity{
		User:   &guestv1.Account{Id: u.UID, Name: u.Name},
		Groups: []*guestv1.Account{{Id: u.GID, Name: u.Group}},
	}
	for n, g := range u.Extra {
		i.Groups = append(i.Groups, &guestv1.Account{Id: g, Name: u.Groups[n]})
	}
	return i
}

func capabilities(c *guestv1.Capabilities) policy.Capabilities {
	return policy.Capabilities{
		Bounding: c.GetBounding(), Effective: c.GetEffective(), Inheritable: c.GetInheritable(),
		Permitted: c.GetPermitted(), Ambient: c.GetAmbient(),
	}
}

func stdio(r *guestv1.Stdio) container.Stdio {
	return container.Stdio{
		Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr() && !r.GetTerminal(), Terminal: r.GetTerminal(),
	}
}

// grant lets the host open the streams that the process has.
func (s *Service) grant(h *container.Handle) (*guestv1.StdioTokens, [][]byte, error) {
	tokens := &guestv1.StdioTokens{}
	var all [][]byte
	for _, g := range []struct {
		stream *container.Stream
		token  *[]byte
	}{
		{h.Streams.Stdin, &tokens.Stdin},
		{h.Streams.Stdout, &tokens.Stdout},
		{h.Streams.Stderr, &tokens.Stderr},
	} {
		if g.stream == nil {
			continue
		}
		t, err := s.cfg.Streams.Grant(g.stream.Serve)
		if err != nil {
			s.release(h, all)
			return nil, nil, fmt.Errorf("granting the process's streams: %w", err)
		}
		*g.token = t
		all = append(all, t)
	}
	return tokens, all, nil
}
