// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/policy"
)

// fakeLimiter records what it is told, in the journal too.
type fakeLimiter struct {
	log  *journal
	own  []netip.Addr
	fail error
}

func (l *fakeLimiter) Limit(_ *policy.Egress, own []netip.Addr) error {
	l.own = own
	l.log.add("Limit")
	return l.fail
}

// limited is a rig whose policy has an egress list, with a root filesystem mounted.
func limited(t *testing.T) (*rig, *fakeLimiter) {
	t.Helper()
	r := ready(t)
	mounted(t, r)
	l := &fakeLimiter{log: r.log}
	r.decider.egress, r.cfg.Egress = &policy.Egress{}, l
	r.log.take()
	return r, l
}

// TestEgressIsLimitedFirst has the list in force before a container is made.
func TestEgressIsLimitedFirst(t *testing.T) {
	t.Parallel()
	r, l := limited(t)
	device := &fakeAddresses{}
	r.cfg.Addresses = device
	_, err := r.ConfigureNetwork(t.Context(), &guestv1.ConfigureNetworkRequest{Addresses: []string{"10.1.2.3/24"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.CreateContainer(t.Context(), createRequest(idA))
	if err != nil {
		t.Fatal(err)
	}
	log := r.log.take()
	limit := slices.Index(log, "Limit")
	create := slices.IndexFunc(log, func(e string) bool { return strings.HasPrefix(e, "Create ") })
	if limit < 0 || create < limit {
		t.Errorf("what happened: %q", log)
	}
	if want := []netip.Addr{netip.MustParseAddr("10.1.2.3")}; !slices.Equal(l.own, want) {
		t.Errorf("its own addresses are %v, want %v", l.own, want)
	}
}

// TestNoContainerWithoutItsLimit has guests that can not enforce the list.
func TestNoContainerWithoutItsLimit(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*rig, *fakeLimiter){
		"no limiter":        func(r *rig, _ *fakeLimiter) { r.cfg.Egress = nil },
		"a limiter's error": func(_ *rig, l *fakeLimiter) { l.fail = errors.New("no bpf") },
	} {
		r, l := limited(t)
		prepare(r, l)
		for range 2 { // the second attempt no more than the first
			_, err := r.CreateContainer(t.Context(), createRequest(idA))
			if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeFailed {
				t.Errorf("%s: %v, want %s", name, err, guestv1.CodeFailed)
			}
		}
		for _, e := range r.log.take() {
			if strings.HasPrefix(e, "Create ") {
				t.Errorf("%s: a container was made", name)
			}
		}
	}
}

// TestCapabilitiesAreWithheld has processes ask for what would get around the list.
func TestCapabilitiesAreWithheld(t *testing.T) {
	t.Parallel()
	all := []string{"CAP_CHOWN", "CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF"}
	for name, tc := range map[string]struct {
		list *policy.Egress
		want []string
	}{
		"with a list":    {&policy.Egress{}, []string{"CAP_CHOWN"}},
		"without a list": {nil, all},
	} {
		r, _ := limited(t)
		r.decider.egress = tc.list
		q := createRequest(idA)
		q.Capabilities = &guestv1.Capabilities{Bounding: all, Effective: all, Permitted: all, Inheritable: all, Ambient: all}
		_, err := r.CreateContainer(t.Context(), q)
		if err == nil {
			_, err = r.StartContainer(t.Context(), &guestv1.StartContainerRequest{ContainerId: idA})
		}
		e := execRequest(idA)
		e.Capabilities = q.GetCapabilities()
		if err == nil {
			_, err = r.ExecProcess(t.Context(), e)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, c := range []policy.Capabilities{r.runtime.specs[idA].Capabilities, r.runtime.last.Capabilities} {
			for _, set := range [][]string{c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient} {
				if !slices.Equal(set, tc.want) {
					t.Errorf("%s: a set is %v, want %v", name, set, tc.want)
				}
			}
		}
	}
}
