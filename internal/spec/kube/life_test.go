// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/spec"

	"github.com/google/go-cmp/cmp"
)

func duration(n int) *time.Duration { d := time.Duration(n) * time.Second; return &d }

// onePod reads the only group of a text, and checks it.
func onePod(t *testing.T, text string, o Options) (spec.Group, spec.Warnings) {
	t.Helper()
	groups, w, err := read(text, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := groups[0].Validate(); err != nil {
		t.Fatal(err)
	}
	return groups[0], w
}

func TestContainerLife(t *testing.T) {
	t.Parallel()
	const named = "ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}], "
	ports := []spec.Port{{Protocol: spec.TCP, GuestPort: 8080}, {Protocol: spec.UDP, GuestPort: 53}}
	for text, want := range map[string]func(*spec.Container){
		named + "livenessProbe: {httpGet: {port: http, path: live, scheme: HTTPS, httpHeaders: [{name: A, value: b}]}, initialDelaySeconds: 1, periodSeconds: 2, timeoutSeconds: 3, successThreshold: 1, failureThreshold: 4, terminationGracePeriodSeconds: 5}": func(c *spec.Container) {
			c.Exposed = ports
			c.Liveness = &spec.Probe{
				Action:       spec.Action{HTTP: &spec.HTTPRequest{Port: 8080, Path: "/live", TLS: true, Headers: []spec.Header{{Name: "A", Value: "b"}}}},
				InitialDelay: time.Second, Period: 2 * time.Second, Timeout: 3 * time.Second, SuccessThreshold: 1, FailureThreshold: 4, Grace: duration(5),
			}
		},
		named + "startupProbe: {tcpSocket: {port: http, host: localhost}}": func(c *spec.Container) {
			c.Exposed = ports
			c.Startup = &spec.Probe{Action: spec.Action{TCP: &spec.TCPConnection{Port: 8080}}}
		},
		"readinessProbe: {tcpSocket: {port: '5432'}, successThreshold: 2}": func(c *spec.Container) {
			c.Readiness = &spec.Probe{Action: spec.Action{TCP: &spec.TCPConnection{Port: 5432}}, SuccessThreshold: 2}
		},
		"lifecycle: {postStart: {httpGet: {port: 80}}, preStop: {sleep: {seconds: 5}}}": func(c *spec.Container) {
			c.PostStart = &spec.Action{HTTP: &spec.HTTPRequest{Port: 80, Path: "/"}}
			c.PreStop = &spec.Action{Sleep: 5 * time.Second}
		},
		"lifecycle: {preStop: {exec: {command: [bye]}}}, livenessProbe: {exec: {command: [alive]}}": func(c *spec.Container) {
			c.AllowExec = [][]string{{"alive"}, {"bye"}}
			c.Liveness = &spec.Probe{Action: spec.Action{Exec: []string{"alive"}}}
			c.PreStop = &spec.Action{Exec: []string{"bye"}}
		},
		"restartPolicy: Never":   func(c *spec.Container) { c.Restart = spec.RestartNever },
		"tty: true, stdin: true": func(c *spec.Container) { c.Terminal, c.Stdin = true, true },
		"terminationMessagePath: /x": func(c *spec.Container) {
			c.TerminationMessagePath, c.Mounts = "/x", []spec.Mount{{Kind: spec.MountTerminationLog, Path: "/x"}}
		},
		"terminationMessagePolicy: FallbackToLogsOnError": func(c *spec.Container) {
			c.TerminationMessagePath, c.TerminationMessageFromLog = terminationLog, true
			c.Mounts = []spec.Mount{{Kind: spec.MountTerminationLog, Path: terminationLog}}
		},
		"terminationMessagePath: /dev/termination-log": func(c *spec.Container) {
			c.TerminationMessagePath, c.Mounts = terminationLog, []spec.Mount{{Kind: spec.MountTerminationLog, Path: terminationLog}}
		},
		"securityContext: {readOnlyRootFilesystem: true, runAsNonRoot: true}": func(c *spec.Container) { c.ReadOnlyRoot, c.RunAsNonRoot = true, true },
		"resources: {requests: {cpu: 100m, memory: 512M}, limits: {cpu: '1', memory: 1.5Gi, ephemeral-storage: 1Gi}}": func(c *spec.Container) {
			c.Resources = spec.Resources{RequestCPUMillis: 100, RequestMemoryBytes: 512e6, LimitCPUMillis: 1000, LimitMemoryBytes: 3 << 29}
		},
		"resources: {limits: {cpu: 2, memory: 1e9}}": func(c *spec.Container) {
			c.Resources = spec.Resources{RequestCPUMillis: 2000, RequestMemoryBytes: 1e9, LimitCPUMillis: 2000, LimitMemoryBytes: 1e9}
		},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			g, w := onePod(t, podText(", "+text, ""), Options{})
			c := spec.Container{Name: "c", Image: "i", AllowStdio: true, AllowPrivilegeEscalation: true}
			want(&c)
			if diff := cmp.Diff(c, g.Containers[0]); diff != "" || len(w) != 0 {
				t.Errorf("%s, warnings %v", diff, w)
			}
		})
	}
}

func TestPodLife(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]func(*spec.Group){
		"restartPolicy: OnFailure":                           func(g *spec.Group) { g.Restart = spec.RestartOnFailure },
		"terminationGracePeriodSeconds: 5":                   func(g *spec.Group) { g.StopTimeout = duration(5) },
		"hostname: h, subdomain: s, setHostnameAsFQDN: true": func(g *spec.Group) { g.Hostname = "h" },
		"hostAliases: [{ip: 192.0.2.1, hostnames: [a, b]}]": func(g *spec.Group) {
			g.HostAliases = []spec.HostAlias{{Address: "192.0.2.1", Names: []string{"a", "b"}}}
		},
		"dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.53], searches: [a.example], options: [{name: ndots, value: '2'}, {name: edns0}]}": func(g *spec.Group) {
			g.DNS = spec.DNS{Servers: []string{"192.0.2.53"}, Search: []string{"a.example"}, Options: []string{"ndots:2", "edns0"}}
		},
		"securityContext: {runAsNonRoot: true}": func(g *spec.Group) { g.Containers[0].RunAsNonRoot = true },
		"initContainers: [{name: one, image: i}, {name: side, image: i, restartPolicy: Always, startupProbe: {tcpSocket: {port: 1}}}]": func(g *spec.Group) {
			for _, name := range []string{"one", "side"} {
				g.Containers = append(g.Containers, spec.Container{Name: name, Image: "i", AllowStdio: true, AllowPrivilegeEscalation: true, Life: spec.Life{Init: true}})
			}
			g.Containers[2].Restart = spec.RestartAlways
			g.Containers[2].Startup = &spec.Probe{Action: spec.Action{TCP: &spec.TCPConnection{Port: 1}}}
		},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			g, w := onePod(t, podText("", ", "+text), Options{})
			wanted := spec.Group{Name: "p", Origin: "Pod/p", Restart: spec.RestartAlways, Containers: []spec.Container{{Name: "c", Image: "i", AllowStdio: true, AllowPrivilegeEscalation: true}}}
			want(&wanted)
			if diff := cmp.Diff(wanted, g); diff != "" || len(w) != 0 {
				t.Errorf("%s, warnings %v", diff, w)
			}
		})
	}
}

const labelled = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: web, tier: front}, annotations: {cofferdam.dev/egress: \"192.0.2.0/24:443/tcp ::/0\"}}\n" +
	"spec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP, hostPort: 5353, hostIP: 127.0.0.1}]}]}\n"

func service(spec string) string {
	return "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {" + spec + "}\n"
}

func TestServices(t *testing.T) {
	t.Parallel()
	host := spec.Port{Protocol: spec.UDP, HostIP: "127.0.0.1", HostPort: 5353, GuestPort: 53}
	for name, c := range map[string]struct {
		service string
		want    []spec.Port
	}{
		"named target":     {"type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: http}]", []spec.Port{{Protocol: spec.TCP, HostPort: 80, GuestPort: 8080}}},
		"number":           {"type: NodePort, selector: {app: web, tier: front}, ports: [{port: 80, targetPort: 81, nodePort: 30000, protocol: UDP}]", []spec.Port{{Protocol: spec.UDP, HostPort: 80, GuestPort: 81}}},
		"same port":        {"type: NodePort, selector: {app: web}, ports: [{port: 80}]", []spec.Port{{Protocol: spec.TCP, HostPort: 80, GuestPort: 80}}},
		"as the host's":    {"type: NodePort, selector: {app: web}, ports: [{port: 5353, targetPort: 53, protocol: UDP}]", nil},
		"within a cluster": {"selector: {app: web}, ports: [{port: 80}]", nil},
		"other pods":       {"type: NodePort, selector: {app: db}, ports: [{port: 80}]", nil},
		"no pods":          {"type: NodePort, ports: [{port: 80}]", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _ := onePod(t, labelled+service(c.service), Options{})
			if diff := cmp.Diff(append([]spec.Port{host}, c.want...), g.Ports); diff != "" {
				t.Error(diff)
			}
			egress := &spec.Egress{Rules: []spec.EgressRule{{Prefix: "192.0.2.0/24", Protocol: spec.TCP, Ports: []uint16{443}}, {Prefix: "::/0"}}}
			if diff := cmp.Diff(egress, g.Egress); diff != "" {
				t.Error(diff)
			}
		})
	}
	elsewhere := strings.Replace(service("type: NodePort, selector: {app: web}, ports: [{port: 80}]"), "{name: s}", "{name: s, namespace: far}", 1)
	if g, _ := onePod(t, labelled+elsewhere, Options{}); len(g.Ports) != 1 {
		t.Errorf("a Service of another namespace: %v", g.Ports)
	}
}

const objects = `apiVersion: v1
kind: ConfigMap
metadata: {name: m}
data: {a: "1", b: "2"}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {k: s3cret}
---
apiVersion: v1
kind: Secret
metadata: {name: pull}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{"auths": {"r.example": {"username": "u", "password": "p"}, "a.example": {"auth": "dTI6cDI6eA=="}}}'}
---
`

func TestVolumes(t *testing.T) {
	t.Parallel()
	file := func(path, content string, mode uint32) spec.File {
		return spec.File{Path: path, Content: spec.Content(content), Mode: mode}
	}
	for text, want := range map[string]spec.Volume{
		"emptyDir: {medium: Memory, sizeLimit: 64Mi}": {Kind: spec.MountEmptyDir, Memory: true, SizeLimitBytes: 64 << 20},
		"emptyDir: {}":         {Kind: spec.MountEmptyDir},
		"configMap: {name: m}": {Kind: spec.MountSecret, Files: []spec.File{file("a", "1", 0), file("b", "2", 0)}},
		"configMap: {name: m, defaultMode: 0440, items: [{key: b, path: x/y, mode: 256}, {key: a, path: z}]}": {Kind: spec.MountSecret, Files: []spec.File{file("x/y", "2", 0o400), file("z", "1", 0o440)}},
		"configMap: {name: none, optional: true}":                                                             {Kind: spec.MountSecret},
		"configMap: {name: m, optional: true, items: [{key: none, path: x}]}":                                 {Kind: spec.MountSecret},
		"secret: {secretName: s, defaultMode: 0o400}":                                                         {Kind: spec.MountSecret, Files: []spec.File{file("k", "s3cret", 0o400)}},
		"downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: app, fieldRef: {fieldPath: \"metadata.labels['app']\"}}, {path: ns, fieldRef: {fieldPath: metadata.namespace}}, {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}]}": {
			Kind: spec.MountSecret, Files: []spec.File{file("labels", "app=\"a\\\"b\"\ntier=\"x\"", 0), file("app", `a"b`, 0), file("ns", "default", 0), file("cpu", "500", 0)},
		},
		"projected: {defaultMode: 0444, sources: [{secret: {name: s}}, {configMap: {name: m, items: [{key: a, path: one}]}}, {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}": {
			Kind: spec.MountSecret, Files: []spec.File{file("k", "s3cret", 0o444), file("one", "1", 0o444), file("name", "p", 0o444)},
		},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {tier: x, app: 'a\"b'}}\nspec: {containers: [{name: c, image: i, resources: {limits: {cpu: 500m}}}], volumes: [{name: v, " + text + "}]}\n"
			g, w := onePod(t, objects+pod, Options{})
			want.Name = "v"
			if diff := cmp.Diff([]spec.Volume{want}, g.Volumes); diff != "" || len(w) != 0 {
				t.Errorf("%s, warnings %v", diff, w)
			}
		})
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	text := podText(", env: [{name: DIR, value: x}], volumeMounts: [{name: v, mountPath: /a, subPath: b/c/}, {name: v, mountPath: /d, subPathExpr: \"$(DIR)/y\"}]", ", volumes: [{name: v, emptyDir: {}}]")
	g, _ := onePod(t, text, Options{})
	want := []spec.Mount{{Kind: spec.MountEmptyDir, Path: "/a", Volume: "v", SubPath: "b/c"}, {Kind: spec.MountEmptyDir, Path: "/d", Volume: "v", SubPath: "x/y"}}
	if diff := cmp.Diff(want, g.Containers[0].Mounts); diff != "" {
		t.Error(diff)
	}
}

func TestPullSecrets(t *testing.T) {
	t.Parallel()
	g, w := onePod(t, objects+podText("", ", imagePullSecrets: [{name: pull}, {name: gone}]"), Options{})
	want := []spec.RegistryCredential{
		{Server: "a.example", Username: "u2", Password: spec.Content("p2:x")}, {Server: "r.example", Username: "u", Password: spec.Content("p")},
	}
	if diff := cmp.Diff(want, g.Credentials); diff != "" || len(w) != 1 || w[0].Code != spec.WarnIgnored {
		t.Errorf("%s, warnings %v", diff, w)
	}
}

func TestLifeRefusals(t *testing.T) {
	t.Parallel()
	volume := func(s string) string { return objects + podText("", ", volumes: [{name: v, "+s+"}]") }
	job := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {template: {spec: {containers: [{name: c, image: i}]}}}\n"
	for name, c := range map[string]struct{ text, want string }{
		"gRPC":                    {podText(", livenessProbe: {grpc: {port: 1}}", ""), "gRPC probes are not supported: use a tcpSocket"},
		"two actions":             {podText(", livenessProbe: {exec: {command: [x]}, tcpSocket: {port: 1}}", ""), "exactly one of exec, httpGet, tcpSocket"},
		"no action":               {podText(", livenessProbe: {}", ""), "and has 0"},
		"sleeping probe":          {podText(", livenessProbe: {sleep: {seconds: 1}}", ""), `field "sleep"`},
		"grace of readiness":      {podText(", readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 1}", ""), "a readiness probe ends nothing"},
		"named port":              {podText(", livenessProbe: {tcpSocket: {port: http}}", ""), `"http" is neither a port`},
		"other host":              {podText(", livenessProbe: {httpGet: {port: 1, host: example.org}}", ""), "only the pod itself"},
		"scheme":                  {podText(", livenessProbe: {httpGet: {port: 1, scheme: http}}", ""), `scheme "http"`},
		"stop signal":             {podText(", lifecycle: {stopSignal: SIGUSR1}", ""), `field "stopSignal"`},
		"empty sleep":             {podText(", lifecycle: {preStop: {sleep: {}}}", ""), "seconds is missing"},
		"message policy":          {podText(", terminationMessagePolicy: Whatever", ""), "expected File or FallbackToLogsOnError"},
		"negative delay":          {podText(", livenessProbe: {tcpSocket: {port: 1}, initialDelaySeconds: -1}", ""), "no whole number"},
		"protocol":                {podText(", ports: [{containerPort: 1, protocol: SCTP}]", ""), `protocol "SCTP"`},
		"GPU":                     {podText(", resources: {limits: {nvidia.com/gpu: 1}}", ""), "there is no nvidia.com/gpu"},
		"quantity":                {podText(", resources: {limits: {cpu: 1e3m}}", ""), `"1e3m" is no quantity`},
		"job":                     {job, `restartPolicy of a Job is "", expected OnFailure or Never`},
		"DNS policy":              {podText("", ", dnsPolicy: Mine"), `dnsPolicy "Mine"`},
		"no servers":              {podText("", ", dnsPolicy: None"), "dnsConfig names no servers"},
		"medium":                  {volume("emptyDir: {medium: HugePages}"), `medium "HugePages"`},
		"missing map":             {volume("configMap: {name: none}"), `ConfigMap "none" is not given`},
		"missing secret":          {volume("secret: {secretName: none}"), `Secret "none" is not given`},
		"missing key":             {volume("configMap: {name: m, items: [{key: none, path: x}]}"), `ConfigMap "m" has no key "none"`},
		"missing of a projection": {volume("projected: {sources: [{secret: {name: none}}]}"), `Secret "none" is not given`},
		"token":                   {volume("projected: {sources: [{serviceAccountToken: {path: x}}]}"), "only a cluster has it"},
		"two sources":             {volume("projected: {sources: [{secret: {name: s}, configMap: {name: m}}]}"), "exactly one kind"},
		"mode":                    {volume("configMap: {name: m, defaultMode: 01777}"), "expected permission bits"},
		"field":                   {volume("downwardAPI: {items: [{path: x, fieldRef: {fieldPath: metadata.uid}}]}"), "is not known before it runs"},
		"other's resource":        {volume("downwardAPI: {items: [{path: x, resourceFieldRef: {containerName: none, resource: limits.cpu}}]}"), `no container "none"`},
		"node's resource":         {volume("downwardAPI: {items: [{path: x, resourceFieldRef: {containerName: c, resource: limits.cpu}}]}"), "what the node has to give"},
		"part of an unknown":      {podText(", env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}], volumeMounts: [{name: v, mountPath: /x, subPathExpr: $(IP)}]", ", volumes: [{name: v}]"), "not known in advance"},
		"two parts":               {podText(", volumeMounts: [{name: v, mountPath: /x, subPath: a, subPathExpr: b}]", ", volumes: [{name: v}]"), "both subPath and subPathExpr"},
		"no logins":               {objects + podText("", ", imagePullSecrets: [{name: s}]"), "has no key .dockerconfigjson"},
		"broken logins":           {strings.Replace(objects, `{"auths"`, `s3cret`, 1) + podText("", ", imagePullSecrets: [{name: pull}]"), "holds no logins"},
		"target":                  {labelled + service("type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: none}]"), `no container has a port named "none"`},
		"no port":                 {labelled + service("type: NodePort, selector: {app: web}, ports: [{}]"), "a port of a Service is missing"},
		"egress":                  {strings.Replace(labelled, "192.0.2.0/24:443/tcp ::/0", "", 1), "egress is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := read(c.text, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestVirtualNodeLife: what the node brings is neither asked for nor refused.
func TestVirtualNodeLife(t *testing.T) {
	t.Parallel()
	g, w := onePod(t, podText(", livenessProbe: {grpc: {port: 1}}, terminationMessagePolicy: FallbackToLogsOnError, resources: {limits: {nvidia.com/gpu: 1}}, volumeMounts: [{name: v, mountPath: /x}]",
		", volumes: [{name: v, configMap: {name: far}}], imagePullSecrets: [{name: far}], securityContext: {fsGroup: 1}"), Options{VirtualNode: true})
	want := spec.Container{
		Name: "c", Image: "i", AllowStdio: true, AllowPrivilegeEscalation: true,
		Mounts: []spec.Mount{{Kind: spec.MountEmptyDir, Path: "/x", ReadOnly: true}},
	}
	if diff := cmp.Diff(want, g.Containers[0]); diff != "" || len(g.Volumes) != 0 {
		t.Errorf("%s, volumes %v", diff, g.Volumes)
	}
	if len(w) != 0 {
		t.Errorf("warnings %v", w)
	}
	_, _, err := read(podText(", terminationMessagePath: /x", ""), Options{VirtualNode: true})
	if err == nil || !strings.Contains(err.Error(), "the virtual node has /dev/termination-log only") {
		t.Errorf("error %v", err)
	}
}
