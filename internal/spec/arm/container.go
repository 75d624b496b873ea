// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"errors"
	"regexp"
	"slices"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/armexpr"
	"cofferdam.dev/internal/spec/doc"
	"cofferdam.dev/internal/spec/seccomp"
)

func (r *reader) container(f *frame, c *doc.Value, volumes []spec.Volume) (spec.Container, error) {
	out := spec.Container{AllowStdio: true, AllowPrivilegeEscalation: true}
	if err := checkKeys(c, "name", "properties"); err != nil {
		return out, err
	}
	var err error
	if out.Name, err = f.text(c, "name"); err != nil {
		return out, err
	}
	properties, err := f.object(c, "properties")
	if err != nil {
		return out, err
	}
	if properties == nil || out.Name == "" {
		return out, c.Errorf("a container needs a name and properties")
	}
	err = checkKeys(properties, "image", "command", "environmentvariables", "livenessprobe", "readinessprobe",
		"volumemounts", "securitycontext", "configmap", "ports", "resources", "instanceview")
	if err != nil {
		return out, err
	}
	if out.Image, err = f.text(properties, "image"); err != nil {
		return out, err
	}
	if out.Image == "" {
		return out, properties.Errorf("the image is missing")
	}
	if out.Command, err = f.texts(properties, "command"); err != nil {
		return out, err
	}
	if slices.ContainsFunc(out.Command, looksLikeExpression.MatchString) {
		r.warnings.Add(spec.WarnExpression, properties.Fold("command").Path, "the command holds what looks like an expression, and is none: the whole text must stand in brackets")
	}
	if m, err := f.get(properties, "configMap"); err != nil {
		return out, err
	} else if m != nil {
		return out, m.Errorf("config maps are not supported: where they are mounted from is not known")
	}
	for _, step := range []func(*frame, *doc.Value, *spec.Container) error{r.environment, r.probes, r.security, r.needs} {
		if err := step(f, properties, &out); err != nil {
			return out, err
		}
	}
	return out, r.mounts(f, properties, volumes, &out)
}

// environment reads the variables. A value that cannot be known makes a wildcard rule, if that is approved.
func (r *reader) environment(f *frame, properties *doc.Value, c *spec.Container) error {
	list, err := f.list(properties, "environmentVariables")
	if err != nil {
		return err
	}
	for _, v := range list {
		if err := checkKeys(v, "name", "value", "securevalue", "securevaluereference"); err != nil {
			return err
		}
		name, err := f.text(v, "name")
		if err != nil {
			return err
		}
		if name == "" {
			return v.Errorf("an environment variable has no name")
		}
		e, err := r.variable(f, v, name)
		if err != nil {
			return err
		}
		if e.Secret {
			r.warnings.Add(spec.WarnSecret, v.Path, "the secure value of %s will stand in the policy, which is not secret", name)
		}
		c.Env = append(c.Env, e)
	}
	return nil
}

// thim is the placeholder that the service replaces by the address of its certificate cache.
var thim = regexp.MustCompile(`^===VIRTUALNODE2\.CC\.THIM\.(.+)===$`)

func (r *reader) variable(f *frame, v *doc.Value, name string) (spec.EnvVar, error) {
	e := spec.EnvVar{Name: name}
	if ref := v.Fold("secureValueReference"); !ref.IsNull() {
		return r.wildcard(v, name, errors.New("it is in a key vault"))
	}
	given := 0
	for _, key := range []string{"value", "secureValue"} {
		w, err := f.get(v, key)
		if err != nil && armexpr.Unknowable(err) {
			return r.wildcard(v, name, err)
		}
		if err != nil {
			return e, err
		}
		if w == nil {
			continue
		}
		if e.Value, err = f.text(v, key); err != nil {
			return e, err
		}
		e.Secret = key == "secureValue"
		if thim.MatchString(e.Value) {
			r.warnings.Add(spec.WarnWildcard, v.Path, "%s is filled in by the service: any value is admitted", name)
			e = spec.Wildcard(name)
		}
		if looksLikeExpression.MatchString(e.Value) {
			r.warnings.Add(spec.WarnExpression, w.Path, "the value of %s holds what looks like an expression, and is none: the whole value must stand in brackets", name)
		}
		given++
	}
	if given != 1 {
		return e, v.Errorf("environment variable %s needs a value or a secureValue", name)
	}
	return e, nil
}

var looksLikeExpression = regexp.MustCompile(`\[(?:parameters|variables|concat|format)\(`)

func (r *reader) wildcard(v *doc.Value, name string, cause error) (spec.EnvVar, error) {
	var at *doc.Error
	if errors.As(cause, &at) {
		v, cause = &doc.Value{Path: at.Path, Line: at.Line}, at.Err
	}
	if !r.options.AllowWildcards {
		return spec.EnvVar{}, v.Errorf("%w", &spec.WildcardError{Variable: name, Cause: cause})
	}
	r.warnings.Add(spec.WarnWildcard, v.Path, "any value of %s is admitted: %v", name, cause)
	return spec.Wildcard(name), nil
}

func (r *reader) mounts(f *frame, properties *doc.Value, volumes []spec.Volume, c *spec.Container) error {
	list, err := f.list(properties, "volumeMounts")
	if err != nil {
		return err
	}
	for _, m := range list {
		if err := checkKeys(m, "name", "mountpath", "readonly"); err != nil {
			return err
		}
		name, err := f.text(m, "name")
		if err != nil {
			return err
		}
		i := slices.IndexFunc(volumes, func(v spec.Volume) bool { return v.Name == name })
		if i < 0 {
			return m.Errorf("volume %q is not declared", name)
		}
		path, err := f.text(m, "mountPath")
		if err != nil {
			return err
		}
		readOnly, err := f.truth(m, "readOnly")
		if err != nil {
			return err
		}
		c.Mounts = append(c.Mounts, spec.Mount{Kind: volumes[i].Kind, Path: path, ReadOnly: readOnly != nil && *readOnly, Volume: name})
	}
	return nil
}

// security reads the security context.
func (r *reader) security(f *frame, properties *doc.Value, c *spec.Container) error {
	s, err := f.object(properties, "securityContext")
	if err != nil || s == nil {
		return err
	}
	err = checkKeys(s, "privileged", "allowprivilegeescalation", "runasuser", "runasgroup", "capabilities",
		"seccompprofile", "runasnonroot", "readonlyrootfilesystem")
	if err != nil {
		return err
	}
	for key, set := range map[string]func(bool){
		"privileged":               func(b bool) { c.Privileged = b },
		"allowPrivilegeEscalation": func(b bool) { c.AllowPrivilegeEscalation = b },
		"readOnlyRootFilesystem":   func(b bool) { c.ReadOnlyRoot = b },
		"runAsNonRoot":             func(b bool) { c.RunAsNonRoot = b },
	} {
		b, err := f.truth(s, key)
		if err != nil {
			return err
		}
		if b != nil {
			set(*b)
		}
	}
	if c.RunAsUser, err = f.id(s, "runAsUser"); err != nil {
		return err
	}
	if c.RunAsGroup, err = f.id(s, "runAsGroup"); err != nil {
		return err
	}
	capabilities, err := f.object(s, "capabilities")
	if err != nil {
		return err
	}
	if c.AddCapabilities, err = f.texts(capabilities, "add"); err != nil {
		return err
	}
	if c.DropCapabilities, err = f.texts(capabilities, "drop"); err != nil {
		return err
	}
	profile, err := f.text(s, "seccompProfile")
	if err != nil || profile == "" {
		return err
	}
	if c.SeccompProfile, c.SeccompProfileSHA256, err = seccomp.FromBase64(profile); err != nil {
		return s.Fold("seccompProfile").Errorf("%w", err)
	}
	return nil
}

// id gets a number of a user or group.
func (f *frame) id(v *doc.Value, key string) (*int64, error) {
	w, err := f.get(v, key)
	if err != nil || w == nil {
		return nil, err
	}
	const largest = 1<<32 - 1
	n, err := wholeNumber(w)
	if w.Kind != doc.Number || err != nil || n < 0 || n > largest {
		return nil, w.Errorf("%s is no number from 0 to %d", key, largest)
	}
	return &n, nil
}
