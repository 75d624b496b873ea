// SPDX-License-Identifier: Apache-2.0

package anchor

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"cofferdam.dev/internal/vault/client"
	"cofferdam.dev/internal/volume/shadow"
	"cofferdam.dev/release"
)

// DefaultPatience is for how long a vault that does not answer is asked again.
const DefaultPatience = 30 * time.Second

// Vault keeps records in counters of a vault of this module, each under the volume's ID.
type Vault struct {
	// URL is the vault's: https, a host, and no path.
	URL string
	// HTTP makes the connections, and says whom to trust as the vault.
	HTTP *http.Client
	// Authorize calls a function with an access token, and again with a new one if the error wraps release.ErrUnauthorized;
	// the method Authorized of a release.Client does. Nil asks without one.
	Authorize func(ctx context.Context, f func(accessToken string) error) error
	// Patience is for how long the vault is asked again that does not answer; zero is DefaultPatience.
	Patience time.Duration
}

// counterState is a state of a counter, as the vault has it.
type counterState struct {
	Generation string `json:"generation"`
	Digest     string `json:"digest"`
}

// move is a request to move a counter.
type move struct {
	Was  *counterState `json:"was,omitempty"`
	Next counterState  `json:"next"`
}

func stateOf(r shadow.Record) counterState {
	return counterState{strconv.FormatUint(r.Generation, 10), hex.EncodeToString(r.Digest[:])}
}

func counterPath(volume [16]byte) string { return "/counters/" + hex.EncodeToString(volume[:]) }

// Load returns the record of a volume.
func (v *Vault) Load(ctx context.Context, volume [16]byte) (shadow.Record, error) {
	var s counterState
	err := v.patiently(ctx, http.MethodGet, counterPath(volume), nil, &s)
	if refusal, ok := errors.AsType[*client.Error](err); ok && refusal.Status == http.StatusNotFound && refusal.Code == "CounterNotFound" {
		err = shadow.ErrNoRecord
	}
	r := shadow.Record{Volume: volume}
	if err == nil {
		if r.Generation, err = strconv.ParseUint(s.Generation, 10, 64); err != nil || r.Generation == 0 {
			err = fmt.Errorf("its generation is %.32q", s.Generation)
		}
	}
	if err == nil {
		r.Digest, err = digest(s.Digest)
	}
	if err != nil {
		return shadow.Record{}, fmt.Errorf("reading the anchor %s%s: %w", v.URL, counterPath(volume), err)
	}
	return r, nil
}

// Move replaces a record.
func (v *Vault) Move(ctx context.Context, was, next shadow.Record) error {
	if err := check(was, next); err != nil {
		return err
	}
	m := move{Next: stateOf(next)}
	if was != (shadow.Record{}) {
		s := stateOf(was)
		m.Was = &s
	}
	err := v.patiently(ctx, http.MethodPut, counterPath(next.Volume), m, nil)
	if refusal, ok := errors.AsType[*client.Error](err); ok && refusal.Status == http.StatusConflict {
		// The answer to a request of ours before may have been lost. No other writer makes a state with our digest.
		if now, loadErr := v.Load(ctx, next.Volume); loadErr == nil && now == next {
			return nil
		}
		err = shadow.ErrMoved
	}
	if err != nil {
		return fmt.Errorf("moving the anchor %s%s: %w", v.URL, counterPath(next.Volume), err)
	}
	return nil
}

// patiently asks the vault, and again for a while if it does not answer.
func (v *Vault) patiently(ctx context.Context, method, path string, body, into any) error {
	patience := v.Patience
	if patience == 0 {
		patience = DefaultPatience
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := v.ask(ctx, method, path, body, into)
		if err == nil || !temporary(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// temporary says whether a vault that could not be asked, or that could not answer, may do so later.
func temporary(err error) bool {
	refusal, answered := errors.AsType[*client.Error](err)
	return !answered || refusal.Status >= http.StatusInternalServerError || refusal.Status == http.StatusTooManyRequests
}

func (v *Vault) ask(ctx context.Context, method, path string, body, into any) error {
	do := func(accessToken string) error {
		c := &client.Client{URL: v.URL, HTTP: v.HTTP, Token: accessToken}
		_, err := c.Do(ctx, method, path, body, into)
		if refusal, ok := errors.AsType[*client.Error](err); ok && refusal.Status == http.StatusUnauthorized {
			return fmt.Errorf("%w: %w", release.ErrUnauthorized, err)
		}
		return err
	}
	if v.Authorize == nil {
		return do("")
	}
	return v.Authorize(ctx, do)
}
