// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// knownAudiences are the resources of Azure's vaults by the domains that they lie in. All others are asked.
var knownAudiences = map[string]string{
	"vault.azure.net":      "https://vault.azure.net",
	"managedhsm.azure.net": "https://managedhsm.azure.net",
}

// audience returns the resource for which a vault wants access tokens. Vaults that are not known say it when they are asked
// without one. What they say counts only if the vault lies in the resource's domain: a host can not have us get a token
// that is good at somebody else's vault. The resource is empty where the vault does not ask who asks.
func (v *Vault) audience(ctx context.Context, u *url.URL) (string, error) {
	host := u.Hostname()
	for domain, resource := range knownAudiences {
		if within(host, domain) {
			return resource, nil
		}
	}
	header, wanted, err := v.challenge(ctx, u)
	if err != nil || !wanted {
		return "", err
	}
	resource := challengeResource(header)
	r, err := url.Parse(resource)
	switch {
	case err != nil || resource == "":
		return "", wrong("the vault %s does not say for which resource it wants a token", u.Host)
	case r.Scheme != "https" || !within(host, r.Hostname()):
		return "", wrong("the vault %s wants a token for %s, in whose domain it is not", u.Host, clean(resource))
	}
	return resource, nil
}

// challenge asks the vault for a key list without saying who asks, and returns whether it wants to know, and what it says
// about that.
func (v *Vault) challenge(ctx context.Context, u *url.URL) (header string, wanted bool, err error) {
	if v.HTTP == nil {
		return "", false, malformed("no HTTP client is configured for the vault")
	}
	inner := v.HTTP.Transport
	if inner == nil {
		inner = http.DefaultTransport
	}
	watch := *v
	watch.HTTP = &http.Client{Timeout: v.HTTP.Timeout, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := inner.RoundTrip(r)
		if err == nil {
			header = resp.Header.Get("WWW-Authenticate")
		}
		return resp, err
	})}
	_, err = watch.ask(ctx, u, http.MethodGet, "/keys", "", nil)
	if errors.Is(err, ErrUnauthorized) {
		return header, true, nil
	}
	return "", false, err
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var challengeParameter = regexp.MustCompile(`(?i)\b(resource|scope)="([^"\\]*)"`)

// challengeResource reads resource or scope of a Bearer challenge.
func challengeResource(header string) string {
	if len(header) < len("Bearer ") || !strings.EqualFold(header[:len("Bearer ")], "Bearer ") {
		return ""
	}
	for _, m := range challengeParameter.FindAllStringSubmatch(header, 4) {
		if r := strings.TrimSuffix(m[2], "/.default"); r != "" {
			return strings.TrimSuffix(r, "/")
		}
	}
	return ""
}
