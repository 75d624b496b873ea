// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
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

// slot holds the session with one attestation service, for one family of formats. The client's lock guards it.
type slot struct {
	current *session
	// used is when the slot was last asked for.
	used time.Time
}

// session returns a session with an attestation service whose wrapping key is for a format: the current one, unless it is
// at its end or is the one to be replaced. Many requests at a time make one session.
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
	key := family + " " + u.String()
	for {
		if s := c.current(key, instead); s != nil {
			return s, nil
		}
		s, own, err := c.beginning.do(ctx, key, func() (*session, error) {
			s, err := c.begin(ctx, endpoint, format)
			if err == nil {
				c.keep(key, s)
			}
			return s, err
		})
		if err != nil {
			return nil, err
		}
		if own {
			return s, nil
		}
	}
}

// current takes a use of the session that is kept, if it is still good.
func (c *Client) current(key string, instead *session) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opts.Now()
	s := c.slot(key)
	s.used = now
	cur := s.current
	if cur == nil || cur == instead || cur.unused < 1 || !now.Before(cur.until) {
		return nil
	}
	cur.unused--
	return cur
}

// keep makes a session the current one, with one use taken.
func (c *Client) keep(key string, s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.unused--
	c.slot(key).current = s
}

// slot finds or makes the place of a session. When there are too many, the one that was not asked for longest goes.
func (c *Client) slot(key string) *slot {
	s, ok := c.sessions[key]
	if ok {
		return s
	}
	if len(c.sessions) >= maxSessions {
		oldest := ""
		for name, other := range c.sessions {
			if oldest == "" || other.used.Before(c.sessions[oldest].used) {
				oldest = name
			}
		}
		delete(c.sessions, oldest)
	}
	s = &slot{used: c.opts.Now()}
	c.sessions[key] = s
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
