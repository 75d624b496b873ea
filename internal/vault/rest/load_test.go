// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/serve"
)

const (
	loadClients = 64
	loadKeys    = 10
)

// TestLoad has many clients release many keys at a time, while the keys are rotated and read, and half of the requests have a token
// that the policy does not permit. Each answer is the right one, and each decision is in the audit log.
func TestLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.tokens["client"] = w.tokens["operator"]
	for i := range loadKeys {
		w.must(t, "POST", fmt.Sprintf("/keys/k%d/create", i), object{"kty": "oct-HSM", "attributes": exportable, "release_policy": policy()})
	}
	base := w.listen(t)
	good, err := json.Marshal(object{"target": w.target(t, nil), "enc": "RSA_AES_KEY_WRAP_256", "nonce": "n"})
	if err != nil {
		t.Fatal(err)
	}
	bad, err := json.Marshal(object{"target": w.target(t, func(c object) { c["a"] = "x" }), "enc": "RSA_AES_KEY_WRAP_256"})
	if err != nil {
		t.Fatal(err)
	}
	var released, denied atomic.Int64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: loadClients}, Timeout: time.Minute}
	t.Cleanup(client.CloseIdleConnections)
	ask := func(method, path string, body []byte) answer {
		a, err := exchange(t.Context(), client, method, base+path+"?api-version=7.4", body)
		if err != nil {
			t.Error(err)
		}
		return a
	}
	var wg sync.WaitGroup
	for c := range loadClients {
		wg.Go(func() {
			for i := range loadKeys {
				key := fmt.Sprintf("/keys/k%d", (c+i)%loadKeys)
				if (c+i)%2 == 0 {
					if a := ask("POST", key+"/release", bad); a.status != 403 || a.inner() != "AccessDenied" {
						t.Errorf("denied: %d %s", a.status, a.body)
					}
					denied.Add(1)
					continue
				}
				a := ask("POST", key+"/release", good)
				if a.status != 200 {
					t.Errorf("released: %d %s", a.status, a.body)
					continue
				}
				released.Add(1)
				if got := unwrap(t, w.open(t, a), "response.key.key.key_hsm", "RSA_AES_KEY_WRAP_256"); len(got) != 32 {
					t.Errorf("a key of %d bytes", len(got))
				}
				if c%16 == 0 {
					if a := ask("POST", key+"/rotate", nil); a.status != 200 {
						t.Errorf("rotated: %d %s", a.status, a.body)
					}
					if a := ask("GET", key+"/versions", nil); a.status != 200 {
						t.Errorf("listed: %d %s", a.status, a.body)
					}
				}
			}
		})
	}
	wg.Wait()
	count := w.audited(t)
	if count["key.release allow"] != int(released.Load()) || count["key.release deny"] != int(denied.Load()) || released.Load()+denied.Load() != loadClients*loadKeys {
		t.Errorf("%d released, %d denied; the audit log has %v", released.Load(), denied.Load(), count)
	}
	if w.log.Len() > 0 {
		t.Errorf("the log has %s", w.log)
	}
}

// listen serves the vault on a socket of this machine, and returns its URL.
func (w *world) listen(t testing.TB) string {
	t.Helper()
	srv, err := serve.New(t.Context(), serve.Options{Name: "vault", Address: "127.0.0.1:0", Handler: w.handler})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + srv.Addr()
}

func exchange(ctx context.Context, client *http.Client, method, url string, body []byte) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Authorization", "Bearer client")
	res, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(b)}, err
}

// BenchmarkRelease releases a key to a guest, with an audit log and a store that are synced to disk, from several clients at once, as
// in use. What a processor core does in a second can be compared on a shared machine.
func BenchmarkRelease(b *testing.B) {
	for _, kty := range []string{"oct-HSM", "RSA-HSM"} {
		b.Run(kty, func(b *testing.B) {
			w := newWorld(b, setup{})
			w.must(b, "POST", "/keys/k/create", object{"kty": kty, "attributes": exportable, "release_policy": policy()})
			body, err := json.Marshal(object{"target": w.target(b, nil), "enc": "RSA_AES_KEY_WRAP_256"})
			if err != nil {
				b.Fatal(err)
			}
			begin := processorTime(b)
			b.SetParallelism(16)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r := httptest.NewRequestWithContext(context.Background(), "POST", "/keys/k/release?api-version=7.4", bytes.NewReader(body))
					r.Header.Set("Authorization", "Bearer operator")
					rec := httptest.NewRecorder()
					if w.handler.ServeHTTP(rec, r); rec.Code != http.StatusOK {
						b.Error(rec.Body)
					}
				}
			})
			took := processorTime(b) - begin
			b.ReportMetric(float64(took)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/took.Seconds(), "ops/cpu-s")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
