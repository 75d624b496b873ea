// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cofferdam.dev/internal/store"
)

// list reads a page of heads at a state. It begins after the name after, and next is empty at the end.
func (v *Vault) list(ctx context.Context, c class, s state, after string, limit int) (page []*object, next string, err error) {
	if limit < 1 || limit > MaxPage {
		return nil, "", bad("A page has 1 to %d entries.", MaxPage)
	}
	prefix := v.path(c, s, "")
	from := ""
	if after != "" {
		from = v.path(c, s, after)
	}
	err = v.opts.Store.View(ctx, func(r store.Reader) error {
		entries, err := r.List(prefix, from, limit+1)
		if err != nil {
			return err
		}
		page, next = nil, ""
		for i, e := range entries {
			if i == limit {
				next = page[i-1].id
				break
			}
			o, err := v.open(ctx, c, s, strings.TrimPrefix(e.Key, prefix), e.Value)
			if err != nil {
				return err
			}
			page = append(page, o)
		}
		return nil
	})
	return page, next, err
}

// versions reads a page of the versions of a live object, in the order of their names.
func (v *Vault) versions(ctx context.Context, c class, name, after string, limit int) (o *object, page []record, next string, err error) {
	if limit < 1 || limit > MaxPage {
		return nil, nil, "", bad("A page has 1 to %d entries.", MaxPage)
	}
	from := ""
	if after != "" {
		from = v.versionPath(c, name, after)
	}
	err = v.opts.Store.View(ctx, func(r store.Reader) error {
		o, err = v.find(ctx, r, c, live, name)
		if err != nil {
			return err
		}
		entries, err := r.List(v.versionPath(c, name, ""), from, limit+1)
		if err != nil {
			return err
		}
		page, next = nil, ""
		for i, e := range entries {
			if i == limit {
				next = page[i-1].Version
				break
			}
			rec, material, err := o.openVersion(e.Key, e.Value)
			if err != nil {
				return err
			}
			material.Destroy()
			page = append(page, rec)
		}
		return nil
	})
	return o, page, next, err
}

// read one head at a state.
func (v *Vault) headOf(ctx context.Context, c class, s state, name string) (o *object, err error) {
	err = v.opts.Store.View(ctx, func(r store.Reader) error {
		o, err = v.find(ctx, r, c, s, name)
		return err
	})
	return o, err
}

// audited runs a change that was recorded as allowed before. When the change is refused, that is recorded too.
func (v *Vault) audited(ctx context.Context, kind, object string, change func() error) error {
	if _, err := v.Record(ctx, kind, object, true, ""); err != nil {
		return err
	}
	return v.refused(ctx, kind, object, change())
}

func (v *Vault) remove(ctx context.Context, c class, name string) (o *object, err error) {
	err = v.audited(ctx, string(c)+".delete", string(c)+"/"+name, func() error {
		return v.opts.Store.Update(ctx, func(tx store.Tx) error {
			o, err = v.find(ctx, tx, c, live, name)
			if err != nil {
				return err
			}
			now := v.opts.Now()
			o.head.Deleted = &deletion{*seconds(now), *seconds(now.Add(time.Duration(v.opts.RecoverableDays) * 24 * time.Hour))}
			if err := tx.Delete(v.path(c, live, name)); err != nil {
				return err
			}
			return o.save(tx, deleted)
		})
	})
	return o, err
}

func (v *Vault) recover(ctx context.Context, c class, name string) (o *object, err error) {
	err = v.audited(ctx, string(c)+".recover", string(c)+"/"+name, func() error {
		return v.opts.Store.Update(ctx, func(tx store.Tx) error {
			o, err = v.find(ctx, tx, c, deleted, name)
			if err != nil {
				return err
			}
			o.head.Deleted = nil
			if err := tx.Delete(v.path(c, deleted, name)); err != nil {
				return err
			}
			return o.save(tx, live)
		})
	})
	return o, err
}

// purge removes a deleted object. Its first step removes the object's key, after which nothing of it can be read any more;
// the versions follow in steps that fit the store, and are continued by Run if they are interrupted.
func (v *Vault) purge(ctx context.Context, c class, name string) error {
	err := v.audited(ctx, string(c)+".purge", string(c)+"/"+name, func() error {
		return v.opts.Store.Update(ctx, func(tx store.Tx) error {
			o, err := v.find(ctx, tx, c, deleted, name)
			if err != nil {
				return err
			}
			if v.opts.PurgeProtected && v.opts.Now().Before(o.head.Deleted.Purge) {
				return &Error{Code: Protected, Message: fmt.Sprintf("The vault keeps the %s %s until %s.", c, name, o.head.Deleted.Purge.Format(time.RFC3339))}
			}
			if err := tx.Delete(v.path(c, deleted, name)); err != nil {
				return err
			}
			return tx.Put(v.path(c, purging, name), []byte("{}"))
		})
	})
	if err != nil {
		return err
	}
	return v.sweepVersions(ctx, c, name)
}

// sweepVersions removes the versions of an object that is being purged, and at last its mark.
func (v *Vault) sweepVersions(ctx context.Context, c class, name string) error {
	for done := false; !done; {
		err := v.opts.Store.Update(ctx, func(tx store.Tx) error {
			mark := v.path(c, purging, name)
			_, err := tx.Get(mark)
			if errors.Is(err, store.ErrNotFound) {
				done = true // another instance was quicker
				return nil
			}
			if err != nil {
				return err
			}
			const step = store.MaxTracked / 4
			entries, err := tx.List(v.versionPath(c, name, ""), "", step)
			if err != nil {
				return err
			}
			for _, e := range entries {
				if err := tx.Delete(e.Key); err != nil {
					return err
				}
			}
			done = len(entries) < step
			if done {
				return tx.Delete(mark)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("purging %s %s: %w", c, name, err)
		}
	}
	return nil
}
