// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"cmp"
	"slices"
	"strings"

	"cofferdam.dev/policy"
)

// DefaultInfrastructureSVN is the lowest security version of the service's own fragment that is accepted.
const DefaultInfrastructureSVN = "4"

// What the service adds to every group.
const (
	sandboxDirectory = "sandbox:///tmp/atlas/"
	terminal         = "TERM=xterm"

	infrastructureFeed   = "mcr.microsoft.com/aci/aci-cc-infra-fragment"
	infrastructureIssuer = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.3"

	pauseLayer = "16b514057a06ad665f92c02863aca074fd5976c755d26bff16365299169e8415"
	pausePath  = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// platformVariables are set by the service in every container.
var platformVariables = []string{
	"(?i)(FABRIC)_.+=.+", "HOSTNAME=.+", "T(E)?MP=.+", "FabricPackageFileName=.+", "HostedServiceName=.+",
	"IDENTITY_API_VERSION=.+", "IDENTITY_HEADER=.+", "IDENTITY_SERVER_THUMBPRINT=.+",
	"azurecontainerinstance_restarted_by=.+",
}

// serviceVariables are how Kubernetes tells containers of a virtual node about services.
var serviceVariables = []string{
	"[A-Z0-9_]+_SERVICE_HOST=.+", "[A-Z0-9_]+_SERVICE_PORT=.+", "[A-Z0-9_]+_SERVICE_PORT_[A-Z0-9_]+=.+",
	"[A-Z0-9_]+_PORT=.+", "[A-Z0-9_]+_PORT_[0-9]+_TCP=.+", "[A-Z0-9_]+_PORT_[0-9]+_TCP_PROTO=.+",
	"[A-Z0-9_]+_PORT_[0-9]+_TCP_PORT=.+", "[A-Z0-9_]+_PORT_[0-9]+_TCP_ADDR=.+",
}

// workloadIdentityVariables say where a container of a virtual node finds its federated token.
var workloadIdentityVariables = []string{
	"AZURE_CLIENT_ID=.+", "AZURE_TENANT_ID=.+", "AZURE_FEDERATED_TOKEN_FILE=.+", "AZURE_AUTHORITY_HOST=.+",
}

// sidecars are the images of the service's own containers. Their policy is not a group's: a fragment of the service
// allows them.
var sidecars = []string{
	"mcr.microsoft.com/aci/msi-atlas-adapter", "mcr.microsoft.com/aci/atlas-mount-azure-file-volume",
	"mcr.microsoft.com/aci/atlas-mount-secrets-volume", "mcr.microsoft.com/aci/atlas-netstats",
	"mcr.microsoft.com/aci/atlas-mount-resolv-conf", "mcr.microsoft.com/aci/atlas-mount-gitrepo-volume",
	"k8s.gcr.io/pause", "mcr.microsoft.com/aci/sc-proxy", "mcr.microsoft.com/aci/vk-metrics-sidecar",
}

// Sidecar says whether an image is one of the service's own containers.
func Sidecar(image string) bool {
	base, _, _ := strings.Cut(image, "@")
	base, _, _ = strings.Cut(base, ":")
	return slices.Contains(sidecars, base)
}

// debugCommands may be started in every container of a group for debugging.
var debugCommands = [][]string{{"/bin/sh"}, {"/bin/bash"}}

func infrastructure(svn string) policy.Fragment {
	return policy.Fragment{
		Feed: infrastructureFeed, Issuer: infrastructureIssuer, MinimumSVN: cmp.Or(svn, DefaultInfrastructureSVN),
		Includes: []string{"containers", "fragments"},
	}
}

// pause is the container that holds a group's namespaces on the service.
func pause(o Options) policy.Container {
	caps := slices.Clone(defaultCapabilities)
	path := fixed(pausePath)
	path.Required = true
	c := policy.Container{
		AllowStdioAccess: !o.WithoutStdio, Command: []string{"/pause"}, EnvRules: []policy.EnvRule{path, fixed(terminal)},
		Capabilities: policy.Capabilities{Bounding: caps, Effective: caps, Permitted: caps},
		Layers:       []string{pauseLayer}, Name: "pause-container", User: anyUser(), WorkingDir: "/",
	}
	if !o.OmitSignals {
		c.Signals = []int{9, 15}
	}
	return c
}

func anyUser() policy.User {
	return policy.User{
		UserIDName: policy.IDName{Strategy: policy.StrategyAny}, Umask: "0022",
		GroupIDNames: []policy.IDName{{Strategy: policy.StrategyAny}},
	}
}
