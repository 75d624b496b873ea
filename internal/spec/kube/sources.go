// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// values are the data of a ConfigMap or Secret.
type values struct {
	data   map[string]string
	binary map[string]bool // keys that cannot be a variable
	secret bool
}

// mapKey tells ConfigMaps and Secrets apart. Without a namespace an object is in the default one.
func mapKey(kind, namespace, name string) string {
	if namespace == "" {
		namespace = "default"
	}
	return kind + "\x00" + namespace + "\x00" + name
}

// collect remembers a ConfigMap or Secret.
func (r *reader) collect(v *doc.Value) error {
	kind := textOf(v.Get("kind"))
	if kind != "ConfigMap" && kind != "Secret" {
		return nil
	}
	meta := v.Get("metadata")
	key := mapKey(kind, textOf(meta.Get("namespace")), textOf(meta.Get("name")))
	if r.maps[key] != nil {
		return v.Errorf("it is given twice")
	}
	m := &values{data: map[string]string{}, binary: map[string]bool{}, secret: kind == "Secret"}
	plain, encoded := "data", "binaryData"
	if m.secret {
		plain, encoded = "stringData", "data"
	}
	for _, d := range v.Get(encoded).MembersOf() {
		s, err := str(d.Value)
		if err != nil {
			return err
		}
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
		if err != nil {
			return d.Value.Errorf("the value of %q is no base64", d.Key)
		}
		m.data[d.Key] = string(data)
		m.binary[d.Key] = !m.secret // the kubelet makes no variables of binary data
	}
	for _, d := range v.Get(plain).MembersOf() {
		s, err := str(d.Value)
		if err != nil {
			return err
		}
		m.data[d.Key] = s
		delete(m.binary, d.Key)
	}
	r.maps[key] = m
	return nil
}

// find returns a ConfigMap or Secret that stands beside the pod, or nil.
func (p *pod) find(kind, name string) *values { return p.maps[mapKey(kind, p.namespace, name)] }

// keyRef reads one key of a ConfigMap or Secret.
func (p *pod) keyRef(source doc.Member, name string, env *environment) error {
	ref, kind := source.Value, "ConfigMap"
	if source.Key == "secretKeyRef" {
		kind = "Secret"
	}
	if err := checkKeys(ref, "name", "key", "optional"); err != nil {
		return err
	}
	object, err := text(ref, "name")
	if err != nil {
		return err
	}
	key, err := text(ref, "key")
	if err != nil {
		return err
	}
	m := p.find(kind, object)
	if m == nil {
		return p.wildcard(ref, name, fmt.Errorf("it is in %s %q, which is not given", kind, object), env)
	}
	value, ok := m.data[key]
	if !ok || m.binary[key] {
		optional, err := truth(ref, "optional", false)
		if err == nil && !optional {
			err = ref.Errorf("%s %q has no key %q", kind, object, key)
		}
		return err
	}
	p.put(ref, spec.EnvVar{Name: name, Value: value, Secret: m.secret}, env)
	return nil
}

func (p *pod) put(at *doc.Value, v spec.EnvVar, env *environment) {
	if v.Secret {
		p.warnings.Add(spec.WarnSecret, at.Path, "the secret value of %s will stand in the policy, which is not secret", v.Name)
	}
	env.set(v)
}

// envFrom makes a variable of each key of a ConfigMap or Secret.
func (p *pod) envFrom(f *doc.Value, env *environment) error {
	if err := checkKeys(f, "prefix", "configMapRef", "secretRef"); err != nil {
		return err
	}
	prefix, err := text(f, "prefix")
	if err != nil {
		return err
	}
	kind, ref := "ConfigMap", f.Get("configMapRef")
	if ref.IsNull() {
		kind, ref = "Secret", f.Get("secretRef")
	}
	if ref.IsNull() {
		return f.Errorf("there is neither a configMapRef nor a secretRef")
	}
	name, err := text(ref, "name")
	if err != nil {
		return err
	}
	m := p.find(kind, name)
	if m == nil {
		return ref.Errorf("%s %q is not given, so the names of its variables are not known", kind, name)
	}
	keys := make([]string, 0, len(m.data))
	for key := range m.data {
		if !m.binary[key] {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, cmp.Compare[string])
	for _, key := range keys {
		p.put(ref, spec.EnvVar{Name: prefix + key, Value: m.data[key], Secret: m.secret}, env)
	}
	return nil
}

// errNodeDecides says that a resource is not set in the pod.
var errNodeDecides = errors.New("it is what the node has to give")

// resource computes a limit or request of a container in units of the divisor, rounded up.
func (p *pod) resource(c, ref *doc.Value) (string, error) {
	if err := checkKeys(ref, "resource", "containerName", "divisor"); err != nil {
		return "", err
	}
	if other, err := text(ref, "containerName"); err != nil || other != "" && other != textOf(c.Get("name")) {
		return "", ref.Errorf("resources of other containers (%q) are not supported", other)
	}
	name, err := text(ref, "resource")
	if err != nil {
		return "", err
	}
	group, kind, ok := strings.Cut(name, ".")
	if !ok || group != "limits" && group != "requests" {
		return "", ref.Errorf("resource %q is neither limits.… nor requests.…", name)
	}
	amount := c.Get("resources").Get(group).Get(kind)
	if amount.IsNull() && group == "requests" {
		amount = c.Get("resources").Get("limits").Get(kind) // which requests default to
	}
	if amount.IsNull() {
		return "", errNodeDecides
	}
	q, err := quantity(amount)
	if err != nil {
		return "", err
	}
	divisor := big.NewRat(1, 1)
	if d := ref.Get("divisor"); !d.IsNull() && d.Text != "0" {
		if divisor, err = quantity(d); err != nil {
			return "", err
		}
	}
	if divisor.Sign() <= 0 || q.Sign() < 0 {
		return "", ref.Errorf("quantities must be positive")
	}
	q.Quo(q, divisor)
	n, rest := new(big.Int).QuoRem(q.Num(), q.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		n.Add(n, big.NewInt(1))
	}
	return n.String(), nil
}
