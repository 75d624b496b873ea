// SPDX-License-Identifier: Apache-2.0

package kds

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/collateral"
	"cofferdam.dev/collateral/cache"
	"cofferdam.dev/collateral/remote"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// newProcessor makes a root, which takes seconds.
func newProcessor(t *testing.T) (*simsp.Processor, string) {
	t.Helper()
	if testing.Short() {
		t.Skip("makes RSA-4096 keys")
	}
	dir := t.TempDir()
	p, err := simsp.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p, dir
}

// clock is a clock that pauses move.
type clock struct {
	mu     sync.Mutex
	at     time.Time
	pauses int
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) sleep(_ context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	c.pauses++
	return nil
}

// source returns a client of the service behind a cache.
func source(t *testing.T, h http.Handler, clk *clock) collateral.Source {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	fetcher := remote.Fetcher{HTTP: server.Client(), Now: clk.now, Sleep: clk.sleep, Timeout: time.Hour}
	c, err := cache.Open(cache.Options{Dir: t.TempDir(), Source: &remote.KDS{Fetcher: fetcher, BaseURL: server.URL}, Now: clk.now})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bareDocument launches a guest and returns its report without any certificate, with options that accept it once there
// are some.
func bareDocument(t *testing.T, p *simsp.Processor) (*evidence.Document, verify.Options) {
	t.Helper()
	dir := t.TempDir()
	l := simsp.Launch{
		KernelPath: filepath.Join(dir, "kernel"), InitrdPath: filepath.Join(dir, "initrd"), VCPUs: 1,
		HostData: sha256.Sum256([]byte("policy")), Policy: snp.DefaultGuestPolicy,
	}
	for _, path := range []string{l.KernelPath, l.InitrdPath} {
		if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g, err := p.Launch(l)
	if err != nil {
		t.Fatal(err)
	}
	host, guest := net.Pipe()
	go func() { _ = g.Serve(t.Context(), host) }()
	t.Cleanup(func() { _ = guest.Close() })
	nonce := []byte("sixteen bytes 16")
	r, err := attest.OpenSimulated(guest).Report(t.Context(), evidence.ReportData(evidence.SourceHost, nonce, nil))
	if err != nil {
		t.Fatal(err)
	}
	ark, _ := p.Chain()
	root, err := anchor.NewRoot(anchor.Simulated, "local", ark)
	if err != nil {
		t.Fatal(err)
	}
	m := g.Measurement()
	doc := &evidence.Document{Type: r.Type, Report: r.Report, Source: evidence.SourceHost, Nonce: nonce, Policy: []byte("policy")}
	return doc, verify.Options{
		Roots: []anchor.Root{root}, AllowSimulated: true, Now: time.Now(), Measurements: [][]byte{m[:]},
		HostData: [][32]byte{l.HostData}, Source: evidence.SourceHost, Nonce: nonce,
		SNP: amd.Policy{MinimumTCB: amd.DefaultMinimumTCB(), RequireRevocation: true},
	}
}

// TestVerifyWithService judges a report that came without certificates: all of them, and the revocation list, come from
// the service, which is as slow as AMD's.
func TestVerifyWithService(t *testing.T) {
	t.Parallel()
	p, dir := newProcessor(t)
	doc, opts := bareDocument(t, p)
	clk := &clock{at: time.Now()}
	if v := verify.Appraise(t.Context(), doc, opts); v.Outcome != verify.Undecided {
		t.Fatalf("without the service the outcome is %s, not undecided", v.Outcome)
	}
	opts.Collateral = source(t, New(p, Options{Pace: 10 * time.Second, Now: clk.now}), clk)
	for range 2 {
		if v := verify.Appraise(t.Context(), doc, opts); v.Outcome != verify.Accepted {
			t.Fatalf("outcome is %s: %+v", v.Outcome, v.Checks)
		}
	}
	if clk.pauses == 0 {
		t.Error("the service was never too busy")
	}

	_, err := simsp.ChangeMachine(dir, func(m *simsp.Machine) error { m.RevokedIntermediate = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	opts.Collateral = source(t, New(p, Options{}), clk)
	v := verify.Appraise(t.Context(), doc, opts)
	if v.Outcome != verify.Refused || !slices.ContainsFunc(v.Checks, func(c check.Check) bool { return c.Code == check.CodeCertificateRevoked }) {
		t.Errorf("with a revoked intermediate the outcome is %s: %+v", v.Outcome, v.Checks)
	}
}

// TestAuthorities gets chain and list of every product line and kind of key, and verifies them.
func TestAuthorities(t *testing.T) {
	t.Parallel()
	p, _ := newProcessor(t)
	src := source(t, New(p, Options{}), &clock{at: time.Now()})
	for _, line := range []snp.ProductLine{snp.Milan, snp.Genoa, snp.Turin} {
		for _, vlek := range []bool{false, true} {
			ark, _, err := p.Authority(line, vlek)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := src.Get(t.Context(), collateral.Chain(string(line), vlek)); err != nil {
				t.Error(err)
			}
			it, err := src.Get(t.Context(), collateral.CRL(string(line), vlek))
			if err != nil {
				t.Error(err)
				continue
			}
			list, err := x509.ParseRevocationList(it.Body)
			if err != nil {
				t.Fatal(err)
			}
			if err := list.CheckSignatureFrom(ark); err != nil {
				t.Errorf("%s, VLEK %v: %v", line, vlek, err)
			}
		}
		id, err := p.ChipID(line)
		if err != nil {
			t.Fatal(err)
		}
		tcb, err := snp.TCBParts{Bootloader: 3, SNP: 8, Microcode: 0x73}.TCB(line)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Get(t.Context(), collateral.VCEK(string(line), id, tcb)); err != nil {
			t.Error(err)
		}
		id[0] ^= 1
		_, err = src.Get(t.Context(), collateral.VCEK(string(line), id, tcb))
		if refusal, ok := errors.AsType[*collateral.Refusal](err); !ok || refusal.Status != http.StatusNotFound {
			t.Errorf("%s: another chip: %v", line, err)
		}
	}
}

// fake is a processor whose every certificate is the same few bytes.
type fake struct{ err error }

func (f fake) ChipID(snp.ProductLine) ([]byte, error) { return []byte{0xab, 0xcd}, f.err }

func (f fake) ChipCertificate(_ snp.ProductLine, t snp.TCB) ([]byte, error) { return t[:], f.err }

func (f fake) Authority(snp.ProductLine, bool) (ark, intermediate *x509.Certificate, err error) {
	return &x509.Certificate{Raw: []byte("root")}, &x509.Certificate{Raw: []byte("intermediate")}, f.err
}

func (f fake) CRL(snp.ProductLine, bool) ([]byte, error) { return []byte("list"), f.err }

func TestRequests(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]struct {
		status int
		body   string
	}{
		"GET /vcek/v1/Milan/crl":          {200, "list"},
		"GET /vlek/v1/Turin/crl":          {200, "list"},
		"HEAD /vcek/v1/Milan/crl":         {200, ""},
		"POST /vcek/v1/Milan/crl":         {405, "Method Not Allowed\n"},
		"GET /vcek/v1/milan/crl":          {404, "404 page not found\n"},
		"GET /vcek/v1/Bergamo/crl":        {404, "404 page not found\n"},
		"GET /vcek/v2/Milan/crl":          {404, "404 page not found\n"},
		"GET /vlek/v1/Milan/cert":         {404, "404 page not found\n"},
		"GET /vcek/v1/Milan/crl?x=1":      {400, "there is no query in such a request\n"},
		"GET /vlek/v1/Milan/cert_chain?x": {400, "there is no query in such a request\n"},
		"GET /vcek/v1/Milan/abcd?blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219":           {200, "\x04\x00\x00\x00\x00\x00\x18\xdb"},
		"GET /vcek/v1/Turin/abcd?fmcSPL=1&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=05": {200, "\x01\x02\x03\x04\x00\x00\x00\x05"},
		"GET /vcek/v1/Milan/ABCD?blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219":           {404, "404 page not found\n"},
		"GET /vcek/v1/Milan/abce?blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219":           {404, "404 page not found\n"},
		"GET /vcek/v1/Milan/abcd?teeSPL=0&snpSPL=24&ucodeSPL=219":                   {400, "blSPL is given 0 times, not once\n"},
		"GET /vcek/v1/Milan/abcd?blSPL=4&blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219":   {400, "blSPL is given 2 times, not once\n"},
		"GET /vcek/v1/Milan/abcd?blSPL=256&teeSPL=0&snpSPL=24&ucodeSPL=219":         {400, "blSPL is not a number from 0 to 255\n"},
		"GET /vcek/v1/Milan/abcd?blSPL=-1&teeSPL=0&snpSPL=24&ucodeSPL=219":          {400, "blSPL is not a number from 0 to 255\n"},
		"GET /vcek/v1/Milan/abcd?fmcSPL=1&blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219":  {400, "the query has parameters that Milan does not have\n"},
		"GET /vcek/v1/Turin/abcd?blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219":           {400, "fmcSPL is given 0 times, not once\n"},
		"GET /vcek/v1/Milan/abcd?%zz":                                               {400, "the query is malformed\n"},
	} {
		method, path, _ := strings.Cut(target, " ")
		rec := httptest.NewRecorder()
		New(fake{}, Options{}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		if rec.Code != want.status || method != http.MethodHead && rec.Body.String() != want.body {
			t.Errorf("%s: %d %q, want %d %q", target, rec.Code, rec.Body, want.status, want.body)
		}
	}
}

func TestFailuresSayNothing(t *testing.T) {
	t.Parallel()
	h := New(fake{err: errors.New("secret path")}, Options{})
	for _, path := range []string{"/vcek/v1/Milan/crl", "/vcek/v1/Milan/cert_chain", "/vcek/v1/Milan/abcd?blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219"} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		body, err := io.ReadAll(rec.Body)
		if err != nil || rec.Code != http.StatusInternalServerError || string(body) != "internal error\n" {
			t.Errorf("%s: %d %q, %v", path, rec.Code, body, err)
		}
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	clk := &clock{at: time.Unix(1_800_000_000, 0)}
	h := New(fake{}, Options{Pace: 10 * time.Second, Now: clk.now})
	for _, c := range []struct {
		after  time.Duration
		status int
		retry  string
	}{{0, 200, ""}, {time.Second, 429, "9"}, {8500 * time.Millisecond, 429, "1"}, {500 * time.Millisecond, 200, ""}, {0, 429, "10"}} {
		clk.at = clk.at.Add(c.after)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/vcek/v1/Milan/crl", nil))
		if rec.Code != c.status || rec.Header().Get("Retry-After") != c.retry {
			t.Errorf("after %s: %d, Retry-After %q; want %d, %q", c.after, rec.Code, rec.Header().Get("Retry-After"), c.status, c.retry)
		}
	}
}
