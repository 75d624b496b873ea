// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/vault"
	"cofferdam.dev/release"
)

const (
	loadClients = 64
	loadKeys    = 10
)

// TestLoad has many clients get many keys at a time, while wrapping keys and tokens change, and each gets what it asked for.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Parallel()
	w := theWorld(t)
	yes := true
	for i := range loadKeys {
		m, err := vault.NewMaterial(fmt.Appendf(nil, "the key with number %02d, 32 bytes.", i)[:32])
		if err != nil {
			t.Fatal(err)
		}
		r := vault.KeyRequest{HSM: true, Attributes: vault.AttributeChange{Exportable: &yes}, Policy: policy(w.hostData)}
		if _, err = w.vault.ImportKey(t.Context(), fmt.Sprintf("load-%d", i), m, r); err != nil {
			t.Fatal(err)
		}
	}
	s := w.sidecar(t, func(_ *Options, c *release.Options) { c.SessionUses = 150 })
	attested := w.attested.Load()
	var wg sync.WaitGroup
	for c := range loadClients {
		wg.Go(func() {
			for k := range loadKeys {
				i := (k + c) % loadKeys
				a := call(t, s, "/key/release", w.asks(fmt.Sprintf("load-%d", i)))
				want := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "the key with number %02d, 32 bytes.", i)[:32])
				if a.status != http.StatusOK || !strings.Contains(a.text("key"), `"k":"`+want+`"`) {
					t.Errorf("client %d, key %d: %v", c, i, a)
				}
			}
		})
	}
	wg.Wait()
	// Other tests attest, too: only the lower bound is exact.
	if n := w.attested.Load() - attested; n < loadClients*loadKeys/150 {
		t.Errorf("attested %d times", n)
	}
}

// serversEnv makes the test program the attestation service and the vault, so that a benchmark measures the sidecar alone.
const serversEnv = "COFFERDAM_TEST_SKR_SERVERS"

// others is where they are.
type others struct {
	Attestation, Vault string
	Roots              []byte
}

// serveOthers serves until standard input ends.
func serveOthers(dir string) int {
	state, err := os.MkdirTemp(dir, "servers")
	if err != nil {
		panic(err)
	}
	w, err := newWorld(dir, state)
	if err != nil {
		panic(err)
	}
	o := others{Attestation: w.attestation.URL, Vault: w.vaultServer.URL, Roots: w.releaseCA}
	for _, s := range []*httptest.Server{w.attestation, w.vaultServer} {
		o.Roots = append(o.Roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})...)
	}
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
		panic(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with whoever started us
	return 0
}

// elsewhere starts the servers in a process of their own, and returns a world with this process's guest.
func elsewhere(b *testing.B) (*world, *others) {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "machine")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	w, _, err := newMachine(dir)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), serversEnv+"="+dir)
	cmd.Stderr = os.Stderr
	if _, err = cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	o := &others{}
	if err != nil || json.Unmarshal(line, o) != nil {
		b.Fatalf("the servers did not start: %v", err)
	}
	w.roots = x509.NewCertPool()
	w.roots.AppendCertsFromPEM(o.Roots)
	return w, o
}

// BenchmarkSidecarRelease has keys released as applications do, with the attestation service and the vault in another process. It
// reports the processor time of the sidecar, keys that are made beforehand included: once with wrapping keys of a pool that
// are used for as long as they are by default, once with an RSA key and a token for each release, as other sidecars have
// them, and the same with the hybrid format.
func BenchmarkSidecarRelease(b *testing.B) {
	w, o := elsewhere(b)
	for _, c := range []struct {
		name   string
		life   time.Duration
		format string
	}{{"pool", 0, release.DefaultFormat}, {"per-request", -1, release.DefaultFormat}, {"per-request-hybrid", -1, release.FormatHybrid}} {
		b.Run(c.name, func(b *testing.B) {
			pool, err := release.NewPool(2, 0)
			if err != nil {
				b.Fatal(err)
			}
			begin := processorTime(b)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() {
				if c.life < 0 {
					done <- nil
					return
				}
				done <- pool.Run(ctx)
			}()
			s := w.sidecar(b, func(_ *Options, r *release.Options) { r.Pool, r.SessionLife, r.Roots = pool, c.life, w.roots })
			body := map[string]string{"maa_endpoint": o.Attestation, "akv_endpoint": o.Vault, "kid": "oct", "access_token": "releaser", "format": c.format}
			for b.Loop() {
				if a := call(b, s, "/key/release", body); a.status != http.StatusOK {
					b.Fatal(a)
				}
			}
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64((processorTime(b)-begin).Microseconds())/1000/float64(b.N), "cpu-ms/release")
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
