// SPDX-License-Identifier: Apache-2.0

package serve_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

// logs is a log that may be read while it is written.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// run starts a server, which ends with the test.
func run(t *testing.T, opts serve.Options) (*serve.Server, *logs, context.CancelFunc) {
	t.Helper()
	var l logs
	opts.Name, opts.Log = "test", slog.New(slog.NewTextHandler(&l, nil))
	if opts.Address == "" {
		opts.Address = "127.0.0.1:0"
	}
	s, err := serve.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, &l, cancel
}

// client does not keep connections.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}

func do(t testing.TB, method, url, body string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.Handle("POST /echo/{tenant}", serve.Route("echo", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			var large *http.MaxBytesError
			serve.Problem(w, r, http.StatusBadRequest, "Body", fmt.Sprint(errors.As(err, &large)))
			return
		}
		_, _ = w.Write(b) // the client reads it
	})))
	mux.Handle("/panic", serve.Route("panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("hush, secret") })))
	ready := errors.New("the store is gone")
	s, l, _ := run(t, serve.Options{
		Handler: mux, MetricsAddress: "127.0.0.1:0", Limits: serve.Limits{Body: 100}, Ready: func(context.Context) error { return ready },
	})
	base := "http://" + s.Addr()
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"echo":            {"POST", "/echo/contoso?key=hush", "hello", 200, "hello"},
		"large, declared": {"POST", "/echo/contoso", strings.Repeat("x", 101), 413, `"code":"RequestTooLarge"`},
		"panic":           {"GET", "/panic", "", 500, `"code":"InternalError"`},
		"health":          {"GET", "/healthz", "", 200, "ok"},
		"not ready":       {"GET", "/readyz", "", 503, "not ready"},
		"elsewhere":       {"GET", "/contoso", "", 404, ""},
		"no metrics here": {"GET", "/metrics", "", 404, ""},
	} {
		status, body, header := do(t, c.method, base+c.path, c.body)
		if status != c.status || !strings.Contains(body, c.want) || header.Get(serve.RequestIDHeader) == "" {
			t.Errorf("%s: %d %q; want %d %q", name, status, body, c.status, c.want)
		}
	}
	// A body of unknown length is cut off where the limit is.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/echo/x", io.MultiReader(strings.NewReader(strings.Repeat("x", 101))))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // not read
	if resp.StatusCode != 400 {
		t.Errorf("a body without length: %d", resp.StatusCode)
	}
	_, text, _ := do(t, "GET", "http://"+s.MetricsAddr()+"/metrics", "")
	for _, want := range []string{`route="echo"`, `route="panic"`, `route="other"`, "cofferdam_http_panics_total{role=\"test\"} 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, secret := range []string{"contoso", "hush"} {
		if strings.Contains(text, secret) || strings.Contains(l.String(), secret) {
			t.Errorf("%q is in metrics or logs", secret)
		}
	}
	if !strings.Contains(l.String(), "route=echo method=POST status=200") {
		t.Errorf("the log lacks the request:\n%s", l)
	}
}

// TestOverload holds all places, and has one client send too much.
func TestOverload(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}, 10), make(chan struct{})
	s, _, _ := run(t, serve.Options{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			entered <- struct{}{}
			<-release
		}),
		Limits: serve.Limits{Concurrent: 2},
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { do(t, "GET", "http://"+s.Addr()+"/", "") })
		<-entered
	}
	status, body, header := do(t, "GET", "http://"+s.Addr()+"/", "")
	if status != 503 || !strings.Contains(body, serve.CodeOverloaded) || header.Get("Retry-After") == "" {
		t.Errorf("%d %q", status, body)
	}
	close(release)
	wg.Wait()

	s, _, _ = run(t, serve.Options{Handler: http.NotFoundHandler(), Limits: serve.Limits{ClientRate: 0.001, ClientBurst: 3}})
	var got []int
	for range 5 {
		status, _, _ := do(t, "GET", "http://"+s.Addr()+"/", "")
		got = append(got, status)
	}
	if fmt.Sprint(got) != "[404 404 404 429 429]" {
		t.Errorf("one client was answered %v", got)
	}
	if status, _, _ := do(t, "GET", "http://"+s.Addr()+"/healthz", ""); status != 200 {
		t.Errorf("health: %d", status)
	}
}

// TestEnd has a request run while the service ends: it is answered, and the service says that it is not ready.
func TestEnd(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	s, _, cancel := run(t, serve.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "done") // the client reads it
	})})
	answer := make(chan string, 1)
	go func() {
		_, body, _ := do(t, "GET", "http://"+s.Addr()+"/", "")
		answer <- body
	}()
	<-entered
	cancel()
	time.Sleep(50 * time.Millisecond) // let the end begin
	close(release)
	if body := <-answer; body != "done" {
		t.Errorf("the running request was answered %q", body)
	}
}

// TestSlow has a client that never ends its header, and one that never ends its body.
func TestSlow(t *testing.T) {
	t.Parallel()
	s, _, _ := run(t, serve.Options{
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), // ends with an error
		Limits:  serve.Limits{Read: 300 * time.Millisecond, Request: 300 * time.Millisecond},
	})
	for name, text := range map[string]string{
		"header": "GET / HTTP/1.1\r\nHost: x\r\n", "body": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx",
	} {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err = io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, c)                        // until the server closes
		if took := time.Since(begin); took > 9*time.Second { // the default is ten
			t.Errorf("%s: the connection was held for %s", name, took)
		}
		_ = c.Close() // closed already
	}
}

func TestAddressNeedsTLS(t *testing.T) {
	t.Parallel()
	for _, a := range []string{":0", "0.0.0.0:0", "localhost:0", "[::]:0"} {
		if _, err := serve.New(t.Context(), serve.Options{Name: "x", Address: a, Handler: http.NotFoundHandler()}); err == nil {
			t.Errorf("%s: it listens without TLS", a)
		}
	}
	if _, err := serve.New(t.Context(), serve.Options{Name: "x", Address: "127.0.0.1:0"}); err == nil {
		t.Error("it serves without a handler")
	}
}

// TestListener serves on a socket that somebody else has opened: without TLS only where nobody else can listen in.
func TestListener(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, _, _ := run(t, serve.Options{Listener: l, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })})
	if s.Addr() != path {
		t.Errorf("it listens on %s", s.Addr())
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	resp, err := c.Get("http://localhost/")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // read to its end
	if string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	open, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	if _, err = serve.New(t.Context(), serve.Options{Name: "x", Listener: open, Handler: http.NotFoundHandler()}); err == nil {
		t.Error("it serves everybody without TLS")
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert := filepath.Join(t.TempDir(), "new", "cert.pem")
	config, err := serve.DevelopmentTLS(cert, []string{"localhost", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	s, _, _ := run(t, serve.Options{Handler: http.NotFoundHandler(), TLS: config})
	b, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		t.Fatal("no certificate")
	}
	c, err := tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close() // only dialled
	if _, err = tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was taken")
	}
	if _, err := serve.DevelopmentTLS(cert, nil); err == nil {
		t.Error("a certificate for nothing")
	}
	if _, err := serve.TLSFiles(cert, cert, ""); err == nil {
		t.Error("a certificate without key was taken")
	}
}
