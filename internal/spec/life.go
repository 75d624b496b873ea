// SPDX-License-Identifier: Apache-2.0

package spec

import "time"

// RestartPolicy says what happens when a container has ended. The zero value leaves it to the group, and for a group it
// means RestartAlways.
type RestartPolicy string

// The restart policies.
const (
	RestartAlways    RestartPolicy = "Always"
	RestartOnFailure RestartPolicy = "OnFailure"
	RestartNever     RestartPolicy = "Never"
)

// Life is how a container is started, watched and ended. No policy depends on it, except that what probes and hooks
// start stands in AllowExec as well.
type Life struct {
	// Init makes it an init container: it runs before all others, one after the other in the group's order, and must end
	// with exit code 0. With Restart set to RestartAlways it is a sidecar that the next one follows as soon as it has
	// started, and that runs as long as the group.
	Init bool `json:"init,omitempty"`
	// Restart is empty for what the group says.
	Restart RestartPolicy `json:"restart,omitempty"`
	// MaxRestarts bounds how often RestartOnFailure starts it again; 0 does not.
	MaxRestarts int `json:"max_restarts,omitempty"`
	// After are containers of the group that must have come so far before this one starts.
	After []Dependency `json:"after,omitempty"`

	Startup   *Probe `json:"startup,omitempty"`
	Readiness *Probe `json:"readiness,omitempty"`
	Liveness  *Probe `json:"liveness,omitempty"`

	PostStart *Action `json:"post_start,omitempty"`
	PreStop   *Action `json:"pre_stop,omitempty"`

	// StopTimeout is how long the container may take to stop, PreStop included; nil is the group's.
	StopTimeout *time.Duration `json:"stop_timeout,omitempty"`

	// TerminationMessagePath is a file of the container whose end is shown when it has ended; empty for none. The guest
	// gives it out only because the container's policy mounts a termination log there.
	TerminationMessagePath string `json:"termination_message_path,omitempty"`
	// TerminationMessageFromLog takes the end of the output of a container that failed and left no message.
	TerminationMessageFromLog bool `json:"termination_message_from_log,omitempty"`
}

// Condition is how far a container must have come.
type Condition string

// The conditions.
const (
	ConditionStarted   Condition = "started"
	ConditionHealthy   Condition = "healthy"   // its readiness probe has succeeded
	ConditionCompleted Condition = "completed" // it has ended with exit code 0
)

// Dependency names a container and how far it must have come.
type Dependency struct {
	Container string    `json:"container"`
	Condition Condition `json:"condition"`
	// Optional lets the container start when the other one can not come so far any more.
	Optional bool `json:"optional,omitempty"`
}

// Action is something done to a container: exactly one field is set.
type Action struct {
	Exec  []string       `json:"exec,omitempty"`
	HTTP  *HTTPRequest   `json:"http,omitempty"`
	TCP   *TCPConnection `json:"tcp,omitempty"`
	Sleep time.Duration  `json:"sleep,omitempty"`
}

// HTTPRequest is a GET request to the group's own address, made inside the guest. A status of 200 to 399 is success.
type HTTPRequest struct {
	Port    uint16   `json:"port"`
	Path    string   `json:"path"`
	TLS     bool     `json:"tls,omitempty"` // without verifying the certificate, as the kubelet does
	Headers []Header `json:"headers,omitempty"`
}

// Header is a header field of a request.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// TCPConnection is a connection to the group's own address that is closed as soon as it is open.
type TCPConnection struct {
	Port uint16 `json:"port"`
}

// Probe is an action that is repeated and counted. Zero numbers have their usual values: a period of 10 s, a timeout of
// 1 s, one success, three failures.
type Probe struct {
	Action
	InitialDelay     time.Duration `json:"initial_delay,omitempty"`
	Period           time.Duration `json:"period,omitempty"`
	Timeout          time.Duration `json:"timeout,omitempty"`
	SuccessThreshold int           `json:"success_threshold,omitempty"`
	FailureThreshold int           `json:"failure_threshold,omitempty"`
	// Grace, if set, replaces the container's time to stop when this probe ends it.
	Grace *time.Duration `json:"grace,omitempty"`
	// StartPeriod is the time after the start in which failures do not count, until the first success (Compose).
	StartPeriod time.Duration `json:"start_period,omitempty"`
	// StartInterval, if set, is the period as long as StartPeriod has not passed and nothing has succeeded (Compose).
	StartInterval time.Duration `json:"start_interval,omitempty"`
}

// Resources are what a container asks for and may have at most. Zero is not given.
type Resources struct {
	RequestCPUMillis   int    `json:"request_cpu_millis,omitempty"`
	RequestMemoryBytes uint64 `json:"request_memory_bytes,omitempty"`
	LimitCPUMillis     int    `json:"limit_cpu_millis,omitempty"`
	LimitMemoryBytes   uint64 `json:"limit_memory_bytes,omitempty"`
}

// DNS is how the group's containers resolve names. Empty is what the network brings.
type DNS struct {
	Servers []string `json:"servers,omitempty"`
	Search  []string `json:"search,omitempty"`
	Options []string `json:"options,omitempty"`
}

// HostAlias adds names of an address to the containers' hosts files.
type HostAlias struct {
	Address string   `json:"address"`
	Names   []string `json:"names"`
}

// Egress is what the group's containers may connect to. It is a part of the policy, and the guest enforces it.
type Egress struct {
	// Rules are what is allowed. None allow nothing.
	Rules []EgressRule `json:"rules"`
}

// EgressRule allows connections to the addresses of a prefix. The group's own addresses are always allowed.
type EgressRule struct {
	Prefix   string   `json:"prefix"` // CIDR, IPv4 or IPv6
	Protocol Protocol `json:"protocol,omitempty"`
	Ports    []uint16 `json:"ports,omitempty"` // none: all
}
