// SPDX-License-Identifier: Apache-2.0

package group

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/internal/spec"
)

// RecordSchema names the form of a record.
const RecordSchema = "cofferdam.dev/group-record/v1"

// maxRecordSize bounds a record file, so that a damaged one can not exhaust memory.
const maxRecordSize = 4 << 20

// State is where a group or a container is in its life.
type State string

// The states of a group. A group only moves forward, until it is started again as a whole.
const (
	StateCreated  State = "created"  // the plan is written, nothing runs
	StateStarting State = "starting" // the machine boots, or containers are being made
	StateRunning  State = "running"  // every container but for init containers was started
	StateExited   State = "exited"   // every container ended by itself or was stopped
	StateFailed   State = "failed"   // something broke; Reason says what

	// StateWaiting is for containers alone: it is to be started when what Reason names has come about. From it a
	// container gets to running, again and again if it is restarted.
	StateWaiting State = "waiting"
)

// Final reports whether nothing follows s.
func (s State) Final() bool { return s == StateExited || s == StateFailed }

// Record is what is known of a group. It is stored as JSON and is the document behind `group inspect`.
type Record struct {
	Schema string `json:"schema"`
	// ID is 32 hexadecimal digits, unique among all groups ever made.
	ID string `json:"id"`
	// Name is unique among the groups of one store.
	Name  string `json:"name"`
	State State  `json:"state"`
	// Reason says in one sentence why State is what it is, where that is not plain.
	Reason string `json:"reason,omitempty"`

	Created  time.Time  `json:"created"`
	Started  *time.Time `json:"started,omitempty"`
	Finished *time.Time `json:"finished,omitempty"`
	// Stages are the moments at which parts of the start were done.
	Stages []Stage `json:"stages,omitempty"`

	// SupervisorPID and MachinePID are the host processes while the group runs.
	SupervisorPID int `json:"supervisor_pid,omitempty"`
	MachinePID    int `json:"machine_pid,omitempty"`

	Accelerator string `json:"accelerator"`
	TEE         string `json:"tee"`
	// Simulated is true unless a hardware TEE protects the group. It is never omitted.
	Simulated bool   `json:"simulated"`
	QEMU      string `json:"qemu,omitempty"`
	VCPUs     int    `json:"vcpus"`
	MemoryMiB int    `json:"memory_mib"`
	// GuestImage is the digest of the guest image that was booted.
	GuestImage string `json:"guest_image,omitempty"`
	Network    string `json:"network"`
	Ports      []Port `json:"ports,omitempty"`

	// PolicyHash is the SHA-256 of the policy text in hexadecimal: the HOST_DATA of the launch.
	PolicyHash string `json:"policy_hash"`
	// Measurement is the expected launch measurement in hexadecimal, empty where the host can not know it.
	Measurement string `json:"measurement,omitempty"`

	Containers []Container `json:"containers"`
	// Remove is true when the group is removed as soon as it has ended.
	Remove bool `json:"remove,omitempty"`
	// Warnings are things that went wrong without ending the group.
	Warnings []string `json:"warnings,omitempty"`

	// Ready is true while every container is ready that is to run.
	Ready bool `json:"ready,omitempty"`
	// Runs counts how often the group was started; older records have 0 for once.
	Runs int `json:"runs,omitempty"`
	// RestartPolicy is what the plan says; empty means that nothing is started again.
	RestartPolicy spec.RestartPolicy `json:"restart_policy,omitempty"`
	// Source and Digest say what the group was made of, as the plan does.
	Source string `json:"source,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// Stage is one step of a start and when it was done.
type Stage struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"`
}

// Port forwards one port of the host into the group.
type Port struct {
	// Protocol is "tcp" or "udp".
	Protocol  string `json:"protocol"`
	HostIP    string `json:"host_ip"`
	HostPort  uint16 `json:"host_port"`
	GuestPort uint16 `json:"guest_port"`
}

// String returns the port as `ps` prints it, for example "127.0.0.1:8080->80/tcp" or "[::1]:8080->80/tcp".
func (p Port) String() string {
	return fmt.Sprintf("%s->%d/%s", net.JoinHostPort(p.HostIP, strconv.Itoa(int(p.HostPort))), p.GuestPort, p.Protocol)
}

// Container is what is known of one container of a group.
type Container struct {
	// ID is 64 hexadecimal digits.
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Image       string   `json:"image"`
	ImageDigest string   `json:"image_digest,omitempty"`
	Command     []string `json:"command"`
	// LayerRoots are the dm-verity roots of the image's layers in hexadecimal, base first.
	LayerRoots []string `json:"layer_roots"`
	Terminal   bool     `json:"terminal,omitempty"`
	State      State    `json:"state"`
	// ExitCode is set when State is final and the process ran.
	ExitCode *int `json:"exit_code,omitempty"`
	// Reason is empty for a normal end, otherwise one sentence such as "out of memory".
	Reason   string     `json:"reason,omitempty"`
	Started  *time.Time `json:"started,omitempty"`
	Finished *time.Time `json:"finished,omitempty"`
	// Message is what the container left when it ended, as far as its plan asks for it: the tenant's text, at most 4 KiB.
	Message string `json:"message,omitempty"`

	// Init is true for an init container.
	Init bool `json:"init,omitempty"`
	// RestartCount is how often it was started again, Previous the run before.
	RestartCount int  `json:"restart_count,omitempty"`
	Previous     *Run `json:"previous,omitempty"`
	// Ready is true while it runs and its probes say that it can be used.
	Ready bool `json:"ready,omitempty"`
}

// Run is a run of a container that has ended.
type Run struct {
	// ExitCode is nil when the process was lost with its machine.
	ExitCode *int       `json:"exit_code,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Started  *time.Time `json:"started,omitempty"`
	Finished *time.Time `json:"finished,omitempty"`
	Message  string     `json:"message,omitempty"`
}

// Container returns the container that ref names: its name, its ID or a prefix of it of at least four characters, or
// the only container when ref is empty.
func (r *Record) Container(ref string) (*Container, error) {
	if ref == "" && len(r.Containers) == 1 {
		return &r.Containers[0], nil
	}
	if ref == "" {
		return nil, fmt.Errorf("group %s has %d containers: name one of %s", r.Name, len(r.Containers), r.containerNames())
	}
	var found *Container
	for i := range r.Containers {
		c := &r.Containers[i]
		switch {
		case c.Name == ref || c.ID == ref:
			return c, nil
		case len(ref) >= minPrefix && len(ref) < len(c.ID) && c.ID[:len(ref)] == ref:
			if found != nil {
				return nil, fmt.Errorf("%q names several containers of group %s", ref, r.Name)
			}
			found = c
		}
	}
	if found == nil {
		return nil, fmt.Errorf("group %s has no container %q; it has %s", r.Name, ref, r.containerNames())
	}
	return found, nil
}

func (r *Record) containerNames() string {
	var names []string
	for _, c := range r.Containers {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

// ExitCode is the exit code of the group: that of its first container that did not end with zero, and 0 if all did. Init
// containers count only where others were never started because of them. It is false when the group has not ended, or
// a container never ran and no init container's failure says why.
func (r *Record) ExitCode() (int, bool) {
	code, initCode, ran := 0, 0, true
	for _, c := range r.Containers {
		switch {
		case c.ExitCode == nil:
			ran = ran && c.Init
		case c.Init && initCode == 0:
			initCode = *c.ExitCode
		case !c.Init && code == 0:
			code = *c.ExitCode
		}
	}
	switch {
	case !r.State.Final() || !ran && initCode == 0:
		return 0, false
	case !ran:
		return initCode, true
	}
	return code, true
}

// ParseRecord reads a stored record. It refuses unknown fields and other schemas.
func ParseRecord(data []byte) (*Record, error) {
	if len(data) > maxRecordSize {
		return nil, fmt.Errorf("record has %d bytes, limit is %d", len(data), maxRecordSize)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var r Record
	err := d.Decode(&r)
	if err != nil {
		return nil, fmt.Errorf("reading the record: %w", err)
	}
	if r.Schema != RecordSchema {
		return nil, fmt.Errorf("record has schema %q, want %q", r.Schema, RecordSchema)
	}
	err = ValidateName(r.Name)
	if err != nil {
		return nil, fmt.Errorf("reading the record: %w", err)
	}
	return &r, nil
}

// Marshal returns the record as indented JSON with a final newline.
func (r *Record) Marshal() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the record: %w", err)
	}
	return append(data, '\n'), nil
}

// newRecord is the record of a group that was planned at now.
func newRecord(p *Plan, now time.Time) *Record {
	hash := p.PolicyHash()
	r := &Record{
		Schema:      RecordSchema,
		ID:          newID(16),
		Name:        p.Name,
		State:       StateCreated,
		Created:     now,
		Accelerator: p.Accelerator,
		TEE:         p.TEE,
		Simulated:   p.TEE != "snp" && p.TEE != "tdx",
		VCPUs:       p.VCPUs,
		MemoryMiB:   p.MemoryMiB,
		GuestImage:  p.GuestImage,
		Network:     p.Network,
		Ports:       p.Ports,
		PolicyHash:  hex.EncodeToString(hash[:]),
		Measurement: p.Boot.Measurement,
		Remove:      p.Remove,

		Runs: 1, RestartPolicy: p.RestartPolicy, Source: p.Source, Digest: p.Digest,
	}
	for _, c := range p.Containers {
		rc := Container{
			ID: c.ID, Name: c.Name, Image: c.Image, ImageDigest: c.ImageDigest, Command: c.Command,
			Terminal: c.Terminal, State: StateCreated, Init: c.Life.Init,
		}
		for _, l := range c.Layers {
			rc.LayerRoots = append(rc.LayerRoots, l.RootHash)
		}
		r.Containers = append(r.Containers, rc)
	}
	return r
}
