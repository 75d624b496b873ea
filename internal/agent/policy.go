// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/evidence/tdx"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

const maxPolicy = engine.MaxTextSize

// localReporter is a source that can have the processor tell the guest itself what it is. On TDX nothing else can: a quote
// comes from a service of the host, and the guest does not check its signature.
type localReporter interface {
	LocalReport(ctx context.Context, reportData [64]byte) (*tdx.Report, error)
}

// ownHostData asks the processor for a report with fresh report data and returns what the launch fixed for the policy's
// hash: HOST_DATA of SEV-SNP, MRCONFIGID of TDX. The signature of an SEV-SNP report is for others to check; here it comes
// from the guest's own processor.
func ownHostData(ctx context.Context, p attest.Provider) ([32]byte, error) {
	var fresh [64]byte
	_, _ = rand.Read(fresh[:]) // never fails: crypto/rand aborts the program instead
	if local, ok := p.(localReporter); ok {
		return ownConfigID(ctx, local, fresh)
	}
	r, err := p.Report(ctx, fresh)
	if err != nil {
		return [32]byte{}, fmt.Errorf("getting a report from %s: %w", p.Kind(), err)
	}
	if r.Type != attest.TypeSEVSNP {
		return [32]byte{}, fmt.Errorf("report is of type %q, which carries no host data that is understood", r.Type)
	}
	report, err := snp.ParseReport(r.Report)
	if err != nil {
		return [32]byte{}, fmt.Errorf("parsing the report: %w", err)
	}
	if subtle.ConstantTimeCompare(report.ReportData[:], fresh[:]) != 1 {
		return [32]byte{}, fmt.Errorf("report from %s is not for the request: its report data differs", p.Kind())
	}
	return report.HostData, nil
}

// ownConfigID returns the hash in MRCONFIGID, which has room for a longer one: 32 bytes and 16 zeros.
func ownConfigID(ctx context.Context, p localReporter, fresh [64]byte) ([32]byte, error) {
	r, err := p.LocalReport(ctx, fresh)
	if err != nil {
		return [32]byte{}, err
	}
	if subtle.ConstantTimeCompare(r.ReportData[:], fresh[:]) != 1 {
		return [32]byte{}, errors.New("the local report is not for the request: its report data differs")
	}
	id := r.TD.MRConfigID
	if [16]byte(id[32:]) != [16]byte{} {
		return [32]byte{}, fmt.Errorf("MRCONFIGID is %x: no SHA-256 with 16 zero bytes behind it", id)
	}
	return [32]byte(id[:]), nil
}

// SetPolicy implements guestv1.GuestService.
func (s *Service) SetPolicy(_ context.Context, r *guestv1.SetPolicyRequest) (*guestv1.SetPolicyResponse, error) {
	const call = "SetPolicy"
	c := newCheck(call)
	c.size("policy", len(r.GetPolicy()), 1, maxPolicy)
	if c.err() != nil {
		return nil, c.err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != "" {
		return nil, denial(guestv1.CodeBroken, call, "the guest is broken: "+s.broken)
	}
	if s.policy != nil {
		return nil, denial(guestv1.CodePolicyAlreadySet, call, "a policy is set, and stays until power-off")
	}
	hash := policy.Hash(r.GetPolicy())
	if subtle.ConstantTimeCompare(hash[:], s.hostData[:]) != 1 {
		d := denial(guestv1.CodePolicyMismatch, call, "the policy is not the one that the launch fixed in HOST_DATA, or on TDX in MRCONFIGID")
		d.Field, d.Expected, d.Actual = "policy", "SHA-256 "+hex.EncodeToString(s.hostData[:]), hex.EncodeToString(hash[:])
		d.Fix = "launch with this policy's hash, or send the policy that was launched with"
		return nil, d
	}
	loaded, err := s.cfg.LoadPolicy(r.GetPolicy())
	if err != nil {
		d := denial(guestv1.CodePolicyInvalid, call, clip(err.Error(), maxReason))
		d.Field = "policy"
		return nil, d
	}
	s.policy, s.text = loaded, r.GetPolicy()
	s.policySet.Store(true)
	s.verbose = s.mayLog()
	return &guestv1.SetPolicyResponse{HostData: s.hostData[:]}, nil
}

// mayLog asks the policy whether the host may read about what the guest does. Nobody hears why not.
func (s *Service) mayLog() bool {
	ctx := context.Background()
	unit, err := s.policy.Begin(ctx)
	if err != nil {
		return false
	}
	defer unit.Rollback()
	allowed, err := unit.Allows(ctx, engine.PointRuntimeLogging, nil)
	if err != nil || !allowed {
		return false
	}
	unit.Commit()
	return true
}
