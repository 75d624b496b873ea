// SPDX-License-Identifier: Apache-2.0

package group

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"cofferdam.dev/internal/group/lifecycle"
	"cofferdam.dev/internal/spec"
)

// PlanSchema names the form of a plan.
const PlanSchema = "cofferdam.dev/group-plan/v1"

// maxPlanSize bounds a plan file: a policy text and its fragments, and little else.
const maxPlanSize = 16 << 20

// Limits of a plan. They are far above what one machine can run, and keep mistakes from becoming huge command lines.
const (
	maxContainers = 32
	maxLayers     = 128
	maxPolicySize = 1 << 20
	maxFragments  = 16
	maxFragment   = 1<<20 + 256<<10 // what the guest takes
	maxFragmented = 4 << 20         // all fragments together
	maxTrustLists = 16
	maxVolumes    = 256
	minLogLimit   = 64 << 10
	maxTrustList  = 256 << 10 // what the guest takes
)

// DefaultStopTimeout is how long a container may take to follow its stop signal.
const DefaultStopTimeout = 10 * time.Second

// DefaultStopSignal is SIGTERM.
const DefaultStopSignal = 15

// The network modes of a plan.
const (
	NetworkNAT     = "nat"     // containers may connect outwards; forwarded ports lead in
	NetworkIngress = "ingress" // only forwarded ports lead in
	NetworkNone    = "none"    // no network device
)

// Plan is everything that a supervisor needs to start a group. The command line writes it once.
type Plan struct {
	Schema string `json:"schema"`
	// Name may be empty when the plan is handed to Store.Create, which then makes one up.
	Name string `json:"name"`
	// Accelerator is "kvm" or "tcg"; TEE is "simulated", "snp" or "tdx". "auto" was decided before (qemu.Choose).
	Accelerator string `json:"accelerator"`
	TEE         string `json:"tee"`
	// QEMU is the emulator's path; empty searches the command path.
	QEMU string `json:"qemu,omitempty"`
	Boot Boot   `json:"boot"`
	// GuestImage is the digest that names the guest image in the record.
	GuestImage string `json:"guest_image,omitempty"`
	VCPUs      int    `json:"vcpus"`
	MemoryMiB  int    `json:"memory_mib"`
	// Network is NetworkNAT, NetworkIngress, NetworkNone, or one of the host's: "tap:NAME" or "bridge:NAME".
	Network string `json:"network"`
	Ports   []Port `json:"ports,omitempty"`
	// HostPorts are TCP ports of this machine's loopback that the group may connect to, at network.HostName.
	HostPorts []uint16 `json:"host_ports,omitempty"`
	// IdentityFile is a file with an access token that stands in for the group's managed identity; empty for none.
	IdentityFile string `json:"identity_file,omitempty"`
	// Addresses (CIDR) and Gateways are the group's on a network of the host's; any other network brings its own.
	Addresses []string `json:"addresses,omitempty"`
	Gateways  []string `json:"gateways,omitempty"`
	// Policy is the exact policy text.
	Policy []byte `json:"policy"`
	// Fragments are signed policy fragments, loaded in this order right after the policy.
	Fragments [][]byte `json:"fragments,omitempty"`
	// TrustLists are signed lists of ledgers, loaded in this order before the fragments.
	TrustLists [][]byte        `json:"trust_lists,omitempty"`
	Containers []ContainerPlan `json:"containers"`
	// RestartPolicy is for the containers that have none of their own; empty is RestartNever, which is what `run` means.
	RestartPolicy spec.RestartPolicy `json:"restart_policy,omitempty"`
	Volumes       []Volume           `json:"volumes,omitempty"`
	DNS           spec.DNS           `json:"dns,omitzero"`
	HostAliases   []spec.HostAlias   `json:"host_aliases,omitempty"`
	// ScratchMiB asks for an encrypted scratch disk of this size for the group's volumes; 0 keeps them in memory.
	ScratchMiB int `json:"scratch_mib,omitempty"`
	// LogLimitBytes bounds what is kept of each container's output, the newest; 0 means the usual bound.
	LogLimitBytes int64 `json:"log_limit_bytes,omitempty"`
	// Source is where the group was described, for people: a file's path, or the caller of an API. Digest is the SHA-256 of
	// the description in hexadecimal.
	Source string `json:"source,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Remove asks for the removal of the group as soon as it has ended.
	Remove bool `json:"remove,omitempty"`
	// Record is the file to record the requests to the guest in, made by the supervisor; empty for none.
	Record string `json:"record,omitempty"`
	// WaitForAttach holds back the start of the containers until a client is attached to the first one.
	WaitForAttach bool `json:"wait_for_attach,omitempty"`
}

// Boot is what a machine is booted with. All paths are absolute.
type Boot struct {
	Kernel   string `json:"kernel"`
	Initrd   string `json:"initrd"`
	Cmdline  string `json:"cmdline"`
	Firmware string `json:"firmware,omitempty"`
	// Measurement is the expected launch measurement in hexadecimal, if the guest image has a reference value.
	Measurement string `json:"measurement,omitempty"`
}

// ContainerPlan is one container of a plan.
type ContainerPlan struct {
	// ID is 64 lower-case hexadecimal digits; Store.Create makes one up when it is empty.
	ID          string `json:"id"`
	Name        string `json:"name"`
	Image       string `json:"image"`
	ImageDigest string `json:"image_digest,omitempty"`
	// Layers are base first.
	Layers          []Layer       `json:"layers"`
	Command         []string      `json:"command"`
	Env             []string      `json:"env,omitempty"`
	WorkingDir      string        `json:"working_dir"`
	User            string        `json:"user,omitempty"`
	Hostname        string        `json:"hostname,omitempty"`
	Terminal        bool          `json:"terminal,omitempty"`
	Stdin           bool          `json:"stdin,omitempty"`
	NoStdio         bool          `json:"no_stdio,omitempty"` // the policy allows no standard streams
	NoNewPrivileges bool          `json:"no_new_privileges,omitempty"`
	Privileged      bool          `json:"privileged,omitempty"`
	Capabilities    *Capabilities `json:"capabilities,omitempty"`
	// Seccomp is the OCI seccomp document in JSON, empty for none.
	Seccomp json.RawMessage `json:"seccomp,omitempty"`
	Mounts  []Mount         `json:"mounts,omitempty"`
	// StopSignal is a Linux signal number; 0 means SIGTERM.
	StopSignal uint32 `json:"stop_signal,omitempty"`
	// StopTimeout is how long the container may take to stop; 0 means DefaultStopTimeout.
	StopTimeout      time.Duration `json:"stop_timeout,omitempty"`
	MemoryLimitBytes uint64        `json:"memory_limit_bytes,omitempty"`
	CPUMillis        uint32        `json:"cpu_millis,omitempty"`
	// ScratchMiB asks for an encrypted scratch disk of this size under the writable layer; 0 keeps it in memory.
	ScratchMiB   int  `json:"scratch_mib,omitempty"`
	ReadOnlyRoot bool `json:"read_only_root,omitempty"`

	// Life is when the container starts, what watches it, and what happens when it has ended.
	Life spec.Life `json:"life,omitzero"`
}

// Volume is a volume of the group that needs more than to be made empty.
type Volume struct {
	// Source is what mounts of the volume name: "sandbox:///tmp/atlas/CLASS/NAME".
	Source string `json:"source"`
	// Volume says what to fill it with. The content of its files is not stored with the plan: see Contents.
	spec.Volume
	// HostDir is the directory of this machine that stands in for a file share, absolute.
	HostDir string `json:"host_dir,omitempty"`
}

// Contents are the files of a plan's volumes with their content, by the volume's name. They are handed to a supervisor in
// memory and stored nowhere.
type Contents map[string][]spec.File

// Layer is one converted image layer.
type Layer struct {
	Path       string `json:"path"`
	RootHash   string `json:"root_hash"` // 64 hexadecimal digits
	DataBlocks uint64 `json:"data_blocks"`
}

// Root returns the layer's root hash as bytes.
func (l Layer) Root() ([32]byte, error) {
	var root [32]byte
	b, err := hex.DecodeString(l.RootHash)
	if err != nil || len(b) != len(root) {
		return root, fmt.Errorf("root hash %q of layer %s is not 64 hexadecimal digits", l.RootHash, l.Path)
	}
	return [32]byte(b), nil
}

// Capabilities are the five sets of a process, by name ("CAP_CHOWN").
type Capabilities struct {
	Bounding    []string `json:"bounding"`
	Effective   []string `json:"effective"`
	Inheritable []string `json:"inheritable"`
	Permitted   []string `json:"permitted"`
	Ambient     []string `json:"ambient"`
}

// Mount is a bind mount into a container; see the guest protocol.
type Mount struct {
	Destination string   `json:"destination"`
	Source      string   `json:"source"`
	Type        string   `json:"type"`
	Options     []string `json:"options,omitempty"`
}

// PolicyHash is the SHA-256 of the policy text.
func (p *Plan) PolicyHash() [32]byte { return sha256.Sum256(p.Policy) }

var containerID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Validate checks what can be checked without looking at the machine.
func (p *Plan) Validate() error {
	if p.Schema != PlanSchema {
		return fmt.Errorf("plan has schema %q, want %q", p.Schema, PlanSchema)
	}
	err := ValidateName(p.Name)
	if err != nil {
		return err
	}
	if len(p.Policy) == 0 || len(p.Policy) > maxPolicySize {
		return fmt.Errorf("policy has %d bytes, want 1 to %d", len(p.Policy), maxPolicySize)
	}
	if !filepath.IsAbs(p.Boot.Kernel) || !filepath.IsAbs(p.Boot.Initrd) {
		return fmt.Errorf("kernel %q and initrd %q must be absolute paths", p.Boot.Kernel, p.Boot.Initrd)
	}
	if p.Accelerator == "" || p.TEE == "" {
		return fmt.Errorf("accelerator %q and TEE %q must be decided", p.Accelerator, p.TEE)
	}
	if p.Record != "" && !filepath.IsAbs(p.Record) {
		return fmt.Errorf("recording %q must be an absolute path", p.Record)
	}
	err = p.validateFragments()
	if err != nil {
		return err
	}
	err = p.validateNetwork()
	if err != nil {
		return err
	}
	err = p.validateVolumes()
	if err != nil {
		return err
	}
	return p.validateContainers()
}

func (p *Plan) validateFragments() error {
	if len(p.Fragments) > maxFragments {
		return fmt.Errorf("plan has %d policy fragments, want at most %d", len(p.Fragments), maxFragments)
	}
	total := 0
	for i, f := range p.Fragments {
		total += len(f)
		if len(f) == 0 || len(f) > maxFragment || total > maxFragmented {
			return fmt.Errorf("policy fragment %d has %d bytes, want 1 to %d, and at most %d in all", i, len(f), maxFragment, maxFragmented)
		}
	}
	if len(p.TrustLists) > maxTrustLists {
		return fmt.Errorf("plan has %d trust lists, want at most %d", len(p.TrustLists), maxTrustLists)
	}
	for i, l := range p.TrustLists {
		if len(l) == 0 || len(l) > maxTrustList {
			return fmt.Errorf("trust list %d has %d bytes, want 1 to %d", i, len(l), maxTrustList)
		}
	}
	return nil
}

// volumeSource is the form of what mounts of a volume name.
var volumeSource = regexp.MustCompile(`^sandbox:///tmp/atlas/[A-Za-z]+/[^/]+$`)

func (p *Plan) validateVolumes() error {
	if p.ScratchMiB < 0 {
		return fmt.Errorf("scratch size %d MiB is negative", p.ScratchMiB)
	}
	if p.LogLimitBytes != 0 && p.LogLimitBytes < minLogLimit {
		return fmt.Errorf("log limit is %d bytes, want at least %d, or 0 for the usual one", p.LogLimitBytes, minLogLimit)
	}
	if len(p.Volumes) > maxVolumes {
		return fmt.Errorf("plan has %d volumes, want at most %d", len(p.Volumes), maxVolumes)
	}
	names := map[string]bool{}
	for _, v := range p.Volumes {
		switch {
		case v.Name == "" || names[v.Name]:
			return fmt.Errorf("volume %q has no name, or another one has it as well", v.Name)
		case !volumeSource.MatchString(v.Source):
			return fmt.Errorf("volume %s: source %q is not sandbox:///tmp/atlas/CLASS/NAME", v.Name, v.Source)
		case v.HostDir != "" && !filepath.IsAbs(v.HostDir):
			return fmt.Errorf("volume %s: directory %q is not absolute", v.Name, v.HostDir)
		}
		names[v.Name] = true
	}
	return nil
}

func (p *Plan) validateContainers() error {
	switch p.RestartPolicy {
	case "", spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever:
	default:
		return fmt.Errorf("restart policy is %q, want %s, %s or %s", p.RestartPolicy, spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever)
	}
	if len(p.Containers) == 0 || len(p.Containers) > maxContainers {
		return fmt.Errorf("plan has %d containers, want 1 to %d", len(p.Containers), maxContainers)
	}
	names, ids := map[string]bool{}, map[string]bool{}
	for _, c := range p.Containers {
		err := c.validate()
		if err != nil {
			return fmt.Errorf("container %q: %w", c.Name, err)
		}
		if names[c.Name] || ids[c.ID] {
			return fmt.Errorf("container %q: name or ID is used twice", c.Name)
		}
		names[c.Name], ids[c.ID] = true, true
	}
	return lifecycle.Check(p.Lives())
}

// Lives are the containers as far as their life goes.
func (p *Plan) Lives() []lifecycle.Container {
	var lives []lifecycle.Container
	for _, c := range p.Containers {
		lives = append(lives, lifecycle.Container{Name: c.Name, Life: c.Life})
	}
	return lives
}

func (c *ContainerPlan) validate() error {
	err := ValidateName(c.Name)
	if err != nil {
		return err
	}
	if !containerID.MatchString(c.ID) {
		return fmt.Errorf("ID %q is not 64 lower-case hexadecimal digits", c.ID)
	}
	if len(c.Command) == 0 {
		return errors.New("command is empty")
	}
	if len(c.Layers) == 0 || len(c.Layers) > maxLayers {
		return fmt.Errorf("image has %d layers, want 1 to %d", len(c.Layers), maxLayers)
	}
	for _, l := range c.Layers {
		_, err := l.Root()
		if err != nil {
			return err
		}
		if !filepath.IsAbs(l.Path) {
			return fmt.Errorf("layer path %q is not absolute", l.Path)
		}
	}
	if c.StopSignal > 64 {
		return fmt.Errorf("stop signal %d is not a Linux signal", c.StopSignal)
	}
	if c.ScratchMiB < 0 {
		return fmt.Errorf("scratch size %d MiB is negative", c.ScratchMiB)
	}
	return nil
}

// ParsePlan reads a stored plan and validates it. It refuses unknown fields.
func ParsePlan(data []byte) (*Plan, error) {
	if len(data) > maxPlanSize {
		return nil, fmt.Errorf("plan has %d bytes, limit is %d", len(data), maxPlanSize)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var p Plan
	err := d.Decode(&p)
	if err != nil {
		return nil, fmt.Errorf("reading the plan: %w", err)
	}
	err = p.Validate()
	if err != nil {
		return nil, fmt.Errorf("checking the plan: %w", err)
	}
	return &p, nil
}

func marshalPlan(p *Plan) ([]byte, error) {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the plan: %w", err)
	}
	return append(data, '\n'), nil
}
