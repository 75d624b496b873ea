// SPDX-License-Identifier: Apache-2.0

package anchor

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/volume/shadow"
	"cofferdam.dev/release"
)

// counters are a vault's, as its protocol has them. The vault's own tests hold it to the same.
type counters struct {
	mu     sync.Mutex
	states map[string]counterState
	lose   int // so many answers to moves that were made
	down   int // so many requests that are not answered
	token  string
}

func (c *counters) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"error":{"code":"` + code + `","message":"no"}}`))
	}
	id := strings.TrimPrefix(r.URL.Path, "/counters/")
	now, there := c.states[id]
	switch {
	case c.down > 0:
		c.down--
		refuse(http.StatusServiceUnavailable, "ServiceUnavailable")
	case c.token != "" && r.Header.Get("Authorization") != "Bearer "+c.token:
		refuse(http.StatusUnauthorized, "Unauthorized")
	case r.Method == http.MethodGet && !there:
		refuse(http.StatusNotFound, "CounterNotFound")
	case r.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(now)
	default:
		var m move
		if json.NewDecoder(r.Body).Decode(&m) != nil || (m.Was != nil) != there || there && *m.Was != now {
			refuse(http.StatusConflict, "Conflict")
			return
		}
		c.states[id] = m.Next
		if c.lose > 0 {
			c.lose--
			refuse(http.StatusBadGateway, "")
			return
		}
		_ = json.NewEncoder(w).Encode(m.Next)
	}
}

func newVault(t *testing.T) (*counters, *Vault) {
	t.Helper()
	c := &counters{states: map[string]counterState{}}
	s := httptest.NewTLSServer(c)
	t.Cleanup(s.Close)
	return c, &Vault{URL: s.URL, HTTP: s.Client(), Patience: time.Minute}
}

func TestVault(t *testing.T) {
	t.Parallel()
	_, v := newVault(t)
	behaves(t, v)
}

// An answer that is lost is not another writer, and a vault that is away for a moment is waited for.
func TestVaultTrouble(t *testing.T) {
	t.Parallel()
	c, v := newVault(t)
	c.lose, c.down = 1, 2
	for g := range uint64(3) {
		was := record(g)
		if g == 0 {
			was = shadow.Record{}
		}
		if err := v.Move(t.Context(), was, record(g+1)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	c.mu.Lock()
	c.down = 1000
	c.mu.Unlock()
	if err := v.Move(ctx, record(3), record(4)); err == nil || errors.Is(err, shadow.ErrMoved) {
		t.Errorf("a vault that does not answer: %v", err)
	}
}

// What a vault answers that is no record opens nothing.
func TestVaultNonsense(t *testing.T) {
	t.Parallel()
	c, v := newVault(t)
	for i, s := range []counterState{{}, {"0", strings.Repeat("00", 32)}, {"1", "00"}, {"-1", strings.Repeat("00", 32)}, {"1", strings.Repeat("AA", 32)}} {
		volume := [16]byte{byte(i + 1)}
		c.states[strings.TrimPrefix(counterPath(volume), "/counters/")] = s
		if r, err := v.Load(t.Context(), volume); err == nil || errors.Is(err, shadow.ErrNoRecord) {
			t.Errorf("%s: %+v, %v", strconv.Itoa(i), r, err)
		}
	}
}

// A token that is not taken is replaced.
func TestVaultTokens(t *testing.T) {
	t.Parallel()
	c, v := newVault(t)
	c.token = "good"
	var given []string
	v.Authorize = func(_ context.Context, f func(string) error) error {
		for _, token := range []string{"old", "good"} {
			given = append(given, token)
			if err := f(token); !errors.Is(err, release.ErrUnauthorized) {
				return err
			}
		}
		return errors.New("no token is taken")
	}
	if err := v.Move(t.Context(), shadow.Record{}, record(1)); err != nil || len(given) != 2 {
		t.Errorf("%v: %v", given, err)
	}
}
