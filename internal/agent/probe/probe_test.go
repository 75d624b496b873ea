// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

// soon is enough for an answer on any machine; tests that wait for no answer use little.
const (
	soon   = time.Minute
	little = 200 * time.Millisecond
)

// serve answers each connection and returns where.
func serve(t *testing.T, answer func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answer(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// say answers a request with text once its header is there.
func say(text string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil || line == "\r\n" {
				break
			}
		}
		_, _ = io.WriteString(c, text)
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer  string
		success bool
		status  int
		reason  string
	}{
		"ok":                  {"HTTP/1.1 200 OK\r\nX: y\r\n\r\nbody", true, 200, ""},
		"HTTP/1.0":            {"HTTP/1.0 204 No Content\r\n\r\n", true, 204, ""},
		"no reason":           {"HTTP/1.1 200\r\n\r\n", true, 200, ""},
		"bare line ends":      {"HTTP/1.1 399 x\n\n", true, 399, ""},
		"redirect":            {"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", true, 302, ""},
		"not found":           {"HTTP/1.1 404 Not Found\r\n\r\n", false, 404, "the status 404 is not 200 to 399"},
		"error":               {"HTTP/1.1 500 secret\r\n\r\n", false, 500, "the status 500 is not 200 to 399"},
		"early hints":         {"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", true, 200, ""},
		"another protocol":    {"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, 101, "the status 101 is not 200 to 399"},
		"interim without end": {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000), false, 0, "the answer is not HTTP"},
		"not HTTP":            {"SSH-2.0-secret\r\n", false, 0, "the answer is not HTTP"},
		"HTTP/2":              {"HTTP/2 200\r\n\r\n", false, 0, "the answer is not HTTP"},
		"a line without end":  {"HTTP/1.1 200 " + strings.Repeat("x", 2*maxAnswer), false, 0, "the answer is not HTTP"},
		"cut off":             {"HTTP/1.1 200 O", false, 0, "the answer is not HTTP"},
		"nothing":             {"", false, 0, "the connection ended without an answer"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Do(t.Context(), Request{Address: serve(t, say(tt.answer)), Timeout: soon, HTTP: &HTTP{Path: "/"}})
			if got != (Result{tt.success, tt.status, tt.reason}) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestRequest holds what is sent against what a server of the standard library reads.
func TestRequest(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		w.Header().Set("Location", "http://192.0.2.1/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	h := &HTTP{Path: "/healthz?full=1", TLS: true, Headers: []Header{{"X-Probe", "yes"}, {"host", "www.example.org"}, {"X-Probe", "again"}}}
	got := Do(t.Context(), Request{Address: netip.MustParseAddrPort(s.Listener.Addr().String()), Timeout: soon, HTTP: h})
	if got != (Result{Success: true, Status: 307}) {
		t.Errorf("got %+v", got)
	}
	r := <-seen
	if r.Method != "GET" || r.RequestURI != "/healthz?full=1" || r.Host != "www.example.org" || !r.Close ||
		strings.Join(r.Header["X-Probe"], ",") != "yes,again" || r.Header.Get("User-Agent") != "cofferdam-probe" {
		t.Errorf("the server saw %s %s of %s with %v", r.Method, r.RequestURI, r.Host, r.Header)
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	silent := serve(t, func(net.Conn) { <-release })
	t.Cleanup(func() { close(release) }) // before the server's own, which waits for it
	port, err := testcap.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	nobody := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)) // a port
	over, cancel := context.WithCancel(t.Context())
	cancel()
	plain := serve(t, func(c net.Conn) { _, _ = io.WriteString(c, "hello\r\n") })
	tests := map[string]struct {
		ctx     context.Context
		request Request
		want    Result
	}{
		"connection alone":        {t.Context(), Request{Address: silent, Timeout: soon}, Result{Success: true}},
		"nobody listens":          {t.Context(), Request{Address: nobody, Timeout: soon}, Result{Reason: "the connection was refused"}},
		"no answer":               {t.Context(), Request{Address: silent, Timeout: little, HTTP: &HTTP{Path: "/"}}, Result{Reason: "there was no answer in time"}},
		"no TLS answer":           {t.Context(), Request{Address: silent, Timeout: little, HTTP: &HTTP{Path: "/", TLS: true}}, Result{Reason: "there was no answer in time"}},
		"no TLS":                  {t.Context(), Request{Address: plain, Timeout: soon, HTTP: &HTTP{Path: "/", TLS: true}}, Result{Reason: "no TLS connection could be made"}},
		"the caller has given up": {over, Request{Address: silent, Timeout: soon}, Result{Reason: "there was no answer in time"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Do(tt.ctx, tt.request); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// FuzzStatus reads answers of any content: a status is three digits, and what net/http takes for an answer gives the same.
func FuzzStatus(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.0 404\n\n", "HTTP/1.1 100 \r\n\r\n", "HTTP/1.1 99 x\r\n", "SSH-2.0\r\n", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := readStatus(strings.NewReader(in))
		if err == nil && (got < 101 || got > 999) {
			t.Fatalf("status %d", got)
		}
		if len(in) > maxAnswer {
			return
		}
		resp, parseErr := http.ReadResponse(bufio.NewReader(strings.NewReader(in)), nil)
		if parseErr != nil || !strings.HasPrefix(in, "HTTP/1.") || resp.StatusCode < 200 || resp.StatusCode > 999 {
			return
		}
		_ = resp.Body.Close()
		if err == nil && got != resp.StatusCode {
			t.Errorf("status %d, net/http reads %d", got, resp.StatusCode)
		}
	})
}
