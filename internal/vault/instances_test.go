// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"cofferdam.dev/internal/store/etcdstore"
	"cofferdam.dev/internal/store/storetest"
)

// TestInstances has three instances on one etcd change the same keys at once: no version is lost, and each object is always
// in one state.
func TestInstances(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a server")
	}
	server := storetest.StartEtcd(t)
	root := newRoot(t)
	var instances []*world
	for range 3 {
		s, err := etcdstore.New(server.Client(t), "vault/")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		instances = append(instances, newWorldOn(t, s, func(o *Options) { o.Root = root }))
	}
	ctx := t.Context()
	r := exportable()
	r.Type = ECHSM
	makeKeys(t, instances[0], map[string]KeyRequest{"rotated": r, "moved": {Type: EC}})
	const rounds = 12
	var mu sync.Mutex
	versions := map[string]bool{}
	var wg sync.WaitGroup
	for i, w := range instances {
		wg.Go(func() {
			for n := range rounds {
				k, err := w.RotateKey(ctx, "rotated")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				versions[k.Version] = true
				mu.Unlock()
				text := strings.Replace(policyText, `"equals":"builder"`, fmt.Sprintf(`"equals":"role-%d-%d"`, i, n), 1)
				if _, err := w.UpdateKey(ctx, "rotated", "", KeyUpdate{Policy: &ReleasePolicy{Data: []byte(text)}}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range rounds {
				for _, do := range []func() error{
					func() error { _, err := w.DeleteKey(ctx, "moved"); return err },
					func() error { _, err := w.RecoverKey(ctx, "moved"); return err },
					func() error { _, err := w.RotateKey(ctx, "moved"); return err },
				} {
					var refusal *Error // another instance was quicker
					if err := do(); err != nil && !errors.As(err, &refusal) {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	found := 0
	for after := ""; ; {
		page, next, err := instances[0].KeyVersions(ctx, "rotated", after, MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page {
			found++
			delete(versions, k.Version)
		}
		if after = next; after == "" {
			break
		}
	}
	if found != 3*rounds+1 || len(versions) != 0 {
		t.Errorf("%d versions are there, and lost are %v", found, versions)
	}
	for _, w := range instances {
		p, err := w.picture(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(p.Keys["rotated"].Policy, "role-") || len(p.Keys) != 2 {
			t.Errorf("the vault has %+v", p.Keys)
		}
	}
}
