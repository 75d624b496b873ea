// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"strconv"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

func (p *pod) container(c *doc.Value, init bool) (spec.Container, error) {
	out := spec.Container{AllowStdio: true, AllowPrivilegeEscalation: true, Life: spec.Life{Init: init}}
	err := checkKeys(c, "name", "image", "command", "args", "env", "envFrom", "volumeMounts", "securityContext", "livenessProbe",
		"readinessProbe", "startupProbe", "lifecycle", "workingDir", "terminationMessagePath", "ports", "resources",
		"imagePullPolicy", "stdin", "stdinOnce", "tty", "terminationMessagePolicy", "restartPolicy", "resizePolicy")
	if err != nil {
		return out, err
	}
	for key, to := range map[string]*string{"name": &out.Name, "image": &out.Image, "workingDir": &out.WorkingDir} {
		if *to, err = text(c, key); err != nil {
			return out, err
		}
	}
	if out.Image == "" {
		return out, c.Errorf("the image is missing")
	}
	if out.Name == "" {
		return out, c.Errorf("the name is missing")
	}
	env, err := p.environment(c)
	if err != nil {
		return out, err
	}
	out.Env = env.variables()
	if out.Command, err = p.words(c, "command", env); err != nil {
		return out, err
	}
	if out.Args, err = p.words(c, "args", env); err != nil {
		return out, err
	}
	if err := p.mounts(c, env, &out); err != nil {
		return out, err
	}
	for _, step := range []func(*doc.Value, *spec.Container) error{p.life, p.terminationMessage, p.security, p.resources, p.ports} {
		if err := step(c, &out); err != nil {
			return out, err
		}
	}
	for key, to := range map[string]*bool{"tty": &out.Terminal, "stdin": &out.Stdin} {
		if *to, err = truth(c, key, false); err != nil {
			return out, err
		}
	}
	return out, nil
}

// words reads a command or arguments, and puts variables in.
func (p *pod) words(c *doc.Value, key string, env *environment) ([]string, error) {
	list, err := items(c, key)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, item := range list {
		s, err := str(item)
		if err != nil {
			return nil, err
		}
		expanded, err := env.expand(s)
		if err != nil {
			return nil, item.Errorf("%w: a command must be known in advance", err)
		}
		out = append(out, expanded)
	}
	return out, nil
}

// security merges the security contexts: the container's wins over the pod's.
func (p *pod) security(c *doc.Value, out *spec.Container) error {
	ofPod, own := p.spec.Get("securityContext"), c.Get("securityContext")
	if !ofPod.IsNull() {
		err := checkKeys(ofPod, "runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "fsGroup", "fsGroupChangePolicy",
			"supplementalGroups", "supplementalGroupsPolicy", "sysctls", "seLinuxOptions", "seLinuxChangePolicy", "appArmorProfile")
		if err != nil {
			return err
		}
	}
	if !own.IsNull() {
		err := checkKeys(own, "runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "privileged",
			"allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem", "procMount", "seLinuxOptions", "appArmorProfile")
		if err != nil {
			return err
		}
	}
	var err error
	for key, to := range map[string]**int64{"runAsUser": &out.RunAsUser, "runAsGroup": &out.RunAsGroup} {
		if *to, err = id(ofPod, key); err != nil {
			return err
		}
		mine, err := id(own, key)
		if err != nil {
			return err
		}
		if mine != nil {
			*to = mine
		}
	}
	root, err := truth(ofPod, "runAsNonRoot", false)
	if err != nil {
		return err
	}
	if out.RunAsNonRoot, err = truth(own, "runAsNonRoot", root); err != nil {
		return err
	}
	if out.ReadOnlyRoot, err = truth(own, "readOnlyRootFilesystem", false); err != nil {
		return err
	}
	if out.Privileged, err = truth(own, "privileged", false); err != nil {
		return err
	}
	if out.AllowPrivilegeEscalation, err = truth(own, "allowPrivilegeEscalation", true); err != nil {
		return err
	}
	if out.AddCapabilities, err = texts(own.Get("capabilities"), "add"); err != nil {
		return err
	}
	if out.DropCapabilities, err = texts(own.Get("capabilities"), "drop"); err != nil {
		return err
	}
	return p.filter(ofPod, own)
}

// filter checks that the system call filter is one that needs no file of the node. Those that the runtime brings have
// no hash in a policy.
func (p *pod) filter(ofPod, own *doc.Value) error {
	profile := own.Get("seccompProfile")
	if profile.IsNull() {
		profile = ofPod.Get("seccompProfile")
	}
	if profile.IsNull() {
		return nil
	}
	switch kind := textOf(profile.Get("type")); kind {
	case "RuntimeDefault", "Unconfined":
		return nil
	default:
		return profile.Errorf("seccomp profiles of type %q are not supported: the profile is a file of the node", kind)
	}
}

func id(v *doc.Value, key string) (*int64, error) {
	w := v.Get(key)
	if w.IsNull() {
		return nil, nil
	}
	n, err := strconv.ParseUint(w.Text, 10, 32)
	if w.Kind != doc.Number || err != nil {
		return nil, w.Errorf("%s is no 32-bit number", key)
	}
	out := int64(n)
	return &out, nil
}
