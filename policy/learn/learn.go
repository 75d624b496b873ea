// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/replay"
)

// Options say what to learn.
type Options struct {
	// Denied has requests learned that were denied when they were recorded.
	Denied bool
}

// Learn makes the policy of a recording. Notes name requests that it does not admit, and why. It is written for the
// deployed versions, whose framework lets the host send signals 9 and 15 to every container.
func Learn(ctx context.Context, steps []replay.Step, o Options) (p *policy.Policy, notes []string, err error) {
	l := &learner{
		policy: &policy.Policy{APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework}, devices: map[string]string{},
		layers: map[string][]string{}, containers: map[string]*policy.Container{},
	}
	for i, s := range steps {
		s = s.Complete()
		err := errDenied
		if s.Decision != replay.Deny || o.Denied {
			err = l.step(s)
		}
		if err != nil {
			l.notes = append(l.notes, fmt.Sprintf("request %d, %s: %v", i+1, s.Name, err))
			l.left = append(l.left, i)
		}
	}
	l.finish()
	if err := l.confirm(ctx, steps); err != nil {
		return nil, nil, err
	}
	return l.policy, l.notes, nil
}

var errDenied = errors.New("it was denied when it was recorded")

type learner struct {
	policy     *policy.Policy
	devices    map[string]string   // target → hash
	layers     map[string][]string // container ID → hashes, base first
	containers map[string]*policy.Container
	order      []string // container IDs in the order of their creation
	notes      []string
	left       []int // requests that are not learned
}

// ignored are requests that need no entry: what was allowed before makes them so.
var ignored = []engine.Point{
	engine.PointUnmountDevice, engine.PointRWUnmountDevice, engine.PointUnmountOverlay, engine.PointScratchUnmount,
	engine.PointShutdownContainer, engine.PointPlan9Unmount,
}

func (l *learner) step(s replay.Step) error {
	if slices.Contains(ignored, s.Name) {
		return nil
	}
	switch s.Name {
	case engine.PointMountDevice:
		target, hash := text(s, "target"), text(s, "deviceHash")
		if target == "" || hash == "" {
			return errors.New("it has no target, or no hash")
		}
		l.devices[target] = hash
	case engine.PointMountOverlay:
		return l.overlay(s)
	case engine.PointCreateContainer:
		return l.create(s)
	case engine.PointExecInContainer:
		return l.exec(s)
	case engine.PointSignalContainerProcess:
		return l.signal(s)
	case engine.PointRWMountDevice, engine.PointScratchMount:
		l.policy.AllowUnencryptedScratch = l.policy.AllowUnencryptedScratch || s.Input["encrypted"] != true
	case engine.PointGetProperties:
		l.policy.AllowPropertiesAccess = true
	case engine.PointDumpStacks:
		l.policy.AllowDumpStacks = true
	case engine.PointRuntimeLogging:
		l.policy.AllowRuntimeLogging = true
	default:
		return errors.New("it is nothing that can be learned")
	}
	return nil
}

func (l *learner) overlay(s replay.Step) error {
	id := text(s, "containerID")
	var layers []string
	for _, path := range slices.Backward(replay.Strings(s.Input["layerPaths"])) {
		hash := l.devices[path]
		if hash == "" {
			return fmt.Errorf("nothing is recorded to be mounted at %q", path)
		}
		layers = append(layers, hash)
	}
	if id == "" || l.layers[id] != nil || len(layers) == 0 {
		return errors.New("it has no layers, or its container ID has some already")
	}
	l.layers[id] = layers
	return nil
}

// process is what create and exec requests say about a process.
type process struct {
	ContainerID  string
	ArgList      []string
	EnvList      []string
	WorkingDir   string
	User         struct{ ID, Name string }
	Groups       []struct{ ID, Name string }
	Umask        string
	NoNewPriv    bool `json:"noNewPrivileges"`
	Capabilities policy.Capabilities

	Privileged bool
	Seccomp    string `json:"seccompProfileSHA256"`
	Mounts     []policy.Mount
	Devices    []any
	SandboxDir string `json:"sandboxDir"`
	HugeDir    string `json:"hugePagesDir"`

	Signal int
	Init   bool `json:"isInitProcess"`
}

func read(s replay.Step) (process, error) {
	var p process
	data, err := json.Marshal(s.Input)
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return p, fmt.Errorf("its input has an unknown form: %s is a %s", kind.Field, kind.Value)
	}
	if err != nil {
		return p, fmt.Errorf("its input has an unknown form: %w", err)
	}
	return p, nil
}

func (l *learner) create(s replay.Step) error {
	in, err := read(s)
	layers := l.layers[in.ContainerID]
	switch {
	case err != nil:
		return err
	case layers == nil:
		return errors.New("no layers are recorded for the container")
	case l.containers[in.ContainerID] != nil:
		return errors.New("the container was created before, and no policy allows that")
	case len(in.Devices) > 0:
		return errors.New("it has devices, and no policy allows those")
	}
	c := &policy.Container{
		Layers: layers, Command: append([]string{}, in.ArgList...), WorkingDir: in.WorkingDir, AllowElevated: in.Privileged,
		NoNewPrivileges: in.NoNewPriv, SeccompProfileSHA256: in.Seccomp, Capabilities: in.Capabilities,
		AllowStdioAccess: true,
		User:             policy.User{Umask: in.Umask, UserIDName: policy.IDName{Pattern: in.User.ID, Strategy: policy.StrategyID}},
	}
	for _, g := range in.Groups {
		c.User.GroupIDNames = add(c.User.GroupIDNames, policy.IDName{Pattern: g.ID, Strategy: policy.StrategyID})
	}
	for _, e := range in.EnvList {
		c.EnvRules = add(c.EnvRules, policy.EnvRule{Pattern: e, Strategy: policy.StrategyString, Required: true})
	}
	for _, m := range in.Mounts {
		c.Mounts = append(c.Mounts, policy.Mount{
			Destination: m.Destination, Options: m.Options, Type: m.Type, Source: in.source(m.Source),
		})
	}
	l.containers[in.ContainerID] = c
	l.order = append(l.order, in.ContainerID)
	return nil
}

func add[T comparable](list []T, x T) []T {
	if slices.Contains(list, x) {
		return list
	}
	return append(list, x)
}

// source makes a rule's source of a path, literally: patterns match below the sandbox's directories.
func (p process) source(path string) string {
	for prefix, dir := range map[string]string{"sandbox://": p.SandboxDir, "hugepages://": p.HugeDir} {
		if rest, ok := strings.CutPrefix(path, dir); ok && dir != "" {
			return prefix + regexp.QuoteMeta(rest)
		}
	}
	return path
}

// within reads a step about a process of a container, and finds the container.
func (l *learner) within(s replay.Step) (process, *policy.Container, error) {
	in, err := read(s)
	if err != nil {
		return in, nil, err
	}
	c := l.containers[in.ContainerID]
	if c == nil {
		return in, nil, errors.New("the container is not recorded to be created")
	}
	return in, c, nil
}

func (l *learner) exec(s replay.Step) error {
	in, c, err := l.within(s)
	if err != nil {
		return err
	}
	for _, e := range in.EnvList {
		if !slices.ContainsFunc(c.EnvRules, func(r policy.EnvRule) bool { return r.Pattern == e }) {
			name, _, _ := strings.Cut(e, "=")
			return fmt.Errorf("its variable %s is not the container's: listing it would give it to the container, too", name)
		}
	}
	for i := range c.EnvRules {
		c.EnvRules[i].Required = c.EnvRules[i].Required && slices.Contains(in.EnvList, c.EnvRules[i].Pattern)
	}
	if !slices.ContainsFunc(c.ExecProcesses, func(e policy.ExecProcess) bool { return slices.Equal(e.Command, in.ArgList) }) {
		c.ExecProcesses = append(c.ExecProcesses, policy.ExecProcess{Command: append([]string{}, in.ArgList...)})
	}
	return nil
}

func (l *learner) signal(s replay.Step) error {
	in, c, err := l.within(s)
	if err != nil {
		return err
	}
	if in.Init {
		c.Signals = add(c.Signals, in.Signal)
		return nil
	}
	for i := range c.ExecProcesses {
		if e := &c.ExecProcesses[i]; slices.Equal(e.Command, in.ArgList) {
			e.Signals = add(e.Signals, in.Signal)
			return nil
		}
	}
	return errors.New("the process is not recorded to be started")
}

// finish lists the containers, equal ones once.
func (l *learner) finish() {
	seen := map[string]bool{}
	for _, id := range l.order {
		c := *l.containers[id]
		key, err := json.Marshal(c)
		if err == nil && seen[string(key)] {
			continue
		}
		seen[string(key)] = true
		l.policy.Containers = append(l.policy.Containers, c)
	}
	for _, id := range slices.Sorted(maps.Keys(l.layers)) {
		if l.containers[id] == nil {
			// Without a command it can be mounted, as it was, and never created.
			l.policy.Containers = append(l.policy.Containers, policy.Container{Layers: l.layers[id]})
		}
	}
}

// confirm puts the recording to the policy. What was learned must be admitted whole.
func (l *learner) confirm(ctx context.Context, steps []replay.Step) error {
	e, err := engine.New(l.policy.Text(), engine.Options{})
	if err != nil {
		return fmt.Errorf("loading the learned policy: %w", err)
	}
	for i, s := range steps {
		if slices.Contains(l.left, i) {
			continue
		}
		r := replay.Ask(ctx, e, s)
		switch {
		case r.Err != nil:
			return fmt.Errorf("asking the learned policy about request %d: %w", i+1, r.Err)
		case !r.Allowed():
			l.notes = append(l.notes, fmt.Sprintf("request %d, %s, is not admitted: %s", i+1, s.Name, strings.Join(r.Decision.Reasons, "; ")))
		}
	}
	return nil
}

func text(s replay.Step, key string) string {
	v, _ := s.Input[key].(string)
	return v
}
