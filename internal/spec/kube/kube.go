// SPDX-License-Identifier: Apache-2.0

// Package kube reads the pods of Kubernetes objects, as a plain pod or as Azure's virtual node runs them.
//
// It follows what the kubelet does: commands and arguments, variables from ConfigMaps and Secrets that stand beside the
// workload, $(NAME) in values, security contexts of pod and container, named ports, files of volumes. It asks no cluster:
// what only a cluster knows is a rule that admits any value, where that is approved, and an error elsewhere. Of pods of
// the virtual node it reads what their policy depends on: the cluster brings the rest. It trusts nothing that it reads; a
// field of a pod that it does not know is an error, since it could change what runs.
package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// Options say what objects leave open.
type Options struct {
	// VirtualNode makes the pods run on Azure's virtual node.
	VirtualNode bool

	// AllowWildcards approves of rules that admit any value of an environment variable, where it is not known.
	AllowWildcards bool
}

// podPaths lead from a workload to its pod.
var podPaths = map[string][]string{
	"Pod": {}, "Deployment": {"spec", "template"}, "StatefulSet": {"spec", "template"}, "DaemonSet": {"spec", "template"},
	"ReplicaSet": {"spec", "template"}, "ReplicationController": {"spec", "template"}, "Job": {"spec", "template"},
	"CronJob": {"spec", "jobTemplate", "spec", "template"},
}

// podless are kinds that start no containers.
var podless = []string{
	"ConfigMap", "Secret", "Service", "ServiceAccount", "Namespace", "Role", "RoleBinding", "ClusterRole",
	"ClusterRoleBinding", "Ingress", "IngressClass", "NetworkPolicy", "PersistentVolume", "PersistentVolumeClaim",
	"StorageClass", "HorizontalPodAutoscaler", "PodDisruptionBudget", "PriorityClass", "ResourceQuota", "LimitRange",
	"Endpoints", "EndpointSlice", "RuntimeClass",
}

const (
	existingPolicy   = "microsoft.containerinstance.virtualnode.ccepolicy"
	egressRules      = "cofferdam.dev/egress"
	workloadIdentity = "azure.workload.identity/use"
)

type reader struct {
	options  Options
	warnings *spec.Warnings
	maps     map[string]*values // ConfigMaps and Secrets by kind, namespace and name
	services []*doc.Value
}

// Read reads the workloads among the objects, in their order.
func Read(ctx context.Context, objects []*doc.Value, o Options, w *spec.Warnings) ([]spec.Group, error) {
	r := reader{options: o, warnings: w, maps: map[string]*values{}}
	objects = flat(objects)
	for _, v := range objects {
		if err := r.collect(v); err != nil {
			return nil, fmt.Errorf("%s: %w", title(v), err)
		}
		if textOf(v.Get("kind")) == "Service" {
			r.services = append(r.services, v)
		}
	}
	var groups []spec.Group
	for _, v := range objects {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		kind := textOf(v.Get("kind"))
		path, ok := podPaths[kind]
		if !ok {
			if !slices.Contains(podless, kind) {
				w.Add(spec.WarnIgnored, title(v), "objects of this kind are not read: containers that it starts are not in the policy")
			}
			continue
		}
		g, err := r.workload(v, path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", title(v), err)
		}
		groups = append(groups, g)
	}
	if len(groups) == 0 {
		return nil, errors.New("no object starts containers")
	}
	return groups, nil
}

// flat puts the items of lists in the place of the lists.
func flat(objects []*doc.Value) []*doc.Value {
	var out []*doc.Value
	for _, v := range objects {
		if textOf(v.Get("kind")) == "List" && v.Get("items") != nil {
			out = append(out, v.Get("items").Items...)
		} else {
			out = append(out, v)
		}
	}
	return out
}

func title(v *doc.Value) string {
	kind, meta := textOf(v.Get("kind")), v.Get("metadata")
	name := textOf(meta.Get("name"))
	if name == "" {
		name = textOf(meta.Get("generateName"))
	}
	return kind + "/" + name
}

func textOf(v *doc.Value) string {
	if v == nil || v.Kind != doc.String {
		return ""
	}
	return v.Text
}

// pod is one pod with what surrounds it.
type pod struct {
	*reader
	group     *spec.Group
	meta      *doc.Value // of the pod
	spec      *doc.Value
	namespace string
	volumes   map[string]volume
}

func (r *reader) workload(v *doc.Value, path []string) (spec.Group, error) {
	g := spec.Group{Origin: title(v), Restart: spec.RestartAlways}
	if r.options.VirtualNode {
		g.Platform = spec.PlatformVirtualNode
	}
	if name := textOf(v.Get("metadata").Get("name")); g.Platform != spec.PlatformOwn || !strings.Contains(name, ".") {
		g.Name = name
	}
	at := v
	for _, key := range path {
		at = at.Get(key)
	}
	p := pod{reader: r, group: &g, meta: at.Get("metadata"), spec: at.Get("spec"), namespace: textOf(v.Get("metadata").Get("namespace"))}
	if p.spec == nil || p.spec.Kind != doc.Object {
		return g, v.Errorf("there is no pod in it (%s)", strings.Join(append(path, "spec"), "."))
	}
	g.WorkloadIdentity = textOf(p.meta.Get("labels").Get(workloadIdentity)) == "true"
	if err := p.annotations(v.Get("metadata")); err != nil {
		return g, err
	}
	if err := p.checkPod(); err != nil {
		return g, err
	}
	if err := p.readVolumes(v.Get("spec").Get("volumeClaimTemplates")); err != nil {
		return g, err
	}
	for _, key := range []string{"containers", "initContainers"} {
		list, err := items(p.spec, key)
		if err != nil {
			return g, err
		}
		for _, c := range list {
			out, err := p.container(c, key == "initContainers")
			if err != nil {
				return g, err
			}
			g.Containers = append(g.Containers, out)
		}
	}
	if len(g.Containers) == 0 {
		return g, p.spec.Errorf("the pod has no containers")
	}
	for _, step := range []func(*doc.Value) error{p.restart, p.instances, p.network, p.published, p.pull, p.unheard} {
		if err := step(v); err != nil {
			return g, err
		}
	}
	return g, nil
}

// annotations reads those of the workload, and those of its pod, which win.
func (p *pod) annotations(workload *doc.Value) error {
	for _, m := range []*doc.Value{workload, p.meta} {
		list := m.Get("annotations")
		if s := textOf(list.Get(existingPolicy)); s != "" {
			p.group.ExistingPolicy = s
		}
		v := list.Get(egressRules)
		if v == nil {
			continue
		}
		rules, err := str(v)
		if err != nil {
			return err
		}
		if p.group.Egress, err = spec.ParseEgressList(rules); err != nil {
			return v.Errorf("%w", err)
		}
	}
	return nil
}

// checkPod refuses fields that are not known, and those that share the node with the pod.
func (p *pod) checkPod() error {
	err := checkKeys(p.spec, "containers", "initContainers", "volumes", "securityContext", "hostNetwork", "hostPID", "hostIPC",
		"os", "shareProcessNamespace", "restartPolicy", "nodeSelector", "nodeName", "tolerations", "affinity",
		"serviceAccountName", "serviceAccount", "automountServiceAccountToken", "terminationGracePeriodSeconds",
		"activeDeadlineSeconds", "dnsPolicy", "dnsConfig", "hostname", "subdomain", "hostAliases", "schedulerName",
		"priority", "priorityClassName", "preemptionPolicy", "imagePullSecrets", "enableServiceLinks",
		"topologySpreadConstraints", "runtimeClassName", "overhead", "readinessGates", "setHostnameAsFQDN",
		"hostUsers", "schedulingGates", "resources")
	if err != nil {
		return err
	}
	for _, key := range []string{"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} {
		if yes, err := truth(p.spec, key, false); err != nil {
			return err
		} else if yes {
			return p.spec.Get(key).Errorf("%s is not supported: a pod's machine is its own", key)
		}
	}
	if name := textOf(p.spec.Get("os").Get("name")); name != "" && name != "linux" {
		return p.spec.Get("os").Errorf("operating system %q is not supported, only linux", name)
	}
	return nil
}

func checkKeys(v *doc.Value, known ...string) error {
	if v.Kind != doc.Object {
		return v.Errorf("%s stands where an object is expected", v.Kind)
	}
	for _, m := range v.Members {
		if !slices.Contains(known, m.Key) {
			return m.Value.Errorf("field %q is not known, and may change what runs", m.Key)
		}
	}
	return nil
}

func items(v *doc.Value, key string) ([]*doc.Value, error) {
	w := v.Get(key)
	switch {
	case w.IsNull():
		return nil, nil
	case w.Kind != doc.Array:
		return nil, w.Errorf("%s is %s, expected a list", key, w.Kind)
	}
	return w.Items, nil
}

// yaml11 are the words that YAML 1.1, which Kubernetes reads, takes for booleans.
var yaml11 = []string{"y", "n", "yes", "no", "on", "off"}

// str reads a string. Kubernetes takes nothing else for one.
func str(v *doc.Value) (string, error) {
	if v.Kind != doc.String {
		return "", v.Errorf("%s stands where a string is expected: put it in quotation marks", v.Kind)
	}
	if v.Plain && slices.Contains(yaml11, strings.ToLower(v.Text)) {
		return "", v.Errorf("%s is a boolean to Kubernetes: put it in quotation marks", v.Text)
	}
	return v.Text, nil
}

// text reads a member that is a string; empty if there is none.
func text(v *doc.Value, key string) (string, error) {
	w := v.Get(key)
	if w.IsNull() {
		return "", nil
	}
	return str(w)
}

func texts(v *doc.Value, key string) ([]string, error) {
	list, err := items(v, key)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, item := range list {
		s, err := str(item)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func truth(v *doc.Value, key string, otherwise bool) (bool, error) {
	w := v.Get(key)
	switch {
	case w.IsNull():
		return otherwise, nil
	case w.Kind == doc.String && w.Plain && slices.Contains(yaml11, strings.ToLower(w.Text)):
		return strings.EqualFold(w.Text, "y") || strings.EqualFold(w.Text, "yes") || strings.EqualFold(w.Text, "on"), nil
	case w.Kind != doc.Bool:
		return false, w.Errorf("%s is %s, expected a boolean", key, w.Kind)
	}
	return w.True, nil
}
