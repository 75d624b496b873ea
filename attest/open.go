// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// The kinds of sources that a machine can offer by itself. The simulator is none of them: it needs a port, which only
// whoever asked for it has.
const (
	// KindSocket is the socket that the agent of a cofferdam guest gives to every container of the group.
	KindSocket = "socket"
	// KindConfigfs is configfs-tsm of Linux 6.7 and later, for SEV-SNP and TDX.
	KindConfigfs = "configfs-tsm"
	// KindTDX is the device of TDX guests for the local report, with configfs-tsm for the quote.
	KindTDX = "tdx"
	// KindSEVGuest is the device of Linux 5.19 and later for SEV-SNP.
	KindSEVGuest = "sev-guest"
	// KindSEV is the device of the 5.x kernels that carried SEV-SNP guest support before it was upstream.
	KindSEV = "sev"
	// KindSGX is /dev/attestation, which library operating systems such as Gramine give to programs in an SGX enclave.
	KindSGX = "sgx"
)

// Kinds returns the kinds that Open knows, in the order in which they are best tried.
func Kinds() []string {
	return []string{KindSocket, KindConfigfs, KindTDX, KindSEVGuest, KindSEV, KindSGX}
}

// Attempt is a source that could not be opened.
type Attempt struct {
	// Kind and Path name the source.
	Kind, Path string
	// Err says why it can not be used.
	Err error
}

// UnavailableError says that none of the sources that were asked for is there.
type UnavailableError struct {
	// Attempts are all sources that were tried, in order.
	Attempts []Attempt
}

// Error names every source that was tried and what was wrong with it.
func (e *UnavailableError) Error() string {
	var b strings.Builder
	b.WriteString("no source of attestation reports is available; tried")
	for i, a := range e.Attempts {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " %s (%s): %v", a.Kind, a.Path, a.Err)
	}
	return b.String()
}

// Unwrap returns the reasons.
func (e *UnavailableError) Unwrap() []error {
	errs := make([]error, len(e.Attempts))
	for i, a := range e.Attempts {
		errs[i] = a.Err
	}
	return errs
}

// Open returns the first source of the kinds, in their order, that this machine has. It opens what the machine offers by
// itself, and makes nothing up: in a group whose TEE is simulated, the agent's socket gives reports of the simulated
// processor, whose root no verifier trusts unless it was told to. When there is no source the error is an
// *UnavailableError; a kind that is unknown is an error even if another one is there.
func Open(ctx context.Context, kinds ...string) (Provider, error) {
	return machine{}.open(ctx, kinds)
}

// machine is where the sources of a machine lie: below root, which is empty except in tests.
type machine struct{ root string }

func (m machine) open(ctx context.Context, kinds []string) (Provider, error) {
	if len(kinds) == 0 {
		return nil, fmt.Errorf("opening a source of reports: no kind is named; there are %s", strings.Join(Kinds(), ", "))
	}
	for _, k := range kinds {
		if !slices.Contains(Kinds(), k) {
			return nil, fmt.Errorf("opening a source of reports: kind %q is unknown; there are %s", k, strings.Join(Kinds(), ", "))
		}
	}
	failed := &UnavailableError{}
	for _, k := range kinds {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("opening a source of reports: %w", err)
		}
		p, path, err := m.openKind(k)
		if err == nil {
			return p, nil
		}
		failed.Attempts = append(failed.Attempts, Attempt{Kind: k, Path: path, Err: err})
	}
	return nil, failed
}

// openKind opens one source and says where it looked.
func (m machine) openKind(kind string) (p Provider, path string, err error) {
	switch kind {
	case KindSocket:
		path = m.root + SocketPath
		p, err = provider(OpenSocket(path))
	case KindConfigfs:
		path = m.root + ConfigfsRoot
		c, err := OpenConfigfs(path)
		if err == nil {
			err = c.probe()
		}
		return c, path, err
	case KindTDX:
		path = m.root + TDXDevice
		p, err = provider(OpenTDX(path, m.root+ConfigfsRoot))
	case KindSEVGuest:
		path = m.root + SEVGuestDevice
		p, err = provider(OpenSEVGuest(path))
	case KindSEV:
		path = m.root + SEVDevice
		p, err = provider(OpenSEV(path))
	case KindSGX:
		path = m.root + SGXRoot
		p, err = provider(OpenSGX(path))
	default:
		err = fmt.Errorf("kind %q is unknown", kind)
	}
	return p, path, err
}

func provider[P Provider](p P, err error) (Provider, error) { return p, err }
