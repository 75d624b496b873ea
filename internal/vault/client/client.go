// SPDX-License-Identifier: Apache-2.0

// Package client asks a vault on behalf of who administers keys and secrets: it speaks the data plane of Azure Key Vault and
// Managed HSM, and so to these and to the vault of this module alike.
//
// The server is trusted by its TLS certificate alone. The package never follows a redirect, never sends the access token to
// another host than the vault's, and puts no key, secret or token into an error. What guests have released is not its part:
// that is the public package release.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	// DefaultVersion is the API version that is asked for.
	DefaultVersion = "7.4"
	// ReleaseHeader has the ID of a release in its answer; it is of the vault of this module.
	ReleaseHeader = "X-Cofferdam-Release"
	// maxAnswer bounds an answer in bytes.
	maxAnswer = 4 << 20
	// maxPages bounds a list; a page has 25 entries.
	maxPages = 4000
)

// Client asks one vault.
type Client struct {
	// URL is the vault's: https, a host, and no query.
	URL string
	// HTTP makes the connections, and says whom to trust as a server.
	HTTP *http.Client
	// Token is the access token; empty is none, for callers that their client certificate names.
	Token string
	// Version is the API version; empty is DefaultVersion.
	Version string
}

// Do sends a request and decodes the answer into into, which may be nil. The body is encoded as JSON unless it is nil. A
// refusal of the vault is an *Error. Release is the ID of the release, when the answer is to a request for one.
func (c *Client) Do(ctx context.Context, method, path string, body, into any) (release string, err error) {
	version := c.Version
	if version == "" {
		version = DefaultVersion
	}
	return c.send(ctx, method, strings.TrimRight(c.URL, "/")+path+"?api-version="+url.QueryEscape(version), body, into)
}

func (c *Client) send(ctx context.Context, method, to string, body, into any) (release string, err error) {
	var sent io.Reader
	var encoded []byte
	if body != nil {
		if encoded, err = json.Marshal(body); err != nil {
			return "", errors.New("encoding the request: it can not be written as JSON") // the encoder's error may quote it
		}
		sent = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, to, sent)
	if err != nil {
		return "", fmt.Errorf("asking the vault: %w", err)
	}
	if req.URL.Scheme != "https" {
		return "", fmt.Errorf("asking the vault: %s is no https URL", c.URL)
	}
	if sent != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	safe := *c.HTTP
	safe.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := safe.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking the vault: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	err = errors.Join(err, resp.Body.Close())
	clear(encoded) // it may hold a key; until now the connection could read it
	if err != nil {
		return "", fmt.Errorf("asking the vault: %w", err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return "", readError(resp, answer)
	}
	if len(answer) > maxAnswer {
		return "", fmt.Errorf("asking the vault: its answer has more than %d bytes", maxAnswer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			return "", errors.New("asking the vault: its answer is not of the form that it should have") // the decoder's error may quote it
		}
	}
	return resp.Header.Get(ReleaseHeader), nil
}

// List returns all entries of a list, page by page. All are asked of the host that is trusted, whatever
// the links between them say.
func (c *Client) List(ctx context.Context, path string) ([]Item, error) {
	base, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("asking the vault: %w", err)
	}
	list := []Item{}
	var p page
	if _, err := c.Do(ctx, http.MethodGet, path, nil, &p); err != nil {
		return nil, err
	}
	for range maxPages {
		list = append(list, p.Value...)
		if p.Next == nil || *p.Next == "" {
			return list, nil
		}
		next, err := url.Parse(*p.Next)
		if err != nil || next.Path == "" {
			return nil, errors.New("asking the vault: the link to its next page is no URL")
		}
		// The vault may know itself by another name than we do: what counts is the path, at the host that we trust.
		next.Scheme, next.Host, next.User = base.Scheme, base.Host, nil
		p = page{}
		if _, err := c.send(ctx, http.MethodGet, next.String(), nil, &p); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("asking the vault: its list has more than %d pages", maxPages)
}
