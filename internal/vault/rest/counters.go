// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"strconv"

	"cofferdam.dev/internal/vault"
)

// counter answers GET /counters/{id}, which is ours: the record of the last state of something, such as a volume.
func (h *Handler) counter(c *call) error {
	n, err := h.opts.Vault.Counter(c.r.Context(), c.name)
	if err != nil {
		return err
	}
	return c.respond(n)
}

// moveCounter answers PUT /counters/{id}: {"was": {"generation", "digest"}, "next": {"generation", "digest"}}. Without "was"
// there must be no such counter.
func (h *Handler) moveCounter(c *call) error {
	m, err := c.readBody()
	if err != nil {
		return err
	}
	was, next := m.counterState("was"), m.counterState("next")
	if *m.err != nil {
		return *m.err
	}
	n, err := h.opts.Vault.MoveCounter(c.r.Context(), c.name, was, next)
	if err != nil {
		return err
	}
	return c.respond(n)
}

// counterState is a state; generations are decimal numbers in strings.
func (m members) counterState(name string) vault.CounterState {
	if !m.has(name) {
		return vault.CounterState{}
	}
	in := m.object(name)
	text := in.text("generation")
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != text {
		in.fail("generation", "a decimal number in a string")
	}
	return vault.CounterState{Generation: n, Digest: in.text("digest")}
}
