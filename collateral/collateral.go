// SPDX-License-Identifier: Apache-2.0

// Package collateral is what a verifier needs besides evidence: the certificates, revocation lists and TCB statements
// that AMD and Intel publish. A Request names one piece, a Source has some of them, and an Item is one as it was served.
// Sources here are those that need no network: what came with the evidence, and a directory. Package cache keeps items
// on disk, package remote asks the vendors' servers.
//
// Nothing that a Source returns is trusted: every item is signed by a vendor, and package verify judges it. This package
// checks form alone. It never decides anything, never looks at the clock, and imports the standard library only.
package collateral

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrUnavailable is wrapped by every error that a Source of this module returns for a request in good form: nothing is
// known to be wrong, the item is just not there. A verdict without it is undecided.
var ErrUnavailable = errors.New("collateral is not available")

// ErrNotOffered is wrapped by a source's errors about kinds of collateral that it never has, as AMD's servers have
// nothing of Intel's. It wraps ErrUnavailable.
var ErrNotOffered = fmt.Errorf("%w from a source that has none of that kind", ErrUnavailable)

// Item is one piece of collateral, exactly as it was served.
type Item struct {
	// Body is one DER certificate (AMDVCEK), two certificates in PEM with the intermediate first (AMDChain), a DER
	// revocation list (AMDCRL, IntelPCKCRL, IntelRootCRL) or signed JSON (IntelTCBInfo, IntelQEIdentity).
	Body []byte
	// IssuerChain are the certificates in PEM that signed the body, the issuer first and the root last. Intel sends
	// them in a header with TCB information, QE identities and PCK revocation lists; the last can do without, as the
	// evidence has the same certificates. All others have none.
	IssuerChain []byte
}

// Source has collateral. It returns an error that wraps ErrUnavailable for what it has not. It must be safe for
// concurrent use, and whoever gets an item must not change its bytes.
type Source interface {
	Get(ctx context.Context, r Request) (Item, error)
}

// Embedded has the items that travelled with the evidence, each under its Request's name.
type Embedded map[string]Item

var _ Source = Embedded(nil)

// Get returns the item of that name.
func (e Embedded) Get(_ context.Context, r Request) (Item, error) {
	if err := r.Validate(); err != nil {
		return Item{}, err
	}
	it, ok := e[r.Name()]
	if !ok {
		return Item{}, fmt.Errorf("%s is not embedded in the evidence: %w", r.Name(), ErrUnavailable)
	}
	return it, nil
}

// Join returns a source that asks the given ones in order and returns the first item that one of them has. Sources that
// are nil are left out; without any, nothing is available. The error says what each source that could have had the item
// said.
func Join(sources ...Source) Source {
	j := make(joined, 0, len(sources))
	for _, s := range sources {
		if s != nil {
			j = append(j, s)
		}
	}
	return j
}

type joined []Source

func (j joined) Get(ctx context.Context, r Request) (Item, error) {
	if err := r.Validate(); err != nil {
		return Item{}, err
	}
	if len(j) == 0 {
		return Item{}, fmt.Errorf("%s: there is no source of collateral: %w", r.Name(), ErrUnavailable)
	}
	var errs failures
	var first error
	for _, s := range j {
		it, err := s.Get(ctx, r)
		if err == nil {
			return it, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, ErrNotOffered) {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	switch len(errs) {
	case 0:
		return Item{}, first
	case 1:
		return Item{}, errs[0]
	}
	return Item{}, errs
}

// failures are the errors of several sources.
type failures []error

// Error puts them on one line: verdicts show it.
func (f failures) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns all of them.
func (f failures) Unwrap() []error { return f }
