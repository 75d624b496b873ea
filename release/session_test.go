// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cofferdam.dev/attest"
)

// clock is a clock that a test moves. Between moves it goes on as the real one does, unless it was stopped.
type clock struct {
	offset  atomic.Int64
	stopped time.Time
}

func (c *clock) now() time.Time {
	now := c.stopped
	if now.IsZero() {
		now = time.Now()
	}
	return now.Add(time.Duration(c.offset.Load()))
}

func (c *clock) advance(by time.Duration) { c.offset.Add(int64(by)) }

func TestSessions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		life     time.Duration
		uses     int
		token    time.Duration
		pause    time.Duration
		releases int
		want     int32
	}{
		"kept":                  {0, 0, time.Hour, 0, 5, 1},
		"used up":               {0, 2, time.Hour, 0, 5, 3},
		"too old":               {10 * time.Minute, 0, time.Hour, 6 * time.Minute, 4, 2},
		"token nearly over":     {0, 0, 80 * time.Second, 51 * time.Second, 3, 3},
		"token over from start": {0, 0, 10 * time.Second, 0, 3, 3},
		"none":                  {-1, 0, time.Hour, 0, 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, clk := newDouble(t), &clock{}
			d.tokenLife = c.token
			cl := d.client(func(o *Options) { o.SessionLife, o.SessionUses, o.Now = c.life, c.uses, clk.now })
			for range c.releases {
				if _, err := cl.Release(t.Context(), d.request("oct")); err != nil {
					t.Fatal(err)
				}
				clk.advance(c.pause)
			}
			if n := d.attested.Load(); n != c.want {
				t.Errorf("attested %d times for %d releases, want %d", n, c.releases, c.want)
			}
		})
	}
}

// TestRefusedSession replaces a token once that a vault refuses and that is not fresh, and reports the second refusal.
func TestRefusedSession(t *testing.T) {
	t.Parallel()
	d, clk := newDouble(t), &clock{stopped: time.Now()} // a slow machine must not make a session old
	c := d.client(func(o *Options) { o.Now = clk.now })
	delete(d.keys, "oct")
	refuse := refuseReleases(d)
	for i, want := range []int32{1, 1, 2, 3} {
		if i >= 2 {
			clk.advance(stale + time.Second)
		}
		if _, err := c.Release(t.Context(), d.request("oct")); !errors.Is(err, ErrForbidden) {
			t.Fatal(err)
		}
		if n := d.attested.Load(); n != want {
			t.Errorf("release %d: attested %d times, want %d", i, n, want)
		}
	}
	if n := refuse.Load(); n != 6 {
		t.Errorf("the vault was asked %d times, want 6", n)
	}
}

// TestConcurrentSession makes one session for many requests at a time.
func TestConcurrentSession(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	c := d.client(nil)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if _, err := c.Release(t.Context(), d.request("oct")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := d.attested.Load(); n != 1 {
		t.Errorf("attested %d times", n)
	}
	if n := d.released.Load(); n != 32 {
		t.Errorf("released %d times: what was released may not be kept", n)
	}
}

// TestManyServices keeps no more sessions than it may, whatever endpoints callers name.
func TestManyServices(t *testing.T) {
	t.Parallel()
	c := newDouble(t).client(nil)
	for i := range 3 * maxSessions {
		c.slot(string(rune('a' + i)))
	}
	if n := len(c.sessions); n != maxSessions {
		t.Errorf("%d sessions", n)
	}
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	c := d.client(func(o *Options) { o.Challenge = true })
	if _, err := c.Release(t.Context(), d.request("oct")); err != nil || d.challenged.Load() != 1 {
		t.Fatalf("%d nonces: %v", d.challenged.Load(), err)
	}
	body := string(d.bodies[0])
	for _, part := range []string{`"nonce":"nonce-1"`, `"initTimeData":{"data":"","dataType":""}`} {
		if !contains(body, part) {
			t.Errorf("%s is not in %s", part, body)
		}
	}
	key, err := NewWrappingKey(2048)
	if err != nil {
		t.Fatal(err)
	}
	if data := string(key.RuntimeData("abc")); !contains(data, `],"nonce":"abc"}`) || contains(string(key.RuntimeData("")), "nonce") {
		t.Errorf("runtime data %s", data)
	}
}

// TestNoEvidence asks nobody when there is no evidence.
func TestNoEvidence(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	broken := errors.New("the device is on fire")
	c := d.client(func(o *Options) {
		o.Attester = AttesterFunc(func(context.Context, [64]byte) (*Evidence, error) { return nil, broken })
	})
	if _, err := c.Release(t.Context(), d.request("oct")); !errors.Is(err, ErrEvidence) || !errors.Is(err, broken) {
		t.Error(err)
	}
	for _, e := range []Evidence{{Type: attest.TypeSEVSNP, Report: []byte{1}}, {Type: attest.TypeSGX}, {}} {
		c := d.client(func(o *Options) {
			o.Attester = AttesterFunc(func(context.Context, [64]byte) (*Evidence, error) { return &e, nil })
		})
		if _, err := c.Token(t.Context(), d.host(), []byte("x")); err == nil {
			t.Errorf("%+v was sent", e)
		}
	}
	if n := d.attested.Load(); n != 0 {
		t.Errorf("the service was asked %d times", n)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("a client without anything")
	}
}
