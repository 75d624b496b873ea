// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"fmt"
	"time"

	"cofferdam.dev/internal/vault/wrap"
)

// session is a wrapping key with an attestation service's token over its runtime data. One is good for nothing without the
// other, so that they are kept and dropped together.
type session struct {
	key    *WrappingKey
	token  string
	begun  time.Time
	until  time.Time
	unused int
}

// slot holds the session with one attestation service. Whoever has the turn may look at it and replace it, so that many
// requests at a time make one session.
type slot struct {
	turn    chan struct{}
	current *session
	// used is when the slot was last asked for, guarded by the client.
	used time.Time
}

// session returns a session with an attestation service whose wrapping key is for a format: the current one, unless it is
// at its end or is the one to be replaced.
func (c *Client) session(ctx context.Context, endpoint, format string, instead *session) (*session, error) {
	u, err := ParseEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	if c.opts.SessionLife < 0 {
		return c.begin(ctx, endpoint, format)
	}
	family := "rsa"
	if !wrap.Enc(format).RSA() {
		family = format
	}
	s := c.slot(family + " " + u.String())
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the guest to be attested: %w", ctx.Err())
	}
	if cur := s.current; cur != nil && cur != instead && cur.unused > 0 && c.opts.Now().Before(cur.until) {
		cur.unused--
		return cur, nil
	}
	s.current = nil
	fresh, err := c.begin(ctx, endpoint, format)
	if err != nil {
		return nil, err
	}
	fresh.unused--
	s.current = fresh
	return fresh, nil
}

// slot finds or makes the place of a session. When there are too many, the one that was not asked for longest goes.
func (c *Client) slot(key string) *slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.sessions[key]
	if !ok {
		if len(c.sessions) >= maxSessions {
			oldest := ""
			for name, other := range c.sessions {
				if oldest == "" || other.used.Before(c.sessions[oldest].used) {
					oldest = name
				}
			}
			delete(c.sessions, oldest)
		}
		s = &slot{turn: make(chan struct{}, 1)}
		c.sessions[key] = s
	}
	s.used = c.opts.Now()
	return s
}

// begin makes a session.
func (c *Client) begin(ctx context.Context, endpoint, format string) (*session, error) {
	a := c.attestation(endpoint)
	nonce := ""
	if c.opts.Challenge {
		var err error
		if nonce, err = a.Challenge(ctx); err != nil {
			return nil, err
		}
	}
	take := c.opts.Pool.Take
	if !wrap.Enc(format).RSA() {
		take = func() (*WrappingKey, error) { return newWrappingKeyFor(format) }
	}
	key, err := take()
	if err != nil {
		return nil, err
	}
	runtimeData := key.RuntimeData(nonce)
	e, err := evidenceFor(ctx, c.opts.Attester, runtimeData)
	if err != nil {
		return nil, err
	}
	token, err := a.Token(ctx, e, runtimeData, nonce)
	if err != nil {
		return nil, err
	}
	now := c.opts.Now()
	s := &session{key: key, token: token, begun: now, until: now.Add(c.opts.SessionLife), unused: c.opts.SessionUses}
	if end, ok := expiry(token); ok && end.Add(-margin).Before(s.until) {
		s.until = end.Add(-margin)
	}
	return s, nil
}
