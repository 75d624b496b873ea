// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
)

// stoppedReason is the reason of a group in its record that somebody asked to stop.
const stoppedReason = "stopped"

// extension is what only we answer, in the member x-cofferdam.
type extension struct {
	// GroupName and GroupID are those of `cofferdam group ps`.
	GroupName   string       `json:"groupName,omitempty"`
	GroupID     string       `json:"groupID,omitempty"`
	PolicyHash  string       `json:"policyHash,omitempty"`
	Measurement string       `json:"measurement,omitempty"`
	TEE         string       `json:"tee,omitempty"`
	Accelerator string       `json:"accelerator,omitempty"`
	Simulated   *bool        `json:"simulated,omitempty"`
	Reason      string       `json:"reason,omitempty"`
	Ports       []group.Port `json:"ports,omitempty"`
	Warnings    []string     `json:"warnings,omitempty"`
	// Error is that of the last operation.
	Error *armError `json:"error,omitempty"`
}

// eventView is an event as the service answers it.
type eventView struct {
	Count          int       `json:"count"`
	FirstTimestamp time.Time `json:"firstTimestamp"`
	LastTimestamp  time.Time `json:"lastTimestamp"`
	Name           string    `json:"name"`
	Message        string    `json:"message"`
	Type           string    `json:"type"`
}

// stateView is a container's state.
type stateView struct {
	State        string     `json:"state"`
	StartTime    *time.Time `json:"startTime,omitempty"`
	ExitCode     *int       `json:"exitCode,omitempty"`
	FinishTime   *time.Time `json:"finishTime,omitempty"`
	DetailStatus string     `json:"detailStatus"`
}

// containerView is what became of a container.
type containerView struct {
	RestartCount  int         `json:"restartCount"`
	CurrentState  stateView   `json:"currentState"`
	PreviousState *stateView  `json:"previousState,omitempty"`
	Events        []eventView `json:"events"`
}

// groupView is what became of a group.
type groupView struct {
	State  string      `json:"state"`
	Events []eventView `json:"events"`
}

// moment is what is known of a resource at one moment.
type moment struct {
	doc    *document
	phase  string
	events []event.Event
	group  *group.Group
	plan   *group.Plan
}

// look gathers what is known of a resource. The entry is locked.
func (a *API) look(ctx context.Context, e *entry) *moment {
	m := &moment{doc: e.doc, phase: e.phase, events: e.events, group: a.current(e.doc)}
	if len(m.events) == 0 {
		m.events = e.doc.Events
	}
	if m.group == nil {
		return m
	}
	var err error
	m.plan, _, err = group.Load(m.group.Dir)
	if err == nil {
		events := m.events[:len(m.events):len(m.events)]
		err = event.Read(ctx, group.EventsPath(m.group.Dir), event.Options{}, func(x event.Event) error {
			events = append(events, x)
			return nil
		})
		m.events = events
	}
	if err != nil {
		a.opts.Log.Warn("a group could not be read", slog.String("group", m.group.Record.Name), slog.Any("error", err))
	}
	return m
}

// provisioning is the state of the resource, as distinct from that of its containers.
func (m *moment) provisioning() string {
	o := m.doc.Operation
	switch {
	case o.Status == inProgress && o.Kind == kindPut && m.phase != "":
		return m.phase
	case o.Status == inProgress && o.Kind == kindPut:
		return "Creating"
	case o.Status == inProgress && o.Kind == kindDelete:
		return "Deleting"
	case o.Status == inProgress:
		return "Updating"
	case o.Status == failed && (o.Kind == kindPut || o.Kind == kindStart):
		return "Failed"
	case m.group == nil:
		return "Failed" // somebody removed it beside us
	}
	return "Succeeded"
}

// state is what the containers of the group do together.
func (m *moment) state() string {
	if m.group == nil {
		if m.doc.Operation.Status == inProgress {
			return "Pending"
		}
		return "Failed"
	}
	r := m.group.Record
	switch r.State {
	case group.StateRunning:
		return "Running"
	case group.StateFailed:
		return "Failed"
	case group.StateExited:
		code, ok := r.ExitCode()
		switch {
		case r.Reason == stoppedReason:
			return "Stopped"
		case ok && code == 0:
			return "Succeeded"
		}
		return "Failed"
	}
	return "Pending"
}

// of are the events of a container, or those of the group.
func (m *moment) of(container string) []eventView {
	list := []eventView{}
	for _, e := range m.events {
		if e.Container == container {
			list = append(list, eventView{e.Count, e.First, e.Last, e.Name, e.Message, string(e.Type)})
		}
	}
	return list
}

// container is what became of a container.
func (m *moment) container(name string) containerView {
	v := containerView{CurrentState: stateView{State: "Waiting"}, Events: m.of(name)}
	if m.group == nil {
		return v
	}
	for i := range m.group.Record.Containers {
		c := &m.group.Record.Containers[i]
		if c.Name != name {
			continue
		}
		v.RestartCount = c.RestartCount
		v.CurrentState = current(c)
		if p := c.Previous; p != nil {
			v.PreviousState = &stateView{
				State: "Terminated", StartTime: p.Started, FinishTime: p.Finished, ExitCode: p.ExitCode, DetailStatus: detail(p.Reason, p.ExitCode),
			}
		}
	}
	return v
}

func current(c *group.Container) stateView {
	switch c.State {
	case group.StateRunning:
		return stateView{State: "Running", StartTime: c.Started}
	case group.StateExited, group.StateFailed:
		return stateView{State: "Terminated", StartTime: c.Started, FinishTime: c.Finished, ExitCode: c.ExitCode, DetailStatus: detail(c.Reason, c.ExitCode)}
	}
	return stateView{State: "Waiting", DetailStatus: c.Reason}
}

func detail(reason string, code *int) string {
	switch {
	case reason != "":
		return reason
	case code != nil && *code == 0:
		return "Completed"
	}
	return "Error"
}

// address fills in where the group can be reached.
func (m *moment) address(properties map[string]any) {
	if m.group == nil || len(m.group.Record.Ports) == 0 {
		return
	}
	v, _ := member(properties, "ipAddress").(map[string]any)
	if v == nil {
		return
	}
	var ports []map[string]any
	for _, p := range m.group.Record.Ports {
		ports = append(ports, map[string]any{"port": p.HostPort, "protocol": map[string]string{"tcp": "TCP", "udp": "UDP"}[p.Protocol]})
	}
	remove(v, "ports", "ip")
	v["ports"], v["ip"] = ports, m.group.Record.Ports[0].HostIP
}

// extension is what only we answer.
func (m *moment) extension() extension {
	x := extension{GroupName: m.doc.Group, Warnings: m.doc.Warnings, Error: m.doc.Operation.Error}
	if m.group == nil {
		return x
	}
	r := m.group.Record
	x.GroupName, x.GroupID, x.PolicyHash, x.Measurement = r.Name, r.ID, r.PolicyHash, r.Measurement
	x.TEE, x.Accelerator, x.Simulated, x.Reason, x.Ports = r.TEE, r.Accelerator, &r.Simulated, r.Reason, r.Ports
	x.Warnings = append(x.Warnings[:len(x.Warnings):len(x.Warnings)], r.Warnings...)
	return x
}

// resource is the resource as it is answered; whole has what became of it as well.
func (m *moment) resource(whole bool) (map[string]any, error) {
	var v map[string]any
	err := json.Unmarshal(m.doc.Resource, &v)
	if err != nil {
		return nil, err // not reached: we wrote it
	}
	v["id"], v["name"], v["type"] = m.doc.ID.String(), m.doc.ID.Name, resourceType
	v[extensionMember] = m.extension()
	properties, _ := v["properties"].(map[string]any)
	if properties == nil {
		properties = map[string]any{}
		v["properties"] = properties
	}
	properties["provisioningState"] = m.provisioning()
	m.address(properties)
	if !whole {
		return v, nil
	}
	properties["instanceView"] = groupView{State: m.state(), Events: m.of("")}
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range items(properties, list) {
			name, _ := member(c, "name").(string)
			if p, ok := member(c, "properties").(map[string]any); ok {
				p["instanceView"] = m.container(name)
			}
		}
	}
	m.policy(properties)
	return v, nil
}

// policy fills in the policy that is in force.
func (m *moment) policy(properties map[string]any) {
	if m.plan == nil {
		return
	}
	c, _ := member(properties, "confidentialComputeProperties").(map[string]any)
	if c == nil {
		c = map[string]any{}
		remove(properties, "confidentialComputeProperties")
		properties["confidentialComputeProperties"] = c
	}
	remove(c, "ccePolicy")
	c["ccePolicy"] = base64.StdEncoding.EncodeToString(m.plan.Policy)
}

// answerGroup answers with a resource. The entry is locked.
func (a *API) answerGroup(w http.ResponseWriter, status int, e *entry) *armError {
	v, err := a.look(context.WithoutCancel(a.ctx), e).resource(true)
	if err != nil {
		return a.internal(err)
	}
	return answer(w, status, v)
}

func (a *API) getGroup(w http.ResponseWriter, _ *http.Request, p params) *armError {
	e := a.find(p.resource(), false)
	if e == nil {
		return notFound(p.resource())
	}
	defer e.mu.Unlock()
	return a.answerGroup(w, http.StatusOK, e)
}

// answer answers with a document.
func answer(w http.ResponseWriter, status int, v any) *armError {
	b, err := json.Marshal(v)
	if err != nil {
		return asArm(err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
	return nil
}
