// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/vault/client"
)

// serve returns a client of a server that answers as the function says.
func serve(t *testing.T, f http.HandlerFunc) *client.Client {
	t.Helper()
	s := httptest.NewTLSServer(f)
	t.Cleanup(s.Close)
	return &client.Client{URL: s.URL, HTTP: s.Client(), Token: "t0ken"}
}

// The pages of a list are asked for one after the other, all at the host that is trusted.
func TestListFollowsPagesAtHome(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			t.Error("a page is asked for without the token")
		}
		switch r.URL.Query().Get("$skiptoken") {
		case "":
			_, _ = fmt.Fprint(w, `{"value":[{"kid":"https://v/keys/a"}],"nextLink":"https://elsewhere.test/keys?api-version=7.4&$skiptoken=x"}`)
		case "x":
			_, _ = fmt.Fprint(w, `{"value":[{"kid":"https://v/keys/b"}],"nextLink":null}`)
		}
	})
	list, err := c.List(t.Context(), "/keys")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range list {
		name, _ := client.NameOf(i.KeyID)
		names = append(names, name)
	}
	if !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("names %q, want a, b", names)
	}
}

// A list that never ends is not read for ever.
func TestListIsBounded(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"value":[],"nextLink":"https://%s/keys?api-version=7.4&$skiptoken=x"}`, r.Host)
	})
	if _, err := c.List(t.Context(), "/keys"); err == nil || !strings.Contains(err.Error(), "pages") {
		t.Errorf("error %v, want one about pages", err)
	}
}

// What a vault says about a refusal is kept, in one line and without control characters.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		header http.Header
		body   string
		want   client.Error
	}{
		{"a denied release", 403, http.Header{"X-Cofferdam-Release": {"0123456789abcdef0123456789abcdef"}}, `{"error":{"code":"Forbidden","message":"no\nway\u001b[1m","innererror":{"code":"AccessDenied"}}}`,
			client.Error{Status: 403, Code: "Forbidden", Inner: "AccessDenied", Message: "no way[1m", Release: "0123456789abcdef0123456789abcdef"}},
		{"a challenge", 401, http.Header{"Www-Authenticate": {`Bearer authorization="https://login.test/t", resource="https://vault.test"`}}, `{}`,
			client.Error{Status: 401, Authorization: "https://login.test/t", Resource: "https://vault.test"}},
		{"a release that is none", 403, http.Header{"X-Cofferdam-Release": {"$(rm)"}}, `<html>`, client.Error{Status: 403}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				for name, values := range c.header {
					w.Header()[name] = values
				}
				w.WriteHeader(c.status)
				_, _ = fmt.Fprint(w, c.body)
			})
			_, err := v.Do(t.Context(), http.MethodPost, "/keys/k/release", client.Release{Target: "x"}, nil)
			e, ok := errors.AsType[*client.Error](err)
			if !ok || *e != c.want {
				t.Errorf("error %#v, want %#v", err, c.want)
			}
		})
	}
}

// A redirect is an answer like any other that is not good: nobody else gets the token or the key.
func TestNoRedirects(t *testing.T) {
	t.Parallel()
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect is followed") }))
	t.Cleanup(other.Close)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	_, err := c.Do(t.Context(), http.MethodPut, "/keys/k", client.Import{Key: json.RawMessage(`{"k":"s3cret"}`)}, nil)
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status != http.StatusTemporaryRedirect {
		t.Errorf("error %v, want one of status 307", err)
	}
}

// Nothing is sent in clear.
func TestOnlyTLS(t *testing.T) {
	t.Parallel()
	c := &client.Client{URL: "http://127.0.0.1:1", HTTP: http.DefaultClient, Token: "t0ken"}
	if _, err := c.Do(t.Context(), http.MethodGet, "/keys/k", nil, nil); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("error %v, want one about https", err)
	}
}

// An answer of another form is an error that does not quote it.
func TestAnswerIsNotQuoted(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"value":{"s3cret":1}}`) })
	var s client.Secret
	_, err := c.Do(t.Context(), http.MethodGet, "/secrets/s", nil, &s)
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error %v, want one that does not quote the answer", err)
	}
}
