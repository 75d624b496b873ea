// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"cofferdam.dev/internal/strictpem"
	"cofferdam.dev/internal/token"
)

const (
	// freshFor is how long fetched keys are used without asking again.
	freshFor = 15 * time.Minute
	// usableFor is how long they are used when the issuer does not answer: a key that was withdrawn counts no longer.
	usableFor = 2 * time.Hour
	// askPause is the least time between two questions, whoever wants to know: anybody can send tokens with unknown keys.
	askPause = 10 * time.Second
	askWait  = 10 * time.Second
)

// Remote is keys that the issuer publishes under a URL. It asks for them rarely, and one question at a time.
type Remote struct {
	url    string
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex
	keys    []token.PublicKey
	fetched time.Time
	asked   time.Time
	asking  chan struct{} // closed when the question that is under way is answered; nil when none is
	failure error
}

// RemoteOptions say where keys come from.
type RemoteOptions struct {
	// URL is that of the key set, https except on loopback addresses. It comes from configuration, never from a token.
	URL string
	// CA is a file with certificates in PEM that the server is verified by, instead of the system's.
	CA string
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// NewRemote returns a source. It does not ask yet.
func NewRemote(opts RemoteOptions) (*Remote, error) {
	u, err := url.Parse(opts.URL)
	loopback := err == nil && slices.Contains([]string{"127.0.0.1", "::1"}, u.Hostname())
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return nil, fmt.Errorf("key set %q is no https URL", opts.URL)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if opts.CA != "" {
		pem, err := os.ReadFile(opts.CA)
		if err != nil {
			return nil, fmt.Errorf("key set %q: %w", opts.URL, err)
		}
		if config.RootCAs, err = pool(pem); err != nil {
			return nil, fmt.Errorf("key set %q: %s: %w", opts.URL, opts.CA, err)
		}
	}
	transport := &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute}
	client := &http.Client{Transport: transport, Timeout: askWait, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("it points elsewhere, which is not followed")
	}}
	return &Remote{url: opts.URL, client: client, now: opts.Now}, nil
}

// maxAuthorities bounds the certificates in a file.
const maxAuthorities = 256

func pool(pem []byte) (*x509.CertPool, error) {
	list, err := strictpem.Certificates(pem, maxAuthorities)
	if err != nil {
		return nil, err
	}
	p := x509.NewCertPool()
	for _, der := range list {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		p.AddCert(cert)
	}
	return p, nil
}

// Keys implements Keys. Whoever looks for a key that is at hand never waits for the issuer, but when the copy is old.
func (r *Remote) Keys(ctx context.Context, keyID string) ([]token.PublicKey, error) {
	r.mu.Lock()
	now := r.now()
	known := slices.ContainsFunc(r.keys, func(k token.PublicKey) bool { return k.ID == keyID })
	age := now.Sub(r.fetched)
	if (!known || age >= freshFor) && r.asking == nil && now.Sub(r.asked) >= askPause {
		r.asked, r.asking = now, make(chan struct{})
		go r.ask(context.WithoutCancel(ctx), now) // it serves others too, so the end of this request must not take it away
	}
	asking := r.asking
	r.mu.Unlock()
	if asking != nil && (!known || age >= usableFor) {
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.fetched) >= usableFor {
		return nil, errors.Join(fmt.Errorf("key set %s was not read lately", r.url), r.failure)
	}
	return r.keys, nil
}

func (r *Remote) ask(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	keys, err := r.fetch(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure = err; err == nil {
		r.keys, r.fetched = keys, now
	}
	close(r.asking)
	r.asking = nil
}

func (r *Remote) fetch(ctx context.Context) ([]token.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below, or given up
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("key set %s: the server answers %s", r.url, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, token.MaxSetSize+1))
	if err != nil {
		return nil, fmt.Errorf("key set %s: %w", r.url, err)
	}
	keys, err := token.ParseJWKS(b)
	if err != nil {
		return nil, fmt.Errorf("key set %s: %w", r.url, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("key set %s has no key that verifies tokens", r.url)
	}
	return keys, nil
}

// ReadFile returns the keys of a key set in a file.
func ReadFile(path string) (Static, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a key set: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(f, token.MaxSetSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading a key set: %w", err)
	}
	keys, err := token.ParseJWKS(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no key that verifies tokens", path)
	}
	return keys, nil
}
