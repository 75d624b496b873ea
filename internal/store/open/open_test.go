// SPDX-License-Identifier: Apache-2.0

package open_test

import (
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/open"
	"cofferdam.dev/internal/store/storetest"
)

func TestURL(t *testing.T) {
	server := storetest.StartEtcd(t)
	for name, url := range map[string]string{
		"bolt": "bolt:" + filepath.Join(t.TempDir(), "new", "store.db"),
		"etcd": "etcd://" + strings.TrimPrefix(server.Endpoint, "http://") + "/test/here",
	} {
		t.Run(name, func(t *testing.T) {
			s, err := open.URL(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			if err = s.Update(t.Context(), func(tx store.Tx) error { return tx.Put("a", []byte("1")) }); err != nil {
				t.Error(err)
			}
			if err = s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBadURL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ url, want string }{
		"no scheme":         {"/var/x.db", "want bolt:PATH or etcd"},
		"empty":             {"", "want bolt:PATH or etcd"},
		"bolt without path": {"bolt:", "want bolt:PATH"},
		"bolt with host":    {"bolt://host/x", "want bolt:PATH"},
		"etcd elsewhere":    {"etcd://10.0.0.1:2379/p", "only 127.0.0.1"},
		"etcd by name":      {"etcd://localhost:2379/p", "only 127.0.0.1"},
		"etcd prefix":       {"etcd://127.0.0.1:2379/", "want etcd://"},
		"etcd port":         {"etcd://127.0.0.1/p", "missing port"},
		"etcd password":     {"etcd://u:p@127.0.0.1:2379/p", "instead of a password"},
		"half of TLS":       {"etcd://127.0.0.1:2379/p?ca=x", "go together"},
		"unknown parameter": {"etcd://127.0.0.1:2379/p?insecure=1", `parameter "insecure"`},
		"missing files":     {"etcd://127.0.0.1:2379/p?ca=/nowhere&cert=/nowhere&key=/nowhere", "/nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := open.URL(t.Context(), c.url); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
