// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"cofferdam.dev/internal/store/storetest"
)

// try is a request that was sent to both instances, and the tokens that it was answered with.
type try struct {
	body   []byte
	tokens []string
}

// cluster is two instances over one etcd, under load.
type cluster struct {
	t    *testing.T
	urls [2]string
	stop atomic.Bool

	mu    sync.Mutex
	tries []try
	// acknowledged and begun are numbers of policies.
	acknowledged, begun int
}

// TestInstanceKilled has two processes serve one tenant from one etcd, and kills one of them under load. No nonce is
// accepted twice, be it at the same time, after the kill or after a restart; no policy that was acknowledged is lost; and
// the tokens of the dead are still good.
func TestInstanceKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an etcd and two processes for some seconds")
	}
	etcd := storetest.StartEtcd(t)
	store := strings.Replace(etcd.Endpoint, "http://", "etcd://", 1) + "/attestation"
	a, b := startProcess(t, instanceConfig{Name: "a", Store: store}), startProcess(t, instanceConfig{Name: "b", Store: store})
	c := &cluster{t: t, urls: [2]string{a.url, b.url}}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(c.attest)
	}
	wg.Go(c.policies)
	before := c.after(0)
	a.kill()
	c.after(before)
	c.stop.Store(true)
	wg.Wait()

	accepted := 0
	var tokens []string
	for i, one := range c.tries {
		if len(one.tokens) > 1 {
			t.Errorf("nonce %d was accepted twice", i)
		}
		accepted += len(one.tokens)
		tokens = append(tokens, one.tokens...)
	}
	if accepted < len(c.tries)/2 {
		t.Errorf("%d requests before the kill, %d in all, %d accepted, %d policies", before, len(c.tries), accepted, c.acknowledged)
	}
	t.Logf("%d requests before the kill, %d in all, %d accepted, %d policies", before, len(c.tries), accepted, c.acknowledged)
	again := startProcess(t, instanceConfig{Name: "c", Store: store})
	c.check(b.url, again.url, tokens)
}

// after waits until there were a good number of requests more than those, and a policy was acknowledged, and for some time at
// least. It returns how many requests there were.
func (c *cluster) after(requests int) int {
	c.t.Helper()
	const more = 20
	begin := time.Now()
	for end := begin.Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c.mu.Lock()
		n, policy := len(c.tries), c.acknowledged
		c.mu.Unlock()
		if n >= requests+more && policy > 0 && time.Since(begin) > 1500*time.Millisecond {
			return n
		}
	}
	c.t.Errorf("there were no %d requests and a policy after %d", more, requests)
	return requests
}

// check asks the survivor and a new instance about what was before.
func (c *cluster) check(survivor, again string, tokens []string) {
	t := c.t
	for _, url := range []string{survivor, again} {
		for i, one := range c.tries {
			if len(one.tokens) == 0 || i%3 != 0 {
				continue
			}
			_, err := send(t.Context(), http.MethodPost, url+attestSNP, one.body)
			var status *errStatus
			if !errors.As(err, &status) || !strings.Contains(status.body, "used before") {
				t.Errorf("nonce %d again: %v", i, err)
			}
		}
		got, err := send(t.Context(), http.MethodGet, url+"/tenants/contoso"+snpPolicy, nil)
		if err != nil {
			t.Fatal(err)
		}
		policy, _ := claims(t, got["token"].(string))["x-ms-policy"].(string)
		n := -1
		for i := c.acknowledged; i <= c.begun; i++ {
			if policy == policyToken(numbered(i)) {
				n = i
			}
		}
		if n < 0 {
			t.Errorf("policy %d was acknowledged, and it has another: %q", c.acknowledged, policy)
		}
	}
	set, err := jwk.Fetch(t.Context(), again+"/certs")
	if err != nil {
		t.Fatal(err)
	}
	if set.Len() != 6 {
		t.Errorf("there are %d keys of three instances", set.Len())
	}
	for i, token := range tokens {
		if i%5 != 0 {
			continue
		}
		if _, err := jws.Verify([]byte(token), jws.WithKeySet(set)); err != nil {
			t.Errorf("token %d: %v", i, err)
		}
	}
}

// attest sends each of its requests to both instances at once.
func (c *cluster) attest() {
	w := theWorld(c.t)
	for i := 0; !c.stop.Load(); i++ {
		nonce, ok := c.challenge(i)
		if !ok {
			continue
		}
		body := w.body(c.t, `{"nonce":"`+nonce+`"}`)
		body["nonce"] = nonce
		one := try{body: asJSON(c.t, body)}
		var wg sync.WaitGroup
		var mu sync.Mutex
		for _, url := range c.urls {
			wg.Go(func() {
				got, err := send(c.t.Context(), http.MethodPost, url+attestSNP, one.body)
				if err != nil {
					c.expected(err, "used before")
					return
				}
				mu.Lock()
				defer mu.Unlock()
				one.tokens = append(one.tokens, got["token"].(string))
			})
		}
		wg.Wait()
		c.mu.Lock()
		c.tries = append(c.tries, one)
		c.mu.Unlock()
	}
}

func (c *cluster) challenge(i int) (string, bool) {
	got, err := send(c.t.Context(), http.MethodPost, c.urls[i%2]+"/challenge", nil)
	if err != nil {
		c.expected(err, "")
		return "", false
	}
	nonce, ok := got["nonce"].(string)
	return nonce, ok
}

// expected reports an error that is neither the death of an instance nor an answer with the text.
func (c *cluster) expected(err error, text string) {
	var status *errStatus
	if errors.As(err, &status) && (text == "" || !strings.Contains(status.body, text)) {
		c.t.Error(err)
	}
}

func numbered(i int) string {
	return fmt.Sprintf(`version=1.0; authorizationrules{ => permit(); }; issuancerules{ => issue(type="n", value=%d); };`, i)
}

// policies sets policies at the instances in turn.
func (c *cluster) policies() {
	for i := 1; !c.stop.Load(); i++ {
		c.note(&c.begun, i)
		if _, err := send(c.t.Context(), http.MethodPut, c.urls[i%2]+"/tenants/contoso"+snpPolicy, []byte(policyToken(numbered(i)))); err != nil {
			c.expected(err, "")
			continue
		}
		c.note(&c.acknowledged, i)
	}
}

func (c *cluster) note(number *int, is int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*number = is
}
