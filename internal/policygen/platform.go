// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"slices"

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

// debugCommands may be started in every container of a group for debugging.
var debugCommands = [][]string{{"/bin/sh"}, {"/bin/bash"}}

func infrastructure(svn string) policy.Fragment {
	return policy.Fragment{
		Feed: infrastructureFeed, Issuer: infrastructureIssuer, MinimumSVN: firstSet(svn, DefaultInfrastructureSVN),
		Includes: []string{"containers", "fragments"},
	}
}

// pause is the container that holds a group's namespaces on the service.
func pause(o Options) policy.Container {
	caps := slices.Clone(defaultCapabilities)
	path := fixed(pausePath)
	path.Required = true
	c := policy.Container{
		AllowStdioAccess: true, Command: []string{"/pause"}, EnvRules: []policy.EnvRule{path, fixed(terminal)},
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
