// SPDX-License-Identifier: Apache-2.0

// Package compose reads the services of a Compose file as the containers of one group.
//
// It trusts nothing that it reads, reads no file and looks up no variable but by what it is given. What a Compose file
// can say and a group cannot do is an error that names key and line; what has no influence on the containers themselves
// (networks, restarts, limits) is left out.
package compose

import (
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// Options say what a file leaves open.
type Options struct {
	// File reads a file that the description names (env_file), by the name that it uses; the error is fs.ErrNotExist when
	// there is none. Nil has no files.
	File func(name string) ([]byte, error)

	// Variable looks up what stands in ${…}.
	Variable func(string) (string, bool)
}

type reader struct {
	options  Options
	warnings *spec.Warnings
}

// Read reads all services of a file.
func Read(root *doc.Value, o Options, w *spec.Warnings) (spec.Group, error) {
	g := spec.Group{Origin: root.Path}
	if err := checkKeys(root, "name", "version", "services", "volumes", "networks"); err != nil {
		return g, err
	}
	r := reader{options: o, warnings: w}
	var err error
	if g.Name, err = r.text(root, "name"); err != nil {
		return g, err
	}
	volumes := root.Get("volumes")
	if err := r.checkVolumes(volumes); err != nil {
		return g, err
	}
	services := root.Get("services")
	if services == nil || services.Kind != doc.Object {
		return g, root.Errorf("there are no services")
	}
	for _, m := range services.Members {
		c, err := r.service(m.Key, m.Value, volumes)
		if err != nil {
			return g, err
		}
		g.Containers = append(g.Containers, c)
		ports, err := r.ports(m.Value)
		if err != nil {
			return g, err
		}
		g.Ports = append(g.Ports, ports...)
	}
	return g, nil
}

// ignored are the keys of a service that do not change what its container is.
var ignored = []string{
	"annotations", "attach", "container_name", "cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "cpu_shares", "cpus",
	"cpuset", "depends_on", "deploy", "develop", "dns", "dns_opt", "dns_search", "expose", "extra_hosts", "hostname",
	"labels", "links", "logging", "mem_limit", "mem_reservation", "mem_swappiness", "memswap_limit", "networks",
	"oom_kill_disable", "oom_score_adj", "pids_limit", "pull_policy", "read_only", "restart", "scale", "shm_size",
	"stdin_open", "stop_grace_period", "tty", "ulimits",
}

func (r *reader) service(name string, v, volumes *doc.Value) (spec.Container, error) {
	c := spec.Container{Name: name, AllowStdio: true, AllowPrivilegeEscalation: true}
	known := append([]string{
		"image", "command", "entrypoint", "environment", "env_file", "user", "working_dir", "volumes", "tmpfs", "cap_add",
		"cap_drop", "privileged", "security_opt", "healthcheck", "ports", "network_mode", "platform", "profiles",
	}, ignored...)
	if v.Kind != doc.Object {
		return c, v.Errorf("a service is an object, not %s", v.Kind)
	}
	if build := v.Get("build"); build != nil && v.Get("image") != nil {
		return c, build.Errorf("images are not built here: build it first, and leave build out")
	}
	if err := checkKeys(v, known...); err != nil {
		return c, err
	}
	if w := v.Get("read_only"); w != nil && w.True {
		r.warnings.Add(spec.WarnIgnored, v.Path, "read_only has no rule in a policy: the host decides whether the root file system can be written")
	}
	for key, to := range map[string]*string{"image": &c.Image, "working_dir": &c.WorkingDir, "user": &c.User} {
		var err error
		if *to, err = r.text(v, key); err != nil {
			return c, err
		}
	}
	if c.Image == "" {
		return c, v.Errorf("service %q has no image", name)
	}
	steps := []func(*doc.Value, *spec.Container) error{
		r.refusals, r.command, r.environment, r.security, r.healthcheck,
		func(v *doc.Value, c *spec.Container) error { return r.mounts(v, volumes, c) },
	}
	for _, step := range steps {
		if err := step(v, &c); err != nil {
			return c, err
		}
	}
	return c, nil
}

// refusals are values that cannot be had.
func (r *reader) refusals(v *doc.Value, _ *spec.Container) error {
	if s, err := r.text(v, "network_mode"); err != nil || s == "host" || strings.Contains(s, ":") {
		return v.Get("network_mode").Errorf("network mode %q is not supported: the group has one network of its own", s)
	}
	if s, err := r.text(v, "platform"); err != nil || s != "" && s != "linux/amd64" && s != "linux" {
		return v.Get("platform").Errorf("platform %q is not supported, only linux/amd64", s)
	}
	if p := v.Get("profiles"); !p.IsNull() && len(p.Items) > 0 {
		return p.Errorf("profiles are not supported: all services of the file make the group")
	}
	return nil
}

// command reads entrypoint and command. An entrypoint drops the image's arguments; an empty one leaves the command as
// the whole.
func (r *reader) command(v *doc.Value, c *spec.Container) error {
	entrypoint, replaced, err := r.words(v, "entrypoint")
	if err != nil {
		return err
	}
	args, given, err := r.words(v, "command")
	switch {
	case err != nil:
		return err
	case given && len(args) == 0 && !replaced:
		return v.Get("command").Errorf("an empty command could mean two things: leave it out for the image's")
	case replaced && len(entrypoint)+len(args) == 0:
		return v.Get("entrypoint").Errorf("neither entrypoint nor command says what to start")
	case replaced:
		c.Command = slices.Concat(entrypoint, args)
	default:
		c.Args = args
	}
	return nil
}

// words reads a command as a list, or as a line that is split like a shell does.
func (r *reader) words(v *doc.Value, key string) ([]string, bool, error) {
	w := v.Get(key)
	switch {
	case w.IsNull():
		return nil, false, nil
	case w.Kind == doc.Array:
		list, err := r.texts(v, key)
		return list, true, err
	}
	s, err := r.text(v, key)
	if err != nil {
		return nil, true, err
	}
	list, err := spec.SplitWords(s)
	if err != nil {
		return nil, true, w.Errorf("%s: %w", key, err)
	}
	return list, true, nil
}

func (r *reader) security(v *doc.Value, c *spec.Container) error {
	var err error
	if c.Privileged, err = truth(v, "privileged"); err != nil {
		return err
	}
	if c.AddCapabilities, err = r.texts(v, "cap_add"); err != nil {
		return err
	}
	if c.DropCapabilities, err = r.texts(v, "cap_drop"); err != nil {
		return err
	}
	options, err := r.texts(v, "security_opt")
	if err != nil {
		return err
	}
	for _, o := range options {
		switch o {
		case "no-new-privileges", "no-new-privileges:true", "no-new-privileges=true":
			c.AllowPrivilegeEscalation = false
		case "no-new-privileges:false", "no-new-privileges=false":
		default:
			return v.Get("security_opt").Errorf("security option %q is not supported, only no-new-privileges", o)
		}
	}
	return nil
}

// healthcheck allows the command that checks the container.
func (r *reader) healthcheck(v *doc.Value, c *spec.Container) error {
	h := v.Get("healthcheck")
	if h.IsNull() {
		return nil
	}
	err := checkKeys(h, "test", "interval", "timeout", "retries", "start_period", "start_interval", "disable")
	if err != nil {
		return err
	}
	disabled, err := truth(h, "disable")
	test := h.Get("test")
	if err != nil || disabled || test.IsNull() {
		return err
	}
	if test.Kind != doc.Array {
		s, err := r.text(h, "test")
		c.AllowExec = append(c.AllowExec, []string{"/bin/sh", "-c", s})
		return err
	}
	words, err := r.texts(h, "test")
	switch {
	case err != nil:
		return err
	case len(words) == 1 && words[0] == "NONE":
	case len(words) == 2 && words[0] == "CMD-SHELL":
		c.AllowExec = append(c.AllowExec, []string{"/bin/sh", "-c", words[1]})
	case len(words) > 1 && words[0] == "CMD":
		c.AllowExec = append(c.AllowExec, words[1:])
	default:
		return test.Errorf("a test is NONE, CMD with a command, or CMD-SHELL with a line")
	}
	return nil
}

// checkKeys refuses keys that are not known. Extensions (x-…) mean nothing to anybody else.
func checkKeys(v *doc.Value, known ...string) error {
	if v.Kind != doc.Object {
		return v.Errorf("%s stands where an object is expected", v.Kind)
	}
	for _, m := range v.Members {
		if !slices.Contains(known, m.Key) && !strings.HasPrefix(m.Key, "x-") {
			return (&doc.Value{Path: m.Value.Path, Line: m.Line}).Errorf("key %q is not supported", m.Key)
		}
	}
	return nil
}
