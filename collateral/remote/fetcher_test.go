// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/internal/testcollateral"
)

func TestBackOff(t *testing.T) {
	t.Parallel()
	maker := testcollateral.New(t, from, until)
	r := collateral.CRL("Milan", false)
	it := maker.Item(t, r)
	for _, c := range []struct {
		name   string
		status int
		after  string
		bad    int // how many answers before the good one
		want   []time.Duration
		wait   time.Duration
		fails  bool
	}{
		{name: "good at once"},
		{name: "one 429", status: 429, bad: 1, want: []time.Duration{time.Second}},
		{name: "503 thrice, doubling", status: 503, bad: 3, want: []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}},
		{name: "seconds asked for", status: 429, after: "10", bad: 2, want: []time.Duration{10500 * time.Millisecond, 11 * time.Second}},
		{name: "date asked for", status: 503, after: from.Add(20 * time.Second).Format(http.TimeFormat), bad: 1, want: []time.Duration{20500 * time.Millisecond}},
		{name: "date gone by", status: 503, after: from.Add(-time.Hour).Format(http.TimeFormat), bad: 1, want: []time.Duration{time.Second}},
		{name: "nonsense asked for", status: 429, after: "-5", bad: 1, want: []time.Duration{time.Second}},
		{name: "too long asked for", status: 429, after: "3600", bad: 1, wait: time.Hour, fails: true},
		{name: "storm", status: 429, bad: 99, want: []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}, fails: true},
		{name: "404", status: 404, bad: 1, fails: true},
		{name: "410", status: 410, bad: 1, fails: true},
		{name: "500", status: 500, bad: 1, fails: true},
		{name: "204 without content", status: 204, bad: 1, fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			left := c.bad
			d := newDouble(t, func(w http.ResponseWriter, _ *http.Request) {
				if left == 0 {
					serve(w, it)
					return
				}
				left--
				if c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				w.WriteHeader(c.status)
			})
			var pauses []time.Duration
			_, err := (&KDS{d.fetcher(&pauses), d.URL}).Get(t.Context(), r)
			if diff := cmp.Diff(c.want, pauses); diff != "" {
				t.Errorf("pauses differ (-want +got):\n%s", diff)
			}
			if !c.fails {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refusal, ok := errors.AsType[*collateral.Refusal](err)
			if !ok || !errors.Is(err, collateral.ErrUnavailable) {
				t.Fatalf("error is %v, want a refusal", err)
			}
			if refusal.Status != c.status || refusal.URL != d.URL+"/vcek/v1/Milan/crl" || refusal.Wait != c.wait {
				t.Errorf("refusal is %+v", refusal)
			}
		})
	}
}

func TestBackOffEndsWithDeadline(t *testing.T) {
	t.Parallel()
	d := newDouble(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "20")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	r := collateral.CRL("Milan", false)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var pauses []time.Duration
	f := d.fetcher(&pauses)
	f.Now = time.Now
	if _, err := (&KDS{f, d.URL}).Get(ctx, r); !errors.Is(err, collateral.ErrUnavailable) || len(pauses) != 0 {
		t.Errorf("with a deadline before the pause's end: error %v, pauses %v", err, pauses)
	}

	ctx, cancel = context.WithCancel(t.Context())
	f = Fetcher{HTTP: d.Client(), Jitter: func(time.Duration) time.Duration { cancel(); return 0 }} // cancelled when it is about to sleep
	_, err := (&KDS{f, d.URL}).Get(ctx, r)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, collateral.ErrUnavailable) {
		t.Errorf("cancelled while it waits: %v", err)
	}
}

func TestBadAnswers(t *testing.T) {
	t.Parallel()
	maker := testcollateral.New(t, from, until)
	crl, info := collateral.CRL("Milan", false), collateral.TCBInfo(collateral.TDX, [6]byte{1})
	signed := maker.Item(t, info)
	otherChip := maker.Item(t, collateral.VCEK("Milan", []byte(strings.Repeat("x", 64)), milan.TCB))
	for _, c := range []struct {
		name   string
		r      collateral.Request
		answer http.HandlerFunc
		want   string
	}{
		{"error page", crl, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "sent something else"},
		{"empty body", crl, func(http.ResponseWriter, *http.Request) {}, "sent something else"},
		{"huge body", crl, func(w http.ResponseWriter, _ *http.Request) {
			for range 3 {
				_, _ = w.Write(make([]byte, collateral.MaxBodySize/2))
			}
		}, "more than 1048576 bytes"},
		{"cut body", crl, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("x"))
		}, "reading the answer"},
		{"redirect", crl, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/vcek/v1/Milan/cert_chain", http.StatusFound)
		}, "answered 302"},
		{"other chip's certificate", milan, func(w http.ResponseWriter, _ *http.Request) { serve(w, otherChip) }, "of another chip"},
		{"certificate without extensions", milan, func(w http.ResponseWriter, _ *http.Request) {
			serve(w, collateral.Item{Body: maker.Certificate(t, "SEV-VCEK")})
		}, "sent something else"},
		{"no issuer chain", info, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(signed.Body) }, "no header TCB-Info-Issuer-Chain"},
		{"odd issuer chain", info, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(headerTCBInfoChain, "%zz")
			_, _ = w.Write(signed.Body)
		}, "decoding header"},
		{"other FMSPC", collateral.TCBInfo(collateral.TDX, [6]byte{2}), func(w http.ResponseWriter, _ *http.Request) { serve(w, signed) }, "its fmspc is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDouble(t, c.answer)
			s := collateral.Join(&KDS{d.fetcher(nil), d.URL}, PCCS(d.fetcher(nil), d.URL))
			it, err := s.Get(t.Context(), c.r)
			if !errors.Is(err, collateral.ErrUnavailable) || !strings.Contains(err.Error(), c.want) || it.Body != nil {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if asked := d.questions(); len(asked) != 1 {
				t.Errorf("asked %v, want one request", asked)
			}
		})
	}
}

func TestSlowServer(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]bool{"before the header": false, "in the body": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDouble(t, func(w http.ResponseWriter, r *http.Request) {
				if body {
					_, _ = w.Write([]byte("0"))
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			})
			f := d.fetcher(nil)
			f.AttemptTimeout = 100 * time.Millisecond
			_, err := (&KDS{f, d.URL}).Get(t.Context(), collateral.CRL("Milan", false))
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, collateral.ErrUnavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestServersThatAreNotAsked(t *testing.T) {
	t.Parallel()
	d := newDouble(t, http.NotFound)
	r := collateral.CRL("Milan", false)
	for _, base := range []string{
		"", "kdsintf.amd.com", "http://kdsintf.amd.com", "ftp://127.0.0.1", "http://10.0.0.1", "https://user:secret@kdsintf.amd.com",
		"http://127.0.0.1.example.com", "file:///etc", "https://", "http://[::ffff:10.0.0.1]",
	} {
		_, err := (&KDS{Fetcher{HTTP: &http.Client{Transport: failing{t}}}, base}).Get(t.Context(), r)
		if !errors.Is(err, collateral.ErrUnavailable) || !strings.Contains(err.Error(), "the URL") {
			t.Errorf("%q: error %v", base, err)
		}
	}
	if _, err := (&KDS{Fetcher{}, d.URL}).Get(t.Context(), r); !errors.Is(err, collateral.ErrUnavailable) || len(d.questions()) != 0 {
		t.Errorf("without a client: error %v, asked %v", err, d.questions())
	}
	d.Close()
	if _, err := (&KDS{d.fetcher(nil), d.URL}).Get(t.Context(), r); !errors.Is(err, collateral.ErrUnavailable) {
		t.Errorf("nobody listens: error %v", err)
	}
}

// failing fails the test when a request is made.
type failing struct{ t *testing.T }

func (f failing) RoundTrip(r *http.Request) (*http.Response, error) {
	f.t.Errorf("a request was made to %s", r.URL)
	return nil, errors.New("no")
}

func TestClients(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*http.Client{"internet": NewHTTPClient(), "link": NewLinkLocalHTTPClient()} {
		tr, ok := c.Transport.(*http.Transport)
		if !ok || tr.TLSClientConfig.MinVersion < 0x303 || tr.TLSClientConfig.InsecureSkipVerify || tr.MaxResponseHeaderBytes == 0 {
			t.Errorf("%s: transport is %+v", name, c.Transport)
		}
		if (tr.Proxy == nil) != (name == "link") {
			t.Errorf("%s: proxy is set: %v", name, tr.Proxy != nil)
		}
	}
}
