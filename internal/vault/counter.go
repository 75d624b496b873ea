// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
)

// Counter is the record of the last state of something that must not go back, such as an encrypted volume: the number of the
// state, and its digest. Nothing of it is secret. Whoever may move it can only move it forward, and only from the state that
// it has: so of two who write at a time, one finds out.
type Counter struct {
	ID         string    `json:"id"`
	Generation uint64    `json:"generation,string"`
	Digest     string    `json:"digest"` // SHA-256 in hexadecimal
	Updated    time.Time `json:"updated"`
}

// CounterState is a state of a counter. The zero value is that of one that does not exist.
type CounterState struct {
	Generation uint64
	Digest     string
}

var (
	counterID     = regexp.MustCompile(`^[0-9a-f]{32}$`)
	counterDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// counterPath is where a counter lies in the store. What lies there is encrypted under a key of its own, and bound to the
// place.
func (v *Vault) counterPath(id string) string { return v.prefix() + "counter/" + id }

func (v *Vault) counterBox(ctx context.Context, id string) (*seal.Box, error) {
	root, err := v.decisionKey(ctx)
	if err != nil {
		return nil, err
	}
	b, err := hkdf.Key(sha256.New, root.Expose(), nil, "cofferdam.dev/vault/counter/v1\x00"+id, seal.RootKeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of the counter %s: %w", id, err)
	}
	key := seal.NewSecret(b)
	defer key.Destroy()
	return seal.NewBox(key)
}

// Counter returns a counter.
func (v *Vault) Counter(ctx context.Context, id string) (*Counter, error) {
	if !counterID.MatchString(id) {
		return nil, bad("The name of a counter is 32 hexadecimal digits in lower case.")
	}
	box, err := v.counterBox(ctx, id)
	if err != nil {
		return nil, err
	}
	var c *Counter
	err = v.opts.Store.View(ctx, func(r store.Reader) error {
		c, err = v.readCounter(r, box, id)
		return err
	})
	if err == nil && c == nil {
		err = &Error{Code: CounterNotFound, Message: "There is no counter " + id + "."}
	}
	return c, err
}

// readCounter returns nil when there is none.
func (v *Vault) readCounter(r store.Reader, box *seal.Box, id string) (*Counter, error) {
	path := v.counterPath(id)
	b, err := r.Get(path)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	plain, err := box.Open(b, bind("counter", path, nil))
	c := &Counter{}
	if err == nil {
		err = json.Unmarshal(plain, c)
	}
	if err == nil && c.ID != id {
		err = errors.New("it is another one's")
	}
	if err != nil {
		return nil, fmt.Errorf("the store's entry of counter %s: %w", id, err)
	}
	return c, nil
}

// MoveCounter moves a counter from the state that it has to a later one, and makes one that does not exist. It is refused with
// the code Conflict when the counter has another state. That one is made and that one is refused goes into the audit log; a
// move that is allowed does not, as a volume moves its counter with every write that it makes durable.
func (v *Vault) MoveCounter(ctx context.Context, id string, was, next CounterState) (*Counter, error) {
	c, err := v.moveCounter(ctx, id, was, next)
	return c, v.refused(ctx, "counter.move", "counter/"+id, err)
}

func (v *Vault) moveCounter(ctx context.Context, id string, was, next CounterState) (*Counter, error) {
	switch {
	case !counterID.MatchString(id):
		return nil, bad("The name of a counter is 32 hexadecimal digits in lower case.")
	case !counterDigest.MatchString(next.Digest) || next.Generation == 0:
		return nil, bad("The next state has no generation, or its digest is no SHA-256 in hexadecimal.")
	case next.Generation <= was.Generation:
		return nil, bad("A counter only goes forward: from generation %d it can not be moved to %d.", was.Generation, next.Generation)
	}
	box, err := v.counterBox(ctx, id)
	if err != nil {
		return nil, err
	}
	if was == (CounterState{}) {
		if _, err := v.Record(ctx, "counter.create", "counter/"+id, true, ""); err != nil {
			return nil, err
		}
	}
	moved := &Counter{id, next.Generation, next.Digest, *seconds(v.opts.Now())}
	plain, err := json.Marshal(moved)
	if err != nil {
		return nil, fmt.Errorf("encoding the counter %s: %w", id, err)
	}
	path := v.counterPath(id)
	err = v.opts.Store.Update(ctx, func(tx store.Tx) error {
		now, err := v.readCounter(tx, box, id)
		if err != nil {
			return err
		}
		has := CounterState{}
		if now != nil {
			has = CounterState{now.Generation, now.Digest}
		}
		if has != was {
			return &Error{Code: Conflict, Message: fmt.Sprintf("The counter %s has generation %d, and not the state that was to be replaced.", id, has.Generation)}
		}
		return tx.Put(path, box.Seal(plain, bind("counter", path, nil)))
	})
	if err != nil {
		return nil, err
	}
	return moved, nil
}
