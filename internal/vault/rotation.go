// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"time"

	"cofferdam.dev/internal/store"
)

// Least durations of a rotation policy, as Azure Key Vault has them: nobody wants a key that is replaced faster than its users
// learn of it.
const (
	leastRotation = 7  // days
	leastExpiry   = 28 // days
	// defaultNotify is how long before its end a key without a policy is told of.
	defaultNotify = 30 // days
)

// Period is a span of the calendar, ISO 8601 without times of the day. The zero value is none.
type Period struct{ Years, Months, Days int }

// periodText is the form of a period: P, and at least one of its parts in order.
var periodText = regexp.MustCompile(`^P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?$`)

// ParsePeriod reads a period such as P90D or P1Y6M.
func ParsePeriod(s string) (Period, error) {
	m := periodText.FindStringSubmatch(s)
	var n [4]int
	for i := range n {
		if m != nil && m[i+1] != "" {
			n[i], _ = strconv.Atoi(m[i+1]) // digits, and few of them
		}
	}
	p := Period{n[0], n[1], 7*n[2] + n[3]}
	const most = 99999 // of days, which is what fits the form
	if m == nil || p.IsZero() || p.Days > most {
		return Period{}, bad("%.30q is not a period of years, months, weeks and days, such as P90D or P1Y6M.", s)
	}
	return p, nil
}

// IsZero reports whether the period is none.
func (p Period) IsZero() bool { return p == Period{} }

// String is what ParsePeriod reads; weeks are days.
func (p Period) String() string {
	if p.IsZero() {
		return ""
	}
	s := "P"
	for _, part := range []struct {
		n    int
		unit string
	}{{p.Years, "Y"}, {p.Months, "M"}, {p.Days, "D"}} {
		if part.n != 0 {
			s += strconv.Itoa(part.n) + part.unit
		}
	}
	return s
}

// MarshalText writes what String returns.
func (p Period) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads it.
func (p *Period) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*p = Period{}
		return nil
	}
	var err error
	*p, err = ParsePeriod(string(b))
	return err
}

// after and before are the time a period later and earlier.
func (p Period) after(t time.Time) time.Time  { return t.AddDate(p.Years, p.Months, p.Days) }
func (p Period) before(t time.Time) time.Time { return t.AddDate(-p.Years, -p.Months, -p.Days) }

// days is about how long the period is: no longer than it ever is.
func (p Period) days() int { return 365*p.Years + 28*p.Months + p.Days }

// ActionType is what is done with a key by its rotation policy.
type ActionType string

// The actions. Notify says in logs and audit log that a key needs attention.
const (
	Rotate ActionType = "Rotate"
	Notify ActionType = "Notify"
)

// LifetimeAction is one rule of a rotation policy. One of the two times is set.
type LifetimeAction struct {
	Type ActionType `json:"type"`
	// AfterCreate is counted from the making of the newest version, and BeforeExpiry back from its end.
	AfterCreate  Period `json:"timeAfterCreate,omitzero"`
	BeforeExpiry Period `json:"timeBeforeExpiry,omitzero"`
}

// RotationPolicy says when new versions of a key are made.
type RotationPolicy struct {
	Actions []LifetimeAction `json:"lifetimeActions"`
	// Expiry is how long the versions are good that are made while this policy is in force; zero is for good.
	Expiry  Period    `json:"expiryTime,omitzero"`
	Created time.Time `json:"created,omitzero"`
	Updated time.Time `json:"updated,omitzero"`
}

// rotation is a policy as it is kept with a key.
type rotation struct {
	RotationPolicy

	// Told is the version about which was notified.
	Told string `json:"told,omitempty"`
}

// defaultRotation is the policy of keys that have none.
func defaultRotation() *RotationPolicy {
	return &RotationPolicy{Actions: []LifetimeAction{{Type: Notify, BeforeExpiry: Period{Days: defaultNotify}}}}
}

// check refuses policies that can not be meant.
func (p *RotationPolicy) check() error {
	if !p.Expiry.IsZero() && p.Expiry.days() < leastExpiry {
		return bad("The expiry time of a rotation policy is at least P%dD.", leastExpiry)
	}
	var seen []ActionType
	for _, a := range p.Actions {
		after, before := !a.AfterCreate.IsZero(), !a.BeforeExpiry.IsZero()
		switch {
		case a.Type != Rotate && a.Type != Notify:
			return bad("The type of an action is %s or %s.", Rotate, Notify)
		case slices.Contains(seen, a.Type):
			return bad("A rotation policy has each action once.")
		case after == before:
			return bad("A trigger is timeAfterCreate or timeBeforeExpiry, and one of the two.")
		case a.Type == Notify && after:
			return bad("What is notified is a key that nears its end: its trigger is timeBeforeExpiry.")
		case after && a.AfterCreate.days() < leastRotation || before && a.BeforeExpiry.days() < leastRotation:
			return bad("The time of a trigger is at least P%dD.", leastRotation)
		case a.Type == Rotate && before && p.Expiry.IsZero():
			return bad("A rotation before a key expires needs an expiry time, or new versions would never be rotated.")
		case !p.Expiry.IsZero() && !inOrder(a, p.Expiry):
			return bad("The time of a trigger leaves less than P%dD of the expiry time.", leastRotation)
		}
		seen = append(seen, a.Type)
	}
	return nil
}

// inOrder reports whether a version is some days old when the trigger comes, and still good for some.
func inOrder(a LifetimeAction, expiry Period) bool {
	day := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC) // any
	end, least := expiry.after(day), Period{Days: leastRotation}
	at := a.AfterCreate.after(day)
	if !a.BeforeExpiry.IsZero() {
		at = a.BeforeExpiry.before(end)
	}
	return !at.Before(least.after(day)) && !at.After(least.before(end))
}

// RotationPolicy returns the policy of a key: what was set, or else the default one.
func (v *Vault) RotationPolicy(ctx context.Context, name string) (*RotationPolicy, error) {
	o, err := v.headOf(ctx, keys, live, name)
	if err != nil {
		return nil, err
	}
	return o.rules().export(), nil
}

func (r *rotation) export() *RotationPolicy {
	p := r.RotationPolicy
	p.Actions = slices.Clone(p.Actions)
	return &p
}

// SetRotationPolicy replaces the policy of a key. Versions that are there stay as they are.
func (v *Vault) SetRotationPolicy(ctx context.Context, name string, p RotationPolicy) (*RotationPolicy, error) {
	if err := p.check(); err != nil {
		return nil, v.refused(ctx, "key.rotation", "key/"+name, err)
	}
	var out *RotationPolicy
	err := v.audited(ctx, "key.rotation", "key/"+name, func() error {
		return v.opts.Store.Update(ctx, func(tx store.Tx) error {
			o, err := v.find(ctx, tx, keys, live, name)
			if err != nil {
				return err
			}
			next := &rotation{RotationPolicy: RotationPolicy{Actions: slices.Clone(p.Actions), Expiry: p.Expiry, Updated: *seconds(v.opts.Now())}}
			next.Created = next.Updated
			if was := o.head.Rotation; was != nil {
				next.Told = was.Told
				if !was.Created.IsZero() {
					next.Created = was.Created
				}
			}
			o.head.Rotation, out = next, next.export()
			return o.save(tx, live)
		})
	})
	return out, err
}

// rules are the policy that counts.
func (o *object) rules() *rotation {
	if o.head.Rotation != nil {
		return o.head.Rotation
	}
	return &rotation{RotationPolicy: *defaultRotation()}
}

// due returns the actions whose time has come for the newest version of a key.
func (o *object) due(now time.Time) []ActionType {
	a, rules := o.head.Current.Attributes, o.rules()
	if !a.Enabled {
		return nil
	}
	var list []ActionType
	for _, one := range rules.Actions {
		at := one.AfterCreate.after(a.Created)
		if !one.BeforeExpiry.IsZero() {
			if a.Expires == nil {
				continue
			}
			at = one.BeforeExpiry.before(*a.Expires)
		}
		told := one.Type == Notify && rules.Told == o.head.Current.Version
		if !now.Before(at) && !told {
			list = append(list, one.Type)
		}
	}
	return list
}

// sweepRotations does what rotation policies say. A key that can not be rotated does not hold up the others.
func (v *Vault) sweepRotations(ctx context.Context) error {
	var errs []error
	for after := ""; ; {
		page, next, err := v.list(ctx, keys, live, after, MaxPage)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, o := range page {
			due := o.due(v.opts.Now())
			var err error
			switch {
			case slices.Contains(due, Rotate):
				err = v.rotateDue(ctx, o)
			case slices.Contains(due, Notify):
				err = v.notify(ctx, o)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("rotation policy of key %s: %w", o.head.Name, err))
			}
		}
		if after = next; after == "" {
			return errors.Join(errs...)
		}
	}
}

// rotateDue rotates a key, unless somebody did meanwhile.
func (v *Vault) rotateDue(ctx context.Context, o *object) error {
	k, err := newKey(o, o.head.Current)
	if err != nil {
		return err
	}
	_, err = v.rotate(ctx, "key.autorotate", k, true)
	var refusal *Error
	if errors.As(err, &refusal) && (refusal.Code == Conflict || refusal.Code == KeyNotFound) {
		return nil // another instance was quicker, or the key is deleted
	}
	return err
}

// notify says once of a version that it nears its end.
func (v *Vault) notify(ctx context.Context, o *object) error {
	version := o.head.Current.Version
	told := false
	err := v.opts.Store.Update(ctx, func(tx store.Tx) error {
		told = false
		now, err := v.find(ctx, tx, keys, live, o.head.Name)
		if err != nil {
			return err
		}
		rules := now.rules()
		if now.head.Current.Version != version || rules.Told == version {
			return nil
		}
		rules.Told, told = version, true
		now.head.Rotation = rules
		return now.save(tx, live)
	})
	if err != nil || !told {
		return err
	}
	v.opts.Log.Warn("a key nears its end", slog.String("vault", v.opts.Name), slog.String("key", o.head.Name), slog.String("version", version))
	_, err = v.Record(ctx, "key.notify", "key/"+o.head.Name+"/"+version, true, "it expires at "+o.head.Current.Attributes.Expires.Format(time.RFC3339))
	return err
}
