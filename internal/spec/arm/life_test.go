// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/spec"

	"github.com/google/go-cmp/cmp"
)

func TestContainerLife(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want func(*spec.Container)
	}{
		"request in full": {`"livenessProbe": {"httpGet": {"port": "8080", "path": "live?x=1", "scheme": "HTTPS", "httpHeaders": [{"name": "A", "value": "b"}]},
			"initialDelaySeconds": 1, "periodSeconds": 2, "timeoutSeconds": 3, "successThreshold": 1, "failureThreshold": 4}`, func(c *spec.Container) {
			c.Liveness = &spec.Probe{
				Action:       spec.Action{HTTP: &spec.HTTPRequest{Port: 8080, Path: "/live?x=1", TLS: true, Headers: []spec.Header{{Name: "A", Value: "b"}}}},
				InitialDelay: time.Second, Period: 2 * time.Second, Timeout: 3 * time.Second, SuccessThreshold: 1, FailureThreshold: 4,
			}
		}},
		"request of the older version": {`"readinessProbe": {"httpGet": {"port": 80, "scheme": "http", "httpHeaders": {"name": "A", "value": "b"}}}`, func(c *spec.Container) {
			c.Readiness = &spec.Probe{Action: spec.Action{HTTP: &spec.HTTPRequest{Port: 80, Path: "/", Headers: []spec.Header{{Name: "A", Value: "b"}}}}}
		}},
		"connection": {`"readinessProbe": {"tcpSocket": {"port": 5432}}`, func(c *spec.Container) {
			c.Readiness = &spec.Probe{Action: spec.Action{TCP: &spec.TCPConnection{Port: 5432}}}
		}},
		"commands of both": {`"livenessProbe": {"exec": {"command": ["b", "c"]}}, "readinessProbe": {"exec": {"command": ["a"]}}`, func(c *spec.Container) {
			c.AllowExec = [][]string{{"a"}, {"b", "c"}}
			c.Readiness = &spec.Probe{Action: spec.Action{Exec: []string{"a"}}}
			c.Liveness = &spec.Probe{Action: spec.Action{Exec: []string{"b", "c"}}}
		}},
		"resources": {`"resources": {"requests": {"cpu": 0.5, "memoryInGB": "1.5"}, "limits": {"cpu": "[add(1, 1)]", "memoryInGB": 2}}`, func(c *spec.Container) {
			c.Resources = spec.Resources{RequestCPUMillis: 500, RequestMemoryBytes: 3 << 29, LimitCPUMillis: 2000, LimitMemoryBytes: 2 << 30}
		}},
		"ports": {`"ports": [{"port": 80}, {"port": 53, "protocol": "udp"}, {"port": "[int('81')]", "protocol": "TCP"}]`, func(c *spec.Container) {
			c.Exposed = []spec.Port{{Protocol: spec.TCP, GuestPort: 80}, {Protocol: spec.UDP, GuestPort: 53}, {Protocol: spec.TCP, GuestPort: 81}}
		}},
		"security": {`"securityContext": {"readOnlyRootFilesystem": true, "runAsNonRoot": "true"}`, func(c *spec.Container) { c.ReadOnlyRoot, c.RunAsNonRoot = true, true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, w := one(t, group(", "+c.text, "", ""), Options{})
			want := spec.Container{Name: "c", Image: "i", AllowStdio: true, AllowPrivilegeEscalation: true}
			c.want(&want)
			if diff := cmp.Diff(want, g.Containers[0]); diff != "" || len(w) != 0 || len(g.Unknown) != 0 {
				t.Errorf("%s, warnings %v, unknown %v", diff, w, g.Unknown)
			}
			if err := g.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGroupLife(t *testing.T) {
	t.Parallel()
	mount := func(kind spec.MountKind) func(*spec.Group) {
		return func(g *spec.Group) { g.Volumes = []spec.Volume{{Name: "v", Kind: kind}} }
	}
	for name, c := range map[string]struct {
		text string
		want func(*spec.Group)
	}{
		"restart": {`"restartPolicy": "onfailure"`, func(g *spec.Group) { g.Restart = spec.RestartOnFailure }},
		"address": {`"ipAddress": {"type": "Public", "ip": "192.0.2.1", "dnsNameLabel": "x", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}`, func(g *spec.Group) {
			g.Ports = []spec.Port{{Protocol: spec.TCP, HostPort: 80, GuestPort: 80}, {Protocol: spec.UDP, HostPort: 53, GuestPort: 53}}
		}},
		"resolver": {`"dnsConfig": {"nameServers": ["192.0.2.53"], "searchDomains": "a.example b.example", "options": "ndots:2 rotate"}`, func(g *spec.Group) {
			g.DNS = spec.DNS{Servers: []string{"192.0.2.53"}, Search: []string{"a.example", "b.example"}, Options: []string{"ndots:2", "rotate"}}
		}},
		"credentials": {`"imageRegistryCredentials": [{"server": "r", "username": "u", "password": "p"}]`, func(g *spec.Group) {
			g.Credentials = []spec.RegistryCredential{{Server: "r", Username: "u", Password: spec.Content("p")}}
		}},
		"diagnostics": {`"diagnostics": {"logAnalytics": {"workspaceKey": "[reference('x')]"}}`, func(g *spec.Group) { g.Diagnostics = true }},
		"product":     {`"sku": "confidential"`, func(g *spec.Group) { g.SKU = "Confidential" }},
		"secret": {`"volumes": [{"name": "v", "secret": {"b": "Yg==", "[concat('a', '.txt')]": "YQ=="}}]`, func(g *spec.Group) {
			g.Volumes = []spec.Volume{{Name: "v", Kind: spec.MountSecret, Files: []spec.File{{Path: "b", Content: spec.Content("b")}, {Path: "a.txt", Content: spec.Content("a")}}}}
		}},
		"empty directory": {`"volumes": [{"name": "v", "emptyDir": {}}]`, mount(spec.MountEmptyDir)},
		"repository": {`"volumes": [{"name": "v", "gitRepo": {"repository": "https://example.org/r", "directory": ".", "revision": "abc"}}]`, func(g *spec.Group) {
			g.Volumes = []spec.Volume{{Name: "v", Kind: spec.MountGitRepo, Repository: &spec.Repository{URL: "https://example.org/r", Directory: ".", Revision: "abc"}}}
		}},
		"share": {`"volumes": [{"name": "v", "azureFile": {"shareName": "s", "storageAccountName": "a", "storageAccountKey": "s3cret", "readOnly": true}}]`, func(g *spec.Group) {
			g.Volumes = []spec.Volume{{Name: "v", Kind: spec.MountAzureFile, Share: &spec.Share{Account: "a", Name: "s", ReadOnly: true}}}
		}},
		"share with a key of the deployment": {`"volumes": [{"name": "v", "azureFile": {"shareName": "s", "storageAccountName": "a", "storageAccountKey": "[listKeys('x', '1').k]"}}]`, func(g *spec.Group) {
			g.Volumes = []spec.Volume{{Name: "v", Kind: spec.MountAzureFile, Share: &spec.Share{Account: "a", Name: "s"}}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, w := one(t, group("", ", "+c.text, ""), Options{})
			want := spec.Group{
				Name: "g", Platform: spec.PlatformACI, Origin: "$.resources[0]", Restart: spec.RestartAlways,
				Containers: []spec.Container{{Name: "c", Image: "i", AllowStdio: true, AllowPrivilegeEscalation: true}},
			}
			c.want(&want)
			if diff := cmp.Diff(want, g); diff != "" || len(w) != 0 {
				t.Errorf("%s, warnings %v", diff, w)
			}
			if err := g.Validate(); err != nil {
				t.Error(err)
			}
			if strings.Contains(fmt.Sprintf("%+v", g), "s3cret") {
				t.Error("a key of a storage account is kept")
			}
		})
	}
}

// withResource adds members to the resource itself.
func withResource(members string) string {
	return strings.Replace(group("", "", ""), `"name": "g"`, `"name": "g", `+members, 1)
}

func TestResourceLevel(t *testing.T) {
	t.Parallel()
	g, _ := one(t, withResource(`"tags": {"COFFERDAM-egress": "192.0.2.0/24:443,8443/tcp 2001:db8::/32"}, "identity": {"type": "SystemAssigned, UserAssigned",
		"userAssignedIdentities": {"[concat('/subscriptions/', 'x')]": {}, "[reference('y')]": {}}}`), Options{})
	want := &spec.Egress{Rules: []spec.EgressRule{{Prefix: "192.0.2.0/24", Protocol: spec.TCP, Ports: []uint16{443, 8443}}, {Prefix: "2001:db8::/32"}}}
	if diff := cmp.Diff(want, g.Egress); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"SystemAssigned", "/subscriptions/x"}, g.Identities); diff != "" {
		t.Error(diff)
	}
	if len(g.Unknown) != 1 {
		t.Errorf("unknown %v", g.Unknown)
	}
}

// TestUnknown: what only a deployment knows is listed, left out, and no hindrance for a policy.
func TestUnknown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, path string }{
		"probe":           {group(`, "livenessProbe": {"httpGet": {"port": "[reference('x').p]"}}`, "", ""), "containers[0].properties.livenessProbe.httpGet.port"},
		"port":            {group(`, "ports": [{"port": "[reference('x').p]"}]`, "", ""), "containers[0].properties.ports[0].port"},
		"resources":       {group(`, "resources": {"requests": {"cpu": "[reference('x').p]"}}`, "", ""), "containers[0].properties.resources.requests.cpu"},
		"restart":         {group("", `, "restartPolicy": "[reference('x').p]"`, ""), "restartPolicy"},
		"password":        {group("", `, "imageRegistryCredentials": [{"server": "r", "username": "u", "password": "[listCredentials('x', '1').p]"}]`, ""), "imageRegistryCredentials[0].password"},
		"managed":         {group("", `, "imageRegistryCredentials": [{"server": "r", "identity": "i"}]`, ""), "imageRegistryCredentials[0]"},
		"secret":          {group("", `, "volumes": [{"name": "v", "secret": {"a": "[reference('x').p]"}}]`, ""), "volumes[0].secret.a"},
		"address's label": {group("", `, "ipAddress": {"type": "[reference('x').p]"}`, ""), "ipAddress.type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _ := one(t, c.text, Options{})
			if len(g.Unknown) != 1 || g.Unknown[0].Path != "$.resources[0].properties."+c.path || g.Unknown[0].Code != spec.WarnUnknown {
				t.Errorf("unknown %v, want %s", g.Unknown, c.path)
			}
			if err := g.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLifeRefusals(t *testing.T) {
	t.Parallel()
	volume := func(s string) string { return group("", `, "volumes": [{"name": "v", `+s+`}]`, "") }
	for name, c := range map[string]struct{ text, want string }{
		"two actions":        {group(`, "livenessProbe": {"exec": {"command": ["x"]}, "httpGet": {"port": 1}}`, "", ""), "one of exec, httpGet and tcpSocket, and has 2"},
		"no action":          {group(`, "livenessProbe": {}`, "", ""), "and has 0"},
		"key of a probe":     {group(`, "livenessProbe": {"grpc": {}}`, "", ""), `property "grpc" is not known`},
		"unknown command":    {group(`, "livenessProbe": {"exec": {"command": ["[reference('x').y]"]}}`, "", ""), "cannot be evaluated offline"},
		"port of a probe":    {group(`, "livenessProbe": {"httpGet": {"port": 65536}}`, "", ""), "port is no number from 1 to 65535"},
		"scheme":             {group(`, "livenessProbe": {"httpGet": {"port": 1, "scheme": "ftp"}}`, "", ""), `scheme "ftp"`},
		"negative period":    {group(`, "livenessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": -1}`, "", ""), "periodSeconds is no whole number"},
		"processors":         {group(`, "resources": {"requests": {"cpu": "1e9"}}`, "", ""), "cpu is no decimal number"},
		"GPU":                {group(`, "resources": {"requests": {"gpu": {"count": 1, "sku": "V100"}}}`, "", ""), "no GPUs"},
		"protocol":           {group(`, "ports": [{"port": 1, "protocol": "SCTP"}]`, "", ""), `protocol "SCTP"`},
		"restart policy":     {group("", `, "restartPolicy": "Sometimes"`, ""), "expected one of Always, OnFailure, Never"},
		"kind of address":    {group("", `, "ipAddress": {"type": "Secret"}`, ""), "expected one of Public, Private"},
		"resolver":           {group("", `, "dnsConfig": {"servers": []}`, ""), `property "servers"`},
		"product":            {group("", `, "sku": "Cheap"`, ""), "expected one of Standard"},
		"server":             {group("", `, "imageRegistryCredentials": [{"username": "u"}]`, ""), "names no server"},
		"secret":             {volume(`"secret": {"a": "s3cret*"}`), `secret file "a" is no base64`},
		"repository":         {volume(`"gitRepo": {}`), "has no repository"},
		"share's key":        {volume(`"azureFile": {"share": "x"}`), `property "share"`},
		"content of nothing": {volume(`"emptyDir": {"x": 1}`), `property "x"`},
		"egress":             {withResource(`"tags": {"cofferdam-egress": "example.org"}`), "length of the prefix is missing"},
		"unknown egress":     {withResource(`"tags": {"cofferdam-egress": "[reference('x').y]"}`), "cannot be evaluated offline"},
		"identity":           {withResource(`"identity": {"type": "Borrowed"}`), `type "Borrowed"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := read(c.text, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error shows the secret: %v", err)
			}
		})
	}
	_, w := one(t, group("", `, "timeToLive": "2030-01-01T00:00:00Z"`, ""), Options{})
	if len(w) != 1 || w[0].Code != spec.WarnIgnored {
		t.Errorf("warnings %v", w)
	}
}
