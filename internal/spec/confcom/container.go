// SPDX-License-Identifier: Apache-2.0

package confcom

import (
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
	"cofferdam.dev/internal/spec/seccomp"
)

type reader struct {
	legacy   bool
	warnings *spec.Warnings
}

// names reads name, image, command and working directory.
func (r reader) names(c, p *doc.Value, out *spec.Container) error {
	imageKey := "image"
	if r.legacy {
		imageKey = "containerImage"
	}
	var err error
	if out.Image, err = text(p, imageKey); err != nil {
		return err
	}
	if out.Image == "" {
		return p.Errorf("the image is missing")
	}
	if out.Name, err = text(c, "name"); err != nil {
		return err
	}
	if out.Name == "" {
		out.Name = out.Image
	}
	if out.Command, err = texts(p, "command"); err != nil {
		return err
	}
	if out.AllowStdio, err = truth(p, "allowStdioAccess", true); err != nil {
		return err
	}
	out.WorkingDir, err = text(p, "workingDir")
	return err
}

func (r reader) environment(_, p *doc.Value, out *spec.Container) error {
	list, err := items(p, "environmentVariables")
	if err != nil {
		return err
	}
	for _, v := range list {
		if err := checkKeys(v, "name", "value", "securevalue", "regex", "strategy", "required"); err != nil {
			return err
		}
		name, err := text(v, "name")
		if err != nil {
			return err
		}
		if required := v.Fold("required"); required != nil && required.True {
			return required.Errorf("required variables are not supported")
		}
		value, err := text(v, "value")
		if err != nil {
			return err
		}
		secret := false
		if secure := v.Fold("secureValue"); value == "" && !secure.IsNull() {
			secret = true
			if value, err = text(v, "secureValue"); err != nil {
				return err
			}
			r.warnings.Add(spec.WarnSecret, v.Path, "the secure value of %s will stand in the policy, which is not secret", name)
		}
		pattern, err := isPattern(v)
		if err != nil {
			return err
		}
		e := spec.EnvVar{Name: name, Value: value}
		if pattern {
			e = spec.Matching(name, value)
			if e.Name != name || e.Value != value {
				r.warnings.Add(spec.WarnChanged, v.Path, "the alternation in the pattern of %s is put into a group, so that it stays within its variable", name)
			}
		}
		e.Secret = secret
		out.Env = append(out.Env, e)
	}
	return nil
}

// isPattern reads regex, or strategy as the older version has it.
func isPattern(v *doc.Value) (bool, error) {
	strategy, err := text(v, "strategy")
	if err != nil {
		return false, err
	}
	switch strategy {
	case "re2":
		return true, nil
	case "string":
		return false, nil
	case "":
		return truth(v, "regex", false)
	}
	return false, v.Fold("strategy").Errorf("strategy %q is neither string nor re2", strategy)
}

// exec reads the further commands, then those of the probes.
func (r reader) exec(_, p *doc.Value, out *spec.Container) error {
	list, err := items(p, "execProcesses")
	if err != nil {
		return err
	}
	if r.legacy && len(list) > 0 && list[0].Kind == doc.String { // one command
		command, err := texts(p, "execProcesses")
		if err != nil {
			return err
		}
		out.AllowExec = append(out.AllowExec, command)
		list = nil
	}
	for _, e := range list {
		if err := checkKeys(e, "command", "signals", "allow_stdio_access"); err != nil {
			return err
		}
		if signals, err := items(e, "signals"); err != nil || len(signals) > 0 {
			return e.Errorf("signals of a further command are not supported")
		}
		if err := r.allow(e, out); err != nil {
			return err
		}
	}
	probes := []string{"readinessProbe", "livenessProbe"}
	if r.legacy {
		probes = []string{"livenessProbe", "readinessProbe"}
	}
	for _, key := range probes {
		if exec := p.Fold(key).Fold("exec"); !exec.IsNull() {
			if err := r.allow(exec, out); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r reader) allow(e *doc.Value, out *spec.Container) error {
	command, err := texts(e, "command")
	if err != nil {
		return err
	}
	if len(command) == 0 {
		return e.Errorf("the command is missing")
	}
	out.AllowExec = append(out.AllowExec, command)
	return nil
}

// mountKinds are the kinds of mounts. A virtual node hands config maps over like empty directories.
var mountKinds = map[string]spec.MountKind{
	"azurefile": spec.MountAzureFile, "emptydir": spec.MountEmptyDir, "secret": spec.MountSecret,
	"gitrepo": spec.MountGitRepo, "resolvconf": spec.MountResolvConf,
}

func (r reader) mounts(_, p *doc.Value, out *spec.Container) error {
	key := "volumeMounts"
	if r.legacy {
		key = "mounts"
	}
	list, err := items(p, key)
	if err != nil {
		return err
	}
	for _, m := range list {
		if err := checkKeys(m, "name", "mountpath", "mounttype", "readonly", "options"); err != nil {
			return err
		}
		kindName, err := text(m, "mountType")
		if err != nil {
			return err
		}
		kind, ok := mountKinds[strings.ToLower(kindName)]
		if !ok {
			return m.Errorf("mounts of type %q are not supported: where they come from is not known", kindName)
		}
		mount := spec.Mount{Kind: kind}
		if mount.Path, err = text(m, "mountPath"); err != nil {
			return err
		}
		// The older version makes a mount read-only unless told otherwise.
		if mount.ReadOnly, err = truth(m, "readOnly", r.legacy); err != nil {
			return err
		}
		if mount.Options, err = texts(m, "options"); err != nil {
			return err
		}
		out.Mounts = append(out.Mounts, mount)
	}
	return nil
}

func (r reader) security(_, p *doc.Value, out *spec.Container) error {
	var err error
	if out.Privileged, err = truth(p, "allow_elevated", false); err != nil {
		return err
	}
	s := p.Fold("securityContext")
	if s.IsNull() {
		return nil
	}
	err = checkKeys(s, "privileged", "allowprivilegeescalation", "runasuser", "runasgroup", "capabilities",
		"seccompprofile", "runasnonroot", "readonlyrootfilesystem")
	if err != nil {
		return err
	}
	if out.Privileged, err = truth(s, "privileged", out.Privileged); err != nil {
		return err
	}
	if out.AllowPrivilegeEscalation, err = truth(s, "allowPrivilegeEscalation", true); err != nil {
		return err
	}
	if out.ReadOnlyRoot, err = truth(s, "readOnlyRootFilesystem", false); err != nil {
		return err
	}
	if out.RunAsNonRoot, err = truth(s, "runAsNonRoot", false); err != nil {
		return err
	}
	if out.RunAsUser, err = id(s, "runAsUser"); err != nil {
		return err
	}
	if out.RunAsGroup, err = id(s, "runAsGroup"); err != nil {
		return err
	}
	if out.AddCapabilities, err = texts(s.Fold("capabilities"), "add"); err != nil {
		return err
	}
	if out.DropCapabilities, err = texts(s.Fold("capabilities"), "drop"); err != nil {
		return err
	}
	profile, err := text(s, "seccompProfile")
	if err != nil || profile == "" {
		return err
	}
	if out.SeccompProfile, out.SeccompProfileSHA256, err = seccomp.FromBase64(profile); err != nil {
		return s.Fold("seccompProfile").Errorf("%w", err)
	}
	return nil
}

func id(v *doc.Value, key string) (*int64, error) {
	w := v.Fold(key)
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
