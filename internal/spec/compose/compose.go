// SPDX-License-Identifier: Apache-2.0

// Package compose reads the services of a Compose file as the containers of one group.
//
// It trusts nothing that it reads, reads no file and looks up no variable but by what it is given. What a Compose file
// can say and a group cannot do is an error that names key and line. The services of a group share one network and one
// machine, so each finds the others under their names at the address of the machine itself.
package compose

import (
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// Options say what a file leaves open.
type Options struct {
	// File reads a file that the description names (env_file, secrets, configs), by the name that it uses; the error is
	// fs.ErrNotExist when there is none. Nil has no files.
	File func(name string) ([]byte, error)

	// Variable looks up what stands in ${…}.
	Variable func(string) (string, bool)
}

type reader struct {
	options  Options
	warnings *spec.Warnings
	root     *doc.Value
	group    *spec.Group
	names    []string          // under which the services find each other
	targets  map[string]string // port and protocol that a service listens on, to the service
	resolver string            // the service whose resolver the group has
}

// Read reads all services of a file.
func Read(root *doc.Value, o Options, w *spec.Warnings) (spec.Group, error) {
	g := spec.Group{Origin: root.Path}
	if err := checkKeys(root, "name", "version", "services", "volumes", "networks", "secrets", "configs"); err != nil {
		return g, err
	}
	r := reader{options: o, warnings: w, root: root, group: &g, targets: map[string]string{}}
	var err error
	if g.Name, err = r.text(root, "name"); err != nil {
		return g, err
	}
	if g.Egress, err = r.egress(root.Get(extension)); err != nil {
		return g, err
	}
	if err := r.checkVolumes(); err != nil {
		return g, err
	}
	services := root.Get("services")
	if services == nil || services.Kind != doc.Object {
		return g, root.Errorf("there are no services")
	}
	for _, m := range services.Members {
		c, err := r.service(m.Key, m.Value)
		if err != nil {
			return g, err
		}
		g.Containers = append(g.Containers, c)
	}
	if len(services.Members) > 0 {
		g.HostAliases = append([]spec.HostAlias{{Address: "127.0.0.1", Names: r.names}}, g.HostAliases...)
	}
	return g, nil
}

// extension is the key of what only this product understands.
const extension = "x-cofferdam"

// egress reads what the group may connect to.
func (r *reader) egress(v *doc.Value) (*spec.Egress, error) {
	if v == nil {
		return nil, nil
	}
	if err := checkKeys(v, "egress"); err != nil {
		return nil, err
	}
	list := v.Get("egress")
	if list == nil || list.Kind != doc.Array {
		return nil, v.Errorf("egress is a list of rules; an empty one allows nothing")
	}
	rules, err := r.texts(v, "egress")
	if err != nil {
		return nil, err
	}
	e, err := spec.ParseEgress(rules)
	if err != nil {
		return nil, list.Errorf("%w", err)
	}
	return e, nil
}

// ignored are the keys of a service that do not change what its container is, and unheard those that would change how it
// runs and can not be had.
var (
	ignored = []string{
		"annotations", "attach", "cpu_shares", "cpuset", "develop", "labels", "logging", "memswap_limit", "mem_swappiness",
		"oom_kill_disable", "pull_policy",
	}
	unheard    = []string{"cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "oom_score_adj", "pids_limit", "shm_size", "ulimits"}
	understood = []string{
		"image", "command", "entrypoint", "environment", "env_file", "user", "working_dir", "volumes", "tmpfs", "cap_add",
		"cap_drop", "privileged", "security_opt", "healthcheck", "ports", "expose", "network_mode", "networks", "links",
		"platform", "profiles", "depends_on", "restart", "stop_grace_period", "hostname", "container_name", "extra_hosts",
		"dns", "dns_search", "dns_opt", "mem_limit", "mem_reservation", "cpus", "deploy", "scale", "secrets", "configs",
		"read_only", "tty", "stdin_open",
	}
)

func (r *reader) service(name string, v *doc.Value) (spec.Container, error) {
	c := spec.Container{Name: name, AllowStdio: true, AllowPrivilegeEscalation: true}
	if v.Kind != doc.Object {
		return c, v.Errorf("a service is an object, not %s", v.Kind)
	}
	if build := v.Get("build"); build != nil && v.Get("image") != nil {
		return c, build.Errorf("images are not built here: build it first, and leave build out")
	}
	if w := v.Get(extension); w != nil {
		return c, w.Errorf("this stands beside services, not in one: the group has one network")
	}
	if err := checkKeys(v, slices.Concat(understood, ignored, unheard)...); err != nil {
		return c, err
	}
	for _, key := range unheard {
		if w := v.Get(key); !w.IsNull() {
			r.warnings.Add(spec.WarnIgnored, w.Path, "%s has no effect here", key)
		}
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
	for key, to := range map[string]*bool{"read_only": &c.ReadOnlyRoot, "tty": &c.Terminal, "stdin_open": &c.Stdin} {
		var err error
		if *to, err = truth(v, key); err != nil {
			return c, err
		}
	}
	for _, step := range []func(*doc.Value, *spec.Container) error{
		r.refusals, r.command, r.environment, r.security, r.healthcheck, r.mounts, r.files, r.life, r.limits, r.ports, r.network,
	} {
		if err := step(v, &c); err != nil {
			return c, err
		}
	}
	return c, nil
}

// refusals are values that cannot be had.
func (r *reader) refusals(v *doc.Value, _ *spec.Container) error {
	s, err := r.text(v, "network_mode")
	if err != nil {
		return err
	}
	service, ofService := strings.CutPrefix(s, "service:") // whose network the group's is
	if ofService && r.root.Get("services").Get(service) == nil || !ofService && s != "" && s != "bridge" {
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
