// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"cofferdam.dev/collateral"
)

// refusalSchema names the form of remembered refusals.
const refusalSchema = "cofferdam.dev/collateral-refusal/v1"

// refusal is a server's refusal on disk.
type refusal struct {
	Schema string    `json:"schema"`
	Name   string    `json:"name"`
	URL    string    `json:"url"`
	Status int       `json:"status"`
	Until  time.Time `json:"until"`
}

// remember stores a refusal, so that the server is left alone for a while, by all processes. Other errors pass: who can
// not be reached now may be a second later.
func (c *Cache) remember(r collateral.Request, err error) {
	refused, ok := errors.AsType[*collateral.Refusal](err)
	if !ok {
		return
	}
	age := min(max(c.opts.RefusalAge, refused.Wait), MaxRefusalAge)
	err = c.write(filepath.FromSlash(r.Name())+refusalSuffix, &refusal{
		Schema: refusalSchema, Name: r.Name(), URL: refused.URL, Status: refused.Status, Until: c.opts.Now().Add(age).UTC(),
	})
	if err == nil {
		err = c.evict() // evidence of made-up chips must not fill the disk
	}
	if err != nil {
		c.opts.Log.Warn("writing the cache of collateral failed", slog.String("name", r.Name()), slog.Any("error", err))
	}
}

// refused returns the refusal that still stands, or nil.
func (c *Cache) refused(r collateral.Request) error {
	path := filepath.FromSlash(r.Name()) + refusalSuffix
	var f refusal
	if err := c.read(path, &f); err != nil || f.Schema != refusalSchema || f.Name != r.Name() {
		c.drop(path)
		return nil
	}
	left := f.Until.Sub(c.opts.Now())
	if left <= 0 || left > MaxRefusalAge { // over, or the clock was set back
		c.drop(path)
		return nil
	}
	return &collateral.Refusal{URL: f.URL, Status: f.Status, Wait: left.Round(time.Second)}
}
