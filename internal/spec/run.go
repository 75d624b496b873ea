// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"errors"
	"fmt"
	"strings"
)

// RunFlags is a group of one container as the flags of `run` describe it.
type RunFlags struct {
	Name  string
	Image string

	// Command replaces the image's arguments. Entrypoint, if not nil, replaces its entrypoint (and drops its
	// arguments); an empty one means that Command is the whole command.
	Command    []string
	Entrypoint *string

	// Env has NAME=VALUE, or NAME to take the value from LookupEnv.
	Env       []string
	LookupEnv func(string) (string, bool)

	User       string
	WorkingDir string
	AllowExec  []string // each a command, words as in a shell
	Ports      []string // [IP:]HOST:GUEST[/udp]
	Memory     string   // with a unit: 512m, 2g
	CPUs       int
	Debug      bool
	NoStdio    bool
	Terminal   bool
}

// FromRunFlags reads and checks the flags.
func FromRunFlags(f RunFlags) (*Group, error) {
	c := Container{
		Name: f.Name, Image: f.Image, User: f.User, WorkingDir: f.WorkingDir, AllowStdio: !f.NoStdio,
		AllowPrivilegeEscalation: true,
	}
	switch {
	case f.Entrypoint == nil:
		c.Args = f.Command
	case *f.Entrypoint == "":
		c.Command = f.Command
	default:
		c.Command = append([]string{*f.Entrypoint}, f.Command...)
	}
	var err error
	if c.Env, err = environment(f); err != nil {
		return nil, err
	}
	for _, text := range f.AllowExec {
		words, err := SplitWords(text)
		if err != nil {
			return nil, fmt.Errorf("allowed command %q: %w", text, err)
		}
		if len(words) == 0 {
			return nil, fmt.Errorf("allowed command %q is empty", text)
		}
		c.AllowExec = append(c.AllowExec, words)
	}
	g := &Group{Name: f.Name, CPUs: f.CPUs, Debug: f.Debug, Containers: []Container{c}}
	for _, text := range f.Ports {
		p, err := ParsePort(text)
		if err != nil {
			return nil, err
		}
		g.Ports = append(g.Ports, p)
	}
	if f.Memory != "" {
		if g.MemoryMiB, err = ParseMemory(f.Memory); err != nil {
			return nil, err
		}
	}
	err = g.Validate()
	if err != nil { // there is one container, and nobody counted
		return nil, errors.New(strings.TrimPrefix(err.Error(), fmt.Sprintf("container 1 (%q): ", f.Name)))
	}
	return g, nil
}

func environment(f RunFlags) ([]EnvVar, error) {
	var env []EnvVar
	for _, text := range f.Env {
		name, value, given := strings.Cut(text, "=")
		if !given {
			ok := false
			if f.LookupEnv != nil {
				value, ok = f.LookupEnv(name)
			}
			if !ok {
				return nil, fmt.Errorf("environment variable %q has no value, and is not set here", name)
			}
		}
		env = set(env, EnvVar{Name: name, Value: value})
	}
	return env, nil
}

// set adds a variable, or replaces the one of the same name.
func set(env []EnvVar, v EnvVar) []EnvVar {
	for i := range env {
		if env[i].Name == v.Name {
			env[i] = v
			return env
		}
	}
	return append(env, v)
}
