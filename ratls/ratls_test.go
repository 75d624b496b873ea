// SPDX-License-Identifier: Apache-2.0

package ratls

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/check"
)

// server is a server under test.
type server struct{ URL string }

// startServer serves with a configuration until the test ends.
func startServer(t testing.TB, c *tls.Config, h http.Handler) *server {
	t.Helper()
	c = c.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = s.Serve(l) }()      // ends with Close
	t.Cleanup(func() { _ = s.Close() }) // at the end
	return &server{"https://" + l.Addr().String()}
}

func httpClient(t testing.TB, c *tls.Config) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

func get(t testing.TB, c *http.Client, url string) (string, *tls.ConnectionState, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", nil, err
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), resp.TLS, errors.Join(err, resp.Body.Close())
}

// TestMutual connects guest a to guest b, and a laptop without identity to a server that lets anybody in.
func TestMutual(t *testing.T) {
	t.Parallel()
	a, b := guests(t)
	clients := NewPeers(trusts(a))
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := clients.Verdict(r.TLS)
		if v == nil || !v.Accepted() || !v.Simulated {
			t.Errorf("the client's verdict is %+v", v)
		}
		_, _ = io.WriteString(w, "hello") // the client reads it
	})
	s := startServer(t, identity(t, b).Server(clients), hello)
	servers := NewPeers(trusts(b))
	body, state, err := get(t, httpClient(t, identity(t, a).Client(servers)), s.URL)
	if err != nil || body != "hello" {
		t.Fatalf("%q, %v", body, err)
	}
	if v := servers.Verdict(state); v == nil || v.Report == nil {
		t.Errorf("the server's verdict is %+v", v)
	}
	if _, _, err := get(t, httpClient(t, servers.Client()), s.URL); err == nil {
		t.Error("a client without identity got in")
	}
	if _, _, err := get(t, httpClient(t, identity(t, b).Client(servers)), s.URL); err == nil {
		t.Error("another guest got in")
	}
	open := startServer(t, identity(t, b).Server(nil), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "open") // the client reads it
	}))
	if body, _, err := get(t, httpClient(t, servers.Client()), open.URL); err != nil || body != "open" {
		t.Errorf("%q, %v", body, err)
	}
	var nobody *Peers
	if _, _, err := get(t, httpClient(t, nobody.Client()), open.URL); err == nil {
		t.Error("who accepts nobody connected")
	}
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	a, b := guests(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(identity(t, b).Server(NewPeers(trusts(a))))))
	healthpb.RegisterHealthServer(srv, health.NewServer())
	go func() { _ = srv.Serve(l) }() // ends with Stop
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(identity(t, a).Client(NewPeers(trusts(b))))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // at the end
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	}
}

// certificate signs what it is told with a key of its own.
func certificate(t testing.TB, change func(c *x509.Certificate, key *ecdsa.PrivateKey)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	change(c, key)
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func spkiOf(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// made returns the extension that a guest makes for a key, changed.
func made(t testing.TB, g *guest, src evidence.Source, claims []byte, change func(*evidence.Document)) pkix.Extension {
	t.Helper()
	doc, err := g.evidence(t.Context(), src, []byte("a nonce of the guest"), claims)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(doc)
	}
	b, err := doc.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return newExtension(b, claims)
}

// TestRefused is the table of certificates that must not be accepted.
func TestRefused(t *testing.T) {
	t.Parallel()
	a, b := guests(t)
	peers := NewPeers(trusts(a))
	quote, err := os.ReadFile(testcap.Vectors(t, "tdx/t1-v4-b0c06f/tdx_quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(e func(claims []byte) pkix.Extension) func(*x509.Certificate, *ecdsa.PrivateKey) {
		return func(c *x509.Certificate, key *ecdsa.PrivateKey) {
			c.ExtraExtensions = []pkix.Extension{e(claimsOf(spkiOf(t, key), time.Now().Add(time.Hour), nil))}
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*x509.Certificate, *ecdsa.PrivateKey)
		want   string
	}{
		"no evidence":   {func(*x509.Certificate, *ecdsa.PrivateKey) {}, "carries no evidence"},
		"another guest": {with(func(cl []byte) pkix.Extension { return made(t, b, evidence.SourceWorkload, cl, nil) }), "MEASUREMENT_NOT_TRUSTED"},
		"another key": {with(func([]byte) pkix.Extension {
			return made(t, a, evidence.SourceWorkload, claimsOf(spkiOf(t, other), time.Now().Add(time.Hour), nil), nil)
		}), "the evidence is for another key"},
		"made for the host": {with(func(cl []byte) pkix.Extension { return made(t, a, evidence.SourceHost, cl, nil) }), "SOURCE_MISMATCH"},
		"made for the host, says otherwise": {with(func(cl []byte) pkix.Extension {
			return made(t, a, evidence.SourceHost, cl, func(d *evidence.Document) { d.Source = evidence.SourceWorkload })
		}), "REPORT_DATA_MISMATCH"},
		"other claims beside it": {with(func(cl []byte) pkix.Extension {
			e := made(t, a, evidence.SourceWorkload, claimsOf(spkiOf(t, other), time.Now().Add(time.Hour), nil), nil)
			at, err := parseExtension(&x509.Certificate{Extensions: []pkix.Extension{e}})
			if err != nil {
				t.Fatal(err)
			}
			return newExtension(at.evidence, cl)
		}), "commits to other claims"},
		"other claims in it": {with(func(cl []byte) pkix.Extension {
			e := made(t, a, evidence.SourceWorkload, claimsOf(spkiOf(t, other), time.Now().Add(time.Hour), nil), func(d *evidence.Document) { d.RuntimeData = cl })
			at, err := parseExtension(&x509.Certificate{Extensions: []pkix.Extension{e}})
			if err != nil {
				t.Fatal(err)
			}
			return newExtension(at.evidence, cl)
		}), "REPORT_DATA_MISMATCH"},
		"somebody's quote": {with(func(cl []byte) pkix.Extension { return newExtension(quote, cl) }), "REPORT_DATA_MISMATCH"},
		"no quote":         {with(func(cl []byte) pkix.Extension { return newExtension([]byte{3, 0, 2, 0, 9, 0, 0, 0}, cl) }), "neither a document nor a quote"},
		"nothing":          {with(func(cl []byte) pkix.Extension { return newExtension(nil, cl) }), "neither a document nor a quote"},
		"no CBOR":          {with(func([]byte) pkix.Extension { return pkix.Extension{Id: oid, Value: []byte("x")} }), "no CBOR"},
		"another tag":      {with(func([]byte) pkix.Extension { return pkix.Extension{Id: oid, Value: []byte{0xc1, 0x01}} }), "no array under the tag"},
		"claims no map":    {with(func([]byte) pkix.Extension { return newExtension(quote, []byte{1}) }), "no CBOR map"},
		"claims empty":     {with(func([]byte) pkix.Extension { return newExtension(quote, []byte{0xa0}) }), "have no pubkey-hash"},
		"stolen key, longer": {func(c *x509.Certificate, key *ecdsa.PrivateKey) {
			c.ExtraExtensions = []pkix.Extension{made(t, a, evidence.SourceWorkload, claimsOf(spkiOf(t, key), time.Now().Add(time.Minute), nil), nil)}
		}, "but the evidence is for a key until"},
		"for ever": {func(c *x509.Certificate, key *ecdsa.PrivateKey) {
			c.ExtraExtensions = []pkix.Extension{made(t, a, evidence.SourceWorkload, claimsOf(spkiOf(t, key), time.Time{}, nil), nil)}
		}, "the key could be used for ever"},
		"for years": {func(c *x509.Certificate, key *ecdsa.PrivateKey) {
			c.ExtraExtensions = []pkix.Extension{made(t, a, evidence.SourceWorkload, claimsOf(spkiOf(t, key), time.Now().AddDate(3, 0, 0), nil), nil)}
		}, "later than"},
		"answer to a challenge": {func(c *x509.Certificate, key *ecdsa.PrivateKey) {
			c.ExtraExtensions = []pkix.Extension{made(t, a, evidence.SourceWorkload, claimsOf(spkiOf(t, key), time.Time{}, []byte("secret")), nil)}
		}, "the key could be used for ever"},
		"expired":           {func(c *x509.Certificate, _ *ecdsa.PrivateKey) { c.NotAfter = time.Now().Add(-time.Second) }, "valid from"},
		"not yet":           {func(c *x509.Certificate, _ *ecdsa.PrivateKey) { c.NotBefore = time.Now().Add(time.Minute) }, "valid from"},
		"valid for a year":  {func(c *x509.Certificate, _ *ecdsa.PrivateKey) { c.NotAfter = time.Now().AddDate(1, 0, 0) }, "longer than"},
		"evidence for ever": {with(func(cl []byte) pkix.Extension { return newExtension(bytes.Repeat([]byte{'{'}, maxExtension), cl) }), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if v, err := peers.Judge(t.Context(), certificate(t, c.change)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v; want %q", v, err, c.want)
			}
		})
	}
	foreign := certificate(t, func(*x509.Certificate, *ecdsa.PrivateKey) {})
	foreign.RawIssuer = []byte("other")
	if _, err := peers.Judge(t.Context(), foreign); err == nil || !strings.Contains(err.Error(), "not self-signed") {
		t.Errorf("%v", err)
	}
	good := certificate(t, with(func(cl []byte) pkix.Extension { return made(t, a, evidence.SourceWorkload, cl, nil) }))
	if _, err := peers.Judge(t.Context(), good); err != nil {
		t.Errorf("the base of the table: %v", err)
	}
	zero := NewPeers(PeersOptions{})
	var refused *RefusedError
	if _, err := zero.Judge(t.Context(), good); !errors.As(err, &refused) {
		t.Errorf("zero options: %v", err)
	}
	picky := trusts(a)
	picky.Accept = func(*verify.Verdict) error { return errors.New("not today") }
	if _, err := NewPeers(picky).Judge(t.Context(), good); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Errorf("%v", err)
	}
}

// TestRenewal has an identity be replaced when half of its life is over, and survive an attester that fails for a while.
func TestRenewal(t *testing.T) {
	t.Parallel()
	a, _ := guests(t)
	now := time.Now()
	clock := &now
	f := &failing{Attester: a}
	i, err := NewIdentity(t.Context(), IdentityOptions{Attester: f, Now: func() time.Time { return *clock }})
	if err != nil {
		t.Fatal(err)
	}
	serial := func(after time.Duration) *big.Int {
		t.Helper()
		later := now.Add(after)
		clock = &later
		c, err := i.certificate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber
	}
	first := serial(0)
	if serial(59*time.Minute).Cmp(first) != 0 {
		t.Error("replaced early")
	}
	f.err = errors.New("no evidence")
	if serial(61*time.Minute).Cmp(first) != 0 {
		t.Error("replaced by nothing")
	}
	f.err = nil
	if serial(62*time.Minute).Cmp(first) == 0 {
		t.Error("not replaced")
	}
	f.err = errors.New("no evidence")
	later := now.Add(24 * time.Hour)
	clock = &later
	if _, err := i.certificate(t.Context()); !errors.Is(err, f.err) {
		t.Errorf("an expired certificate is given: %v", err)
	}
	if _, err := NewIdentity(t.Context(), IdentityOptions{}); err == nil {
		t.Error("an identity without attester")
	}
}

type failing struct {
	Attester

	err error
}

func (f *failing) Evidence(ctx context.Context, nonce, data []byte) (*evidence.Document, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.Attester.Evidence(ctx, nonce, data)
}

// TestChallenge asks a server for evidence of now; a server in the middle, which is attested itself, can not pass on
// another's answer.
func TestChallenge(t *testing.T) {
	t.Parallel()
	a, b := guests(t)
	id := identity(t, b)
	mux := http.NewServeMux()
	mux.Handle(ChallengePath, id.Handler())
	s := startServer(t, id.Server(nil), mux)
	peers := NewPeers(trusts(a, b))
	client := httpClient(t, peers.Client())
	v, err := peers.Challenge(t.Context(), client, s.URL)
	if err != nil || !v.Accepted() {
		t.Fatalf("%+v, %v", v, err)
	}
	middle := startServer(t, identity(t, a).Server(nil), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), r.Method, s.URL+r.URL.Path, r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(w, resp.Body) // the client reads it
		_ = resp.Body.Close()        // read
	}))
	var refused *RefusedError
	if _, err := peers.Challenge(t.Context(), httpClient(t, peers.Client()), middle.URL); !errors.As(err, &refused) {
		t.Errorf("an answer that was passed on: %v", err)
	} else if !slices.ContainsFunc(refused.Verdict.Failures(), func(c check.Check) bool { return c.Code == "RUNTIME_DATA_MISMATCH" }) {
		t.Errorf("%v", err)
	}
	for name, body := range map[string]string{"short": "x", "long": strings.Repeat("x", evidence.MaxNonceSize+1)} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+ChallengePath, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // not read
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s nonce: %s", name, resp.Status)
		}
	}
	if _, _, err := get(t, client, s.URL+ChallengePath); err != nil {
		t.Error(err)
	}
	if _, err := peers.Challenge(t.Context(), client, s.URL+"/elsewhere"); err == nil {
		t.Error("an answer 404 is taken")
	}
}

func FuzzExtension(f *testing.F) {
	f.Add([]byte("x"))
	f.Add(newExtension([]byte("{}"), claimsOf([]byte("key"), time.Unix(7, 0), nil)).Value)
	f.Add(newExtension(make([]byte, 8), claimsOf([]byte("key"), time.Time{}, []byte("e"))).Value)
	f.Fuzz(func(t *testing.T, b []byte) {
		at, err := parseExtension(&x509.Certificate{Extensions: []pkix.Extension{{Id: oid, Value: b}}})
		if err != nil {
			return
		}
		if again := newExtension(at.evidence, at.claims).Value; !bytes.Equal(again, b) {
			t.Errorf("%x is written as %x", b, again)
		}
		_ = checkClaims(at.claims, []byte("key")) // must not panic
		_, _, _ = at.document()                   // must not panic
	})
}

// impatient makes evidence only for who still waits.
type impatient struct{ Attester }

// Evidence implements Attester.
func (i impatient) Evidence(ctx context.Context, nonce, data []byte) (*evidence.Document, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return i.Attester.Evidence(ctx, nonce, data)
}

// TestRenewalOutlivesHandshake has peers that hang up delay no renewal.
func TestRenewalOutlivesHandshake(t *testing.T) {
	t.Parallel()
	a, _ := guests(t)
	now := time.Now()
	clock := now
	i, err := NewIdentity(t.Context(), IdentityOptions{Attester: impatient{a}, Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	first, err := i.certificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	clock = now.Add(90 * time.Minute)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := i.certificate(gone); err != nil || c == first {
		t.Errorf("not renewed: %v", err)
	}
}
