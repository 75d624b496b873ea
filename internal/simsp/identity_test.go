// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"testing"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify"
)

// owner is who pins launches: an ID key, and an author key that vouches for it.
type owner struct{ id, author *ecdsa.PrivateKey }

func newOwner(t testing.TB) owner {
	t.Helper()
	id, err1 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	author, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err := joinErrors(err1, err2); err != nil {
		t.Fatal(err)
	}
	return owner{id, author}
}

func sign(t testing.TB, key *ecdsa.PrivateKey, message []byte) snp.IDSignature {
	t.Helper()
	digest := sha512.Sum384(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig, err := snp.NewIDSignature(r, s)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// authenticate signs a block.
func (o owner) authenticate(t testing.TB, block []byte) *snp.IDAuth {
	t.Helper()
	a := &snp.IDAuth{BlockSignature: sign(t, o.id, block)}
	var err1, err2 error
	a.Key, err1 = snp.NewIDKey(&o.id.PublicKey)
	a.AuthorKey, err2 = snp.NewIDKey(&o.author.PublicKey)
	if err := joinErrors(err1, err2); err != nil {
		t.Fatal(err)
	}
	a.KeySignature = sign(t, o.author, a.Key[:])
	return a
}

// pinned is a launch that its owner pinned, with the block.
func pinned(t testing.TB, p *Processor, o owner) (Launch, *snp.IDBlock, *snp.IDAuth) {
	t.Helper()
	l := launch(t)
	block := &snp.IDBlock{
		Measurement: mustLaunch(t, p, l).Measurement(), FamilyID: [16]byte{1}, ImageID: [16]byte{2}, GuestSVN: 5, Policy: l.Policy,
	}
	l.IDBlock, l.AuthorKey = block.Marshal(), true
	auth := o.authenticate(t, l.IDBlock)
	l.IDAuth = auth.Marshal()
	return l, block, auth
}

// TestIDBlock pins a launch and has the verifier insist on the pin.
func TestIDBlock(t *testing.T) {
	t.Parallel()
	p, o := processorForTest(t), newOwner(t)
	l, _, auth := pinned(t, p, o)
	doc, opts := roundTrip(t, p, l)
	opts.SNP.RequireIDBlock, opts.SNP.RequireAuthorKey = true, true
	opts.SNP.IDKeys, opts.SNP.AuthorKeys = [][48]byte{auth.Key.Digest()}, [][48]byte{auth.AuthorKey.Digest()}
	opts.SNP.MinimumGuestSVN, opts.SNP.FamilyIDs, opts.SNP.ImageIDs = 5, [][16]byte{{1}}, [][16]byte{{2}}
	if v := verify.Appraise(t.Context(), doc, opts); v.Outcome != verify.Accepted {
		t.Errorf("outcome %q, failures %v", v.Outcome, v.Failures())
	}
	opts.SNP.MinimumGuestSVN = 6
	if v := verify.Appraise(t.Context(), doc, opts); v.Outcome != verify.Refused {
		t.Errorf("a guest below the floor: outcome %q", v.Outcome)
	}
	l.AuthorKey = false // the same bytes, with the author's key switched off
	r, err := snp.ParseReport(reportOf(t, mustLaunch(t, p, l), [64]byte{}, 0))
	if err != nil {
		t.Fatal(err)
	}
	if r.AuthorKeyDigest != [48]byte{} || r.KeyInfo&snp.KeyInfoAuthorKey != 0 || r.IDKeyDigest != auth.Key.Digest() {
		t.Errorf("report has author key %x, key info %#x, ID key %x", r.AuthorKeyDigest, r.KeyInfo, r.IDKeyDigest)
	}
	// Derived keys follow the version that the owner gave.
	g := mustLaunch(t, p, l)
	for svn, want := range map[uint32]snp.Status{5: snp.StatusSuccess, 6: snp.StatusInvalidParameter} {
		rsp, err := g.answerKey((&snp.KeyRequest{Fields: snp.FieldGuestSVN, GuestSVN: svn}).Marshal())
		if err != nil || rsp.Status != want {
			t.Errorf("key of version %d: %v, %v", svn, rsp, err)
		}
	}
}

func TestLaunchesThatTheirOwnerDidNotPin(t *testing.T) {
	t.Parallel()
	p, o := processorForTest(t), newOwner(t)
	stranger := newOwner(t)
	for name, change := range map[string]func(l *Launch, b *snp.IDBlock, a *snp.IDAuth){
		"other command line":        func(l *Launch, _ *snp.IDBlock, _ *snp.IDAuth) { l.Cmdline += " debug" },
		"other policy":              func(l *Launch, _ *snp.IDBlock, _ *snp.IDAuth) { l.Policy |= snp.PolicyDebug },
		"block changed":             func(l *Launch, _ *snp.IDBlock, _ *snp.IDAuth) { l.IDBlock[84]++ },
		"block of a stranger":       func(l *Launch, _ *snp.IDBlock, a *snp.IDAuth) { a.BlockSignature = sign(t, stranger.id, l.IDBlock) },
		"key of a stranger":         func(_ *Launch, _ *snp.IDBlock, a *snp.IDAuth) { a.KeySignature = sign(t, stranger.author, a.Key[:]) },
		"key that is none":          func(_ *Launch, _ *snp.IDBlock, a *snp.IDAuth) { a.Key[4] ^= 1 },
		"author that is none":       func(_ *Launch, _ *snp.IDBlock, a *snp.IDAuth) { a.AuthorKey[4] ^= 1 },
		"block cut":                 func(l *Launch, _ *snp.IDBlock, _ *snp.IDAuth) { l.IDBlock = l.IDBlock[:95] },
		"no block":                  func(l *Launch, _ *snp.IDBlock, _ *snp.IDAuth) { l.IDBlock = nil },
		"level that does not exist": func(l *Launch, _ *snp.IDBlock, _ *snp.IDAuth) { l.VMPL = 4 },
	} {
		l, block, auth := pinned(t, p, o)
		change(&l, block, auth)
		l.IDAuth = auth.Marshal()
		if _, err := p.Launch(l); err == nil {
			t.Errorf("%s: it was launched", name)
		}
	}
	l := launch(t)
	l.AuthorKey = true
	if _, err := p.Launch(l); err == nil {
		t.Error("an author key without an ID block: it was launched")
	}
	l, _, _ = pinned(t, p, o)
	l.IDAuth = nil
	if _, err := p.Launch(l); err == nil {
		t.Error("a block without authentication: it was launched")
	}
}

// TestPrivilegeLevels has somebody below the most privileged level ask for what is above.
func TestPrivilegeLevels(t *testing.T) {
	t.Parallel()
	l := launch(t)
	l.VMPL = 2
	g := mustLaunch(t, processorForTest(t), l)
	for vmpl, ok := range map[uint32]bool{0: false, 1: false, 2: true, 3: true, 4: false} {
		rsp, err := g.answerReport((&snp.ReportRequest{VMPL: vmpl}).Marshal())
		if err != nil || (rsp.Status == snp.StatusSuccess) != ok {
			t.Errorf("report of level %d: %v, %v", vmpl, rsp, err)
		}
		key, err := g.answerKey((&snp.KeyRequest{VMPL: vmpl}).Marshal())
		if err != nil || (key.Status == snp.StatusSuccess) != ok {
			t.Errorf("key of level %d: %v, %v", vmpl, key, err)
		}
	}
}
