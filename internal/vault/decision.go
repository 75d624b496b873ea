// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/vault/releasepolicy"
	"cofferdam.dev/internal/vault/wrap"
)

// Reason says in one word why a release was denied.
type Reason string

// The reasons.
const (
	ReasonNotExportable Reason = "not-exportable"
	ReasonToken         Reason = "token"
	ReasonPolicy        Reason = "policy"
	ReasonWrappingKey   Reason = "wrapping-key"
)

// Decision is why a release was allowed or denied. It is for the operator: it says what the policy expected and what the
// guest was.
type Decision struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Object  string    `json:"object"`
	Version string    `json:"version"`
	// By is who asked, when a caller established that.
	By      string `json:"by,omitempty"`
	Allowed bool   `json:"allowed"`
	// Reason and Detail say why a release was denied.
	Reason Reason `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Token is the SHA-256 of the token in hexadecimal, and TokenID its jti.
	Token     string `json:"token"`
	TokenID   string `json:"tokenId,omitempty"`
	Issuer    string `json:"issuer,omitempty"`
	Simulated bool   `json:"simulated"`
	// Enc and Recipient say how and to which of the guest's keys the material was wrapped.
	Enc       wrap.Enc `json:"enc,omitempty"`
	Recipient string   `json:"recipient,omitempty"`
	// Policy is the policy's text, and Outcome what each of its conditions came to.
	Policy  json.RawMessage        `json:"policy,omitempty"`
	Outcome *releasepolicy.Outcome `json:"outcome,omitempty"`
	// Receipt is that of the audit log.
	Receipt audit.Receipt `json:"receipt"`
}

// maxDetail bounds the text of a reason in bytes.
const maxDetail = 1 << 10

func (d *Decision) deny(r Reason, detail string) {
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") + "…"
	}
	d.Reason, d.Detail = r, detail
}

// summary is what the audit log has of a decision.
func (d *Decision) summary() string {
	s := "release " + d.ID
	if d.Issuer != "" {
		s += ", issuer " + d.Issuer
	}
	if d.Simulated {
		s += ", simulated"
	}
	if !d.Allowed {
		s += ", " + string(d.Reason) + ": " + d.Detail
	}
	return s + ", token " + d.Token
}

// describe says in a line why a policy is not satisfied.
func describe(out *releasepolicy.Outcome) string {
	failures := out.Failures()
	if len(failures) == 0 {
		return fmt.Sprintf("the policy names no authority %q", out.Issuer)
	}
	var list []string
	for _, f := range failures {
		actual := f.Actual
		if actual == "" {
			actual = "missing"
		}
		list = append(list, fmt.Sprintf("%s: %s %s %s, actual %s", f.Path, f.Claim, f.Operator, f.Expected, actual))
	}
	return strings.Join(list, "; ")
}

var decisionID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// newDecisionID returns a name that sorts by time: 48 bits of milliseconds since 1970, and 80 random ones.
func newDecisionID(t time.Time) string {
	b := make([]byte, 18)
	_, _ = rand.Read(b) // never fails
	binary.BigEndian.PutUint64(b, uint64(max(0, t.UnixMilli())))
	return hex.EncodeToString(b[2:])
}

func (v *Vault) decisionPath(id string) string { return "vault/" + v.opts.Name + "/decision/" + id }

// recordKey encrypts decisions: they say what guests are.
type recordKey struct {
	mu   sync.Mutex
	root *seal.Secret
}

// decisionBox encrypts one decision. Each has a key of its own, which follows from that of all: there are more of them than
// one key may encrypt.
func (v *Vault) decisionBox(ctx context.Context, id string) (*seal.Box, error) {
	root, err := v.decisionKey(ctx)
	if err != nil {
		return nil, err
	}
	b, err := hkdf.Key(sha256.New, root.Expose(), nil, "cofferdam.dev/vault/decision/v1\x00"+id, seal.RootKeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of the decision %s: %w", id, err)
	}
	key := seal.NewSecret(b)
	defer key.Destroy()
	return seal.NewBox(key)
}

// decisionKey returns the key of all decisions, and makes it when there is none.
func (v *Vault) decisionKey(ctx context.Context) (*seal.Secret, error) {
	v.records.mu.Lock()
	defer v.records.mu.Unlock()
	if v.records.root != nil {
		return v.records.root, nil
	}
	path := "vault/" + v.opts.Name + "/decision-key"
	key := seal.NewRootKey()
	defer key.Destroy()
	fresh, err := v.opts.Root.Wrap(ctx, key.Expose(), bind("key", path, nil))
	if err != nil {
		return nil, fmt.Errorf("wrapping the key of decisions: %w", err)
	}
	var wrapped []byte
	err = v.opts.Store.Update(ctx, func(tx store.Tx) error {
		var err error
		wrapped, err = tx.Get(path)
		if errors.Is(err, store.ErrNotFound) {
			wrapped = fresh
			return tx.Put(path, fresh)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the key of decisions: %w", err)
	}
	b, err := v.opts.Root.Unwrap(ctx, wrapped, bind("key", path, nil))
	if err != nil {
		return nil, fmt.Errorf("reading the key of decisions: %w", err)
	}
	v.records.root = seal.NewSecret(b)
	return v.records.root, nil
}

// maxOutcome bounds a decision in bytes; a larger one loses the conditions that held.
const maxOutcome = store.MaxValueSize / 4

// keepDecision stores a decision, together with others that are made at the same time.
func (v *Vault) keepDecision(ctx context.Context, d *Decision) error {
	if id := auth.From(ctx); id != nil {
		d.By = id.String()
	}
	b, err := json.Marshal(d)
	if err == nil && len(b) > maxOutcome {
		short := *d
		short.Outcome = nil
		b, err = json.Marshal(&short)
	}
	if err != nil {
		return fmt.Errorf("encoding the decision %s: %w", d.ID, err)
	}
	box, err := v.decisionBox(ctx, d.ID)
	if err != nil {
		return err
	}
	path := v.decisionPath(d.ID)
	sealed := box.Seal(b, bind("decision", path, nil))
	if err := v.batch.put(ctx, v.opts.Store, path, sealed); err != nil {
		return err
	}
	v.kept.add(len(path)+len(sealed), v.opts.DecisionBytes)
	return nil
}

// Explain returns a decision for an operator.
func (v *Vault) Explain(ctx context.Context, id string) (*Decision, error) {
	missing := &Error{Code: KeyNotFound, Message: "There is no decision about a release with this ID, or it is too old."}
	if !decisionID.MatchString(id) {
		return nil, missing
	}
	path := v.decisionPath(id)
	var sealed []byte
	err := v.opts.Store.View(ctx, func(r store.Reader) error {
		var err error
		sealed, err = r.Get(path)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	box, err := v.decisionBox(ctx, id)
	if err != nil {
		return nil, err
	}
	b, err := box.Open(sealed, bind("decision", path, nil))
	if err != nil {
		return nil, fmt.Errorf("reading the decision %s: %w", id, err)
	}
	var d Decision
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("reading the decision %s: %w", id, err)
	}
	return &d, nil
}
