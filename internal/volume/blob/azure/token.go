// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"cofferdam.dev/release"
)

// Resource is what tokens for storage accounts are issued for.
const Resource = "https://storage.azure.com/"

// TokenSource gets a bearer token for storage accounts. It must be safe for concurrent use.
type TokenSource func(context.Context) (release.AccessToken, error)

// Identity has a credential get the tokens: the machine's or the group's managed identity, or a workload identity.
func Identity(c release.Credential) TokenSource {
	return func(ctx context.Context) (release.AccessToken, error) { return c.AccessToken(ctx, Resource) }
}

// early is how long before its end a token is replaced.
const early = 2 * time.Minute

// fresh is the age under which a token that the service does not take will not be followed by a better one.
const fresh = time.Minute

// tokens keeps a token until shortly before its end, or until the service does not take it. One caller asks at a time.
type tokens struct {
	source TokenSource
	turn   chan struct{}

	mu   sync.Mutex
	kept release.AccessToken
	got  time.Time
}

func newTokens(source TokenSource) *tokens {
	return &tokens{source: source, turn: make(chan struct{}, 1)}
}

func (t *tokens) get(ctx context.Context) (string, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-t.turn }()
	t.mu.Lock()
	kept := t.kept
	t.mu.Unlock()
	if kept.Value != "" && time.Until(kept.Expires) > early {
		return kept.Value, nil
	}
	token, err := t.source(ctx)
	if err != nil {
		return "", err
	}
	if token.Value == "" || strings.ContainsAny(token.Value, "\r\n") {
		return "", errors.New("the identity provider gave no usable token")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept, t.got = token, time.Now()
	return token.Value, nil
}

// forget drops a token that the service did not take, and reports whether another one may do better.
func (t *tokens) forget() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.kept.Value == "" || time.Since(t.got) > fresh
	t.kept = release.AccessToken{}
	return old
}
