// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"cofferdam.dev/internal/serve"
)

// loadEnv says for how long the load test runs, in the form of time.ParseDuration. Without it, it is a few seconds.
const loadEnv = "COFFERDAM_TEST_LOAD"

// heapLimit bounds the memory of service and clients together, in bytes.
const heapLimit = 192 << 20

// load is a service on a socket of this machine, with clients of both kinds.
type load struct {
	t       *testing.T
	address string
	body    []byte
	set     jwk.Set

	good, verified, hostile atomic.Int64
	answers                 sync.Map // of hostile requests: kind and status → *atomic.Int64
	slowly                  sync.WaitGroup
}

// TestLoad saturates a service with good requests, one in twenty of which is hostile: oversized, slow, malformed, deeply
// nested, or cut off. No good request fails, and memory stays within its bound.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs for some seconds")
	}
	long := 3 * time.Second
	if v := os.Getenv(loadEnv); v != "" {
		var err error
		if long, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	l := startLoad(t)
	ctx, cancel := context.WithTimeout(t.Context(), max(20*long, 5*time.Minute))
	defer cancel()
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range 8 {
		wg.Go(func() { l.client(ctx, rand.New(rand.NewPCG(1, uint64(i)))) })
	}
	var peak uint64
	for ctx.Err() == nil && (time.Since(begin) < long || !l.enough()) { // a slow machine takes longer for as much
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapInuse)
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	took := time.Since(begin)
	cancel()
	wg.Wait()
	l.slowly.Wait() // none of which ends before the service makes it end
	t.Logf("%d good requests (%.0f/s), %d of them verified by another library; %d hostile; heap at most %d MiB", l.good.Load(),
		float64(l.good.Load())/took.Seconds(), l.verified.Load(), l.hostile.Load(), peak>>20)
	l.answers.Range(func(k, v any) bool {
		t.Logf("hostile: %v: %d", k, v.(*atomic.Int64).Load())
		return true
	})
	if !l.enough() {
		t.Error("that was no load")
	}
	if peak > heapLimit {
		t.Errorf("the heap grew to %d MiB", peak>>20)
	}
}

// enough reports whether the requests were a load.
func (l *load) enough() bool {
	return l.good.Load() >= 100 && l.verified.Load() > 0 && l.hostile.Load() > 0
}

func startLoad(t *testing.T) *load {
	t.Helper()
	f := newFixture(t, nil)
	srv, err := serve.New(t.Context(), serve.Options{
		Name: "attestation", Address: "127.0.0.1:0", Handler: f, Error: Error, Limits: serve.Limits{Body: 256 << 10},
	})
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
	l := &load{t: t, address: srv.Addr(), body: asJSON(t, theWorld(t).body(t, runtimeJSON))}
	if l.set, err = jwk.Fetch(t.Context(), "http://"+l.address+"/certs"); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *load) client(ctx context.Context, r *rand.Rand) {
	url := "http://" + l.address + attestSNP + "&form=maa-es256"
	for i := 1; ctx.Err() == nil; i++ {
		if r.IntN(20) == 0 {
			l.attack(r)
			continue
		}
		got, err := send(l.t.Context(), http.MethodPost, url, l.body)
		if err != nil {
			l.t.Errorf("a good request: %v", err)
			return
		}
		l.good.Add(1)
		if i%20 == 0 {
			if _, err := jws.Verify([]byte(got["token"].(string)), jws.WithKeySet(l.set)); err != nil {
				l.t.Error(err)
			}
			l.verified.Add(1)
		}
	}
}

// attacks are hostile bodies, and the status that each is answered with. Zero is none: the connection ends.
var attacks = []struct {
	name   string
	status int
	body   func(good []byte) io.Reader
}{
	{"malformed", 400, func(good []byte) io.Reader { return bytes.NewReader(good[:len(good)/2]) }},
	{"nested", 400, func([]byte) io.Reader { return strings.NewReader(strings.Repeat(`{"a":[`, 30_000)) }},
	{"many members", 400, func([]byte) io.Reader { return strings.NewReader("{" + strings.Repeat(`"a":1,`, 30_000) + `"a":1}`) }},
	{"oversized", 413, func([]byte) io.Reader { return bytes.NewReader(make([]byte, 2<<20)) }},
	{"oversized, in chunks", 413, func([]byte) io.Reader { return io.LimitReader(zeros{}, 2<<20) }},
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func (l *load) attack(r *rand.Rand) {
	l.hostile.Add(1)
	i := r.IntN(len(attacks) + 1)
	if i == len(attacks) {
		l.slowly.Go(l.slow)
		return
	}
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, "http://"+l.address+attestSNP, attacks[i].body(l.body))
	if err != nil {
		l.t.Error(err)
		return
	}
	res, err := client.Do(req)
	if err != nil { // the server does not read what is too large
		l.count(attacks[i].name, 0)
		return
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	_, _ = io.Copy(io.Discard, res.Body)    // of no interest
	l.count(attacks[i].name, res.StatusCode)
	if res.StatusCode != attacks[i].status {
		l.t.Errorf("%s: status %d, not %d", attacks[i].name, res.StatusCode, attacks[i].status)
	}
}

// slow sends a request a byte at a time, and must be cut off.
func (l *load) slow() {
	c, err := net.Dial("tcp", l.address)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }() // cut off anyway
	_, err = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", attestSNP)
	for begin := time.Now(); err == nil; {
		time.Sleep(50 * time.Millisecond)
		if _, err = c.Write([]byte("{")); time.Since(begin) > 2*time.Minute {
			l.t.Error("a slow request was not cut off")
			return
		}
	}
	l.count("slow", 0)
}

func (l *load) count(name string, status int) {
	n, _ := l.answers.LoadOrStore(fmt.Sprintf("%s: status %d", name, status), new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}
