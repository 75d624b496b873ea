// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"cofferdam.dev/internal/store/open"
	"cofferdam.dev/internal/store/storetest"
	"cofferdam.dev/internal/vault/rest"
)

// TestCluster has two instances on one etcd rotate, update and release the same keys at a time. Nothing that one of them
// acknowledged is lost to the other, and each explains the other's decisions.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts etcd")
	}
	etcd := storetest.StartEtcd(t)
	root := newRoot(t)
	var instances []*world
	for range 2 {
		st, err := open.URL(t.Context(), "etcd://"+strings.TrimPrefix(etcd.Endpoint, "http://")+"/vault")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		instances = append(instances, newWorld(t, setup{store: st, root: root}))
	}
	a, b := instances[0], instances[1]
	a.must(t, "POST", "/keys/k/create", object{"kty": "oct-HSM", "attributes": exportable, "release_policy": policy()})
	const rounds = 12
	var mu sync.Mutex
	var made, decisions []string
	var wg sync.WaitGroup
	for i, w := range []*world{a, b, a, b} {
		wg.Go(func() {
			for n := range rounds {
				made1 := w.must(t, "POST", "/keys/k/rotate", nil).get("key.kid")
				tag := fmt.Sprintf("t%d-%d", i, n)
				w.must(t, "PATCH", strings.TrimPrefix(made1, vaultURL), object{"tags": object{"at": tag}})
				released := w.must(t, "POST", "/keys/k/release", object{"target": w.target(t, nil)})
				mu.Lock()
				made = append(made, made1+" "+tag)
				decisions = append(decisions, released.header.Get(rest.ReleaseHeader))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, w := range instances {
		if got := len(w.follow(t, "/keys/k/versions?api-version=7.4", 25)); got != 4*rounds+1 {
			t.Errorf("%d versions, not %d", got, 4*rounds+1)
		}
		for _, m := range made {
			kid, tag, _ := strings.Cut(m, " ")
			if got := w.must(t, "GET", strings.TrimPrefix(kid, vaultURL), nil); got.get("tags.at") != tag {
				t.Errorf("%s has %s, not %s", kid, got.body, tag)
			}
		}
		for _, id := range decisions {
			if got := w.must(t, "GET", "/releases/"+id, nil); got.get("allowed") != "true" {
				t.Errorf("decision %s: %s", id, got.body)
			}
		}
	}
}
