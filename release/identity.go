// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// AccessToken says to a vault who asks. It prints as nothing of use.
type AccessToken struct {
	// Value is the token.
	Value string
	// Expires is when it stops being good; zero when that is not known.
	Expires time.Time
}

// String hides the token.
func (AccessToken) String() string { return "[redacted]" }

// GoString hides the token.
func (AccessToken) GoString() string { return "[redacted]" }

// MarshalJSON hides the token.
func (AccessToken) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// Credential obtains access tokens for a resource, such as https://vault.azure.net. It must be safe for concurrent use.
type Credential interface {
	AccessToken(ctx context.Context, resource string) (AccessToken, error)
}

// Where Azure has its identity endpoints.
const (
	// IMDSTokenURL is the instance metadata service's. It has no TLS: it is on the machine's own link.
	IMDSTokenURL = "http://169.254.169.254/metadata/identity/oauth2/token" //nolint:gosec // an address, not a token
	// LoginURL is the login server of Azure's public cloud.
	LoginURL = "https://login.microsoftonline.com"
)

// identityTimeout bounds one request to an identity provider.
const identityTimeout = 7 * time.Second

// maxAssertion bounds the file of a federated token, in bytes.
const maxAssertion = 64 << 10

// ManagedIdentity is the identity that the cloud gave to the machine or to the container group.
type ManagedIdentity struct {
	// URL is the endpoint; empty is IMDSTokenURL.
	URL string
	// Secret is the value of the header "secret" that endpoints of container groups want (IDENTITY_HEADER). With it the
	// endpoint is asked without the header Metadata.
	Secret string
	// ClientID chooses among several identities; PrincipalID does at endpoints of container groups.
	ClientID, PrincipalID string
	// HTTP makes the connections. It must not use a proxy.
	HTTP *http.Client
}

// String names the identity without its secret.
func (m *ManagedIdentity) String() string { return "managed identity " + m.ClientID + m.PrincipalID }

// GoString is String, so that no format prints the secret.
func (m *ManagedIdentity) GoString() string { return m.String() }

// AccessToken asks the endpoint.
func (m *ManagedIdentity) AccessToken(ctx context.Context, resource string) (AccessToken, error) {
	endpoint := m.URL
	if endpoint == "" {
		endpoint = IMDSTokenURL
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || m.HTTP == nil {
		return AccessToken{}, malformed("the managed identity has no endpoint or no HTTP client")
	}
	q, h := u.Query(), http.Header{}
	if q.Get("api-version") == "" {
		q.Set("api-version", "2018-02-01")
	}
	q.Set("resource", resource)
	if m.Secret != "" {
		h.Set("Secret", m.Secret)
		if m.PrincipalID != "" {
			q.Set("principalId", m.PrincipalID)
		}
	} else {
		h.Set("Metadata", "true")
	}
	if m.ClientID != "" {
		q.Set("client_id", m.ClientID)
	}
	u.RawQuery = q.Encode()
	return requestToken(ctx, m.HTTP, &request{server: IdentityProvider, method: http.MethodGet, url: u.String(), header: h, attempt: identityTimeout})
}

// WorkloadIdentity is an identity that proves itself to a login server: by a token in a file that a cluster vouches with, or
// by a secret.
type WorkloadIdentity struct {
	// TenantID and ClientID name the identity.
	TenantID, ClientID string
	// TokenFile holds the cluster's token. It is read each time: clusters replace it.
	TokenFile string
	// Secret is the identity's secret, where there is no TokenFile.
	Secret string
	// Login is the login server; empty is LoginURL.
	Login string
	// HTTP makes the connections.
	HTTP *http.Client
}

// AccessToken exchanges the cluster's token.
func (w *WorkloadIdentity) AccessToken(ctx context.Context, resource string) (AccessToken, error) {
	login := w.Login
	if login == "" {
		login = LoginURL
	}
	u, err := ParseEndpoint(login)
	if err != nil {
		return AccessToken{}, err
	}
	if w.HTTP == nil {
		return AccessToken{}, malformed("the workload identity has no HTTP client")
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {w.ClientID}, "scope": {strings.TrimRight(resource, "/") + "/.default"}}
	if w.TokenFile == "" {
		form.Set("client_secret", w.Secret)
	} else {
		assertion, err := w.assertion()
		if err != nil {
			return AccessToken{}, fmt.Errorf("reading the federated token: %w", err)
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	}
	return requestToken(ctx, w.HTTP, &request{
		server: IdentityProvider, method: http.MethodPost, url: u.String() + "/" + url.PathEscape(w.TenantID) + "/oauth2/v2.0/token",
		header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, body: []byte(form.Encode()), attempt: identityTimeout,
	})
}

func (w *WorkloadIdentity) assertion() (string, error) {
	f, err := os.Open(w.TokenFile)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxAssertion+1))
	if err == nil && len(b) > maxAssertion {
		err = fmt.Errorf("%s has more than %d bytes", w.TokenFile, maxAssertion)
	}
	return strings.TrimSpace(string(b)), err
}

// String names the identity without its secret.
func (w *WorkloadIdentity) String() string { return "workload identity " + w.ClientID }

// GoString is String, so that no format prints the secret.
func (w *WorkloadIdentity) GoString() string { return w.String() }

// requestToken asks an identity provider and reads its answer.
func requestToken(ctx context.Context, client *http.Client, r *request) (AccessToken, error) {
	body, err := ask(ctx, client, r)
	if err != nil {
		return AccessToken{}, fmt.Errorf("getting an access token: %w", err)
	}
	var v struct {
		Token     string          `json:"access_token"`
		ExpiresIn json.RawMessage `json:"expires_in"`
		ExpiresOn json.RawMessage `json:"expires_on"`
	}
	if json.Unmarshal(body, &v) != nil || v.Token == "" || strings.ContainsAny(v.Token, "\r\n") {
		return AccessToken{}, fmt.Errorf("getting an access token: %w", wrong("there is none in it"))
	}
	t := AccessToken{Value: v.Token}
	if s, ok := seconds(v.ExpiresOn); ok {
		t.Expires = time.Unix(s, 0)
	} else if s, ok = seconds(v.ExpiresIn); ok {
		t.Expires = time.Now().Add(time.Duration(s) * time.Second)
	}
	return t, nil
}

// seconds reads a number that some providers write as text.
func seconds(raw json.RawMessage) (int64, bool) {
	n, err := strconv.ParseInt(strings.Trim(string(raw), `"`), 10, 64)
	return n, err == nil && n > 0 && n < 1<<40
}

// Cached returns a credential that keeps tokens of another until shortly before they expire.
func Cached(c Credential) Credential {
	return &cachedCredential{source: c, byResource: map[string]AccessToken{}}
}

const (
	// early is how long before its end a token is replaced.
	early = 2 * time.Minute
	// maxResources bounds the tokens that are kept.
	maxResources = 32
)

type cachedCredential struct {
	source     Credential
	mu         sync.Mutex
	byResource map[string]AccessToken
	asking     flights[AccessToken]
}

// AccessToken returns a token that is kept, or gets one.
func (c *cachedCredential) AccessToken(ctx context.Context, resource string) (AccessToken, error) {
	c.mu.Lock()
	t, ok := c.byResource[resource]
	c.mu.Unlock()
	if ok && time.Until(t.Expires) > early {
		return t, nil
	}
	t, _, err := c.asking.do(ctx, resource, func() (AccessToken, error) {
		t, err := c.source.AccessToken(ctx, resource)
		if err == nil {
			c.keep(resource, t)
		}
		return t, err
	})
	return t, err
}

func (c *cachedCredential) keep(resource string, t AccessToken) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byResource) >= maxResources {
		clear(c.byResource)
	}
	c.byResource[resource] = t
}

// forget drops a token that a server did not take.
func (c *cachedCredential) forget(resource string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byResource, resource)
}
