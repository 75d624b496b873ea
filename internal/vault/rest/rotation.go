// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/json"
	"slices"
	"strings"

	"cofferdam.dev/internal/vault"
)

// rotationBundle is a rotation policy, with its members in the order in which Azure's vaults write them.
type rotationBundle struct {
	ID         string             `json:"id"`
	Actions    []lifetimeAction   `json:"lifetimeActions"`
	Attributes rotationAttributes `json:"attributes"`
}

type lifetimeAction struct {
	Trigger struct {
		AfterCreate  string `json:"timeAfterCreate,omitempty"`
		BeforeExpiry string `json:"timeBeforeExpiry,omitempty"`
	} `json:"trigger"`
	Action struct {
		Type vault.ActionType `json:"type"`
	} `json:"action"`
}

type rotationAttributes struct {
	Expiry  string `json:"expiryTime,omitempty"`
	Created *int64 `json:"created,omitempty"`
	Updated *int64 `json:"updated,omitempty"`
}

// rotationPolicy answers GET /keys/{name}/rotationpolicy.
func (h *Handler) rotationPolicy(c *call) error {
	if err := c.rotates(); err != nil {
		return err
	}
	p, err := h.opts.Vault.RotationPolicy(c.r.Context(), c.name)
	if err != nil {
		return err
	}
	return h.respondRotation(c, p)
}

// setRotationPolicy answers PUT /keys/{name}/rotationpolicy.
func (h *Handler) setRotationPolicy(c *call) error {
	if err := c.rotates(); err != nil {
		return err
	}
	m, err := c.readBody()
	if err != nil {
		return err
	}
	p := vault.RotationPolicy{Expiry: m.object("attributes").period("expiryTime")}
	const most = 8 // and a vault takes fewer
	for i, raw := range m.objects("lifetimeActions") {
		if i == most {
			return bad("The body has more than %d actions.", most)
		}
		one, trigger := vault.LifetimeAction{}, raw.object("trigger")
		one.AfterCreate, one.BeforeExpiry = trigger.period("timeAfterCreate"), trigger.period("timeBeforeExpiry")
		kind := raw.object("action").text("type")
		one.Type = vault.ActionType(kind)
		for _, t := range []vault.ActionType{vault.Rotate, vault.Notify} {
			if strings.EqualFold(kind, string(t)) {
				one.Type = t
			}
		}
		p.Actions = append(p.Actions, one)
	}
	if *m.err != nil {
		return *m.err
	}
	out, err := h.opts.Vault.SetRotationPolicy(c.r.Context(), c.name, p)
	if err != nil {
		return err
	}
	return h.respondRotation(c, out)
}

// rotates refuses versions that know no rotation policies.
func (c *call) rotates() error {
	if slices.Contains(withoutRelease, c.version) {
		return bad("The api-version %s has no rotation policies: they came with 7.3.", c.version)
	}
	return nil
}

func (h *Handler) respondRotation(c *call, p *vault.RotationPolicy) error {
	b := rotationBundle{ID: h.id("keys", c.name, "") + "/rotationpolicy", Actions: []lifetimeAction{}}
	for _, a := range p.Actions {
		var one lifetimeAction
		one.Trigger.AfterCreate, one.Trigger.BeforeExpiry, one.Action.Type = a.AfterCreate.String(), a.BeforeExpiry.String(), a.Type
		b.Actions = append(b.Actions, one)
	}
	b.Attributes.Expiry = p.Expiry.String()
	if !p.Created.IsZero() {
		b.Attributes.Created, b.Attributes.Updated = unix(&p.Created), unix(&p.Updated)
	}
	return h.respond(c, b)
}

// period is a span of time in ISO 8601; none when it is missing or empty.
func (m members) period(name string) vault.Period {
	s := m.text(name)
	if s == "" {
		return vault.Period{}
	}
	p, err := vault.ParsePeriod(s)
	if err != nil {
		m.fail(name, "a period of years, months, weeks and days, such as P90D")
	}
	return p
}

// objects are the members of each object of a list.
func (m members) objects(name string) []members {
	list := take[[]json.RawMessage](m, name, "a list of objects")
	if list == nil {
		return nil
	}
	var out []members
	for _, raw := range *list {
		o, err := parseObject(raw)
		if err != nil {
			m.fail(name, "a list of objects")
			return nil
		}
		out = append(out, members{m.within + name + ".", o, m.err})
	}
	return out
}
