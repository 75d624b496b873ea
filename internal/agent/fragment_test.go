// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/evidence/didx509"
	"cofferdam.dev/internal/channel"
	"cofferdam.dev/internal/testchain"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/fragment"
)

// fragmentText describes the one container that createRequest asks for.
func fragmentText(t *testing.T, svn string) []byte {
	t.Helper()
	zero := strings.Repeat("0", 64)
	anyone := policy.IDName{Strategy: policy.StrategyAny}
	f := policy.FragmentText{
		Namespace: "part", SVN: svn, FrameworkVersion: policy.DeployedFramework,
		Containers: []policy.Container{{
			AllowStdioAccess: true, Command: []string{"/bin/true"}, Layers: []string{zero, zero}, WorkingDir: "/",
			EnvRules: []policy.EnvRule{
				{Pattern: "PATH=/bin", Strategy: policy.StrategyString}, {Pattern: "TOKEN=.+", Strategy: policy.StrategyRegexp},
			},
			Capabilities: policy.Capabilities{Bounding: []string{"CAP_CHOWN"}},
			User:         policy.User{Umask: "0022", UserIDName: anyone, GroupIDNames: []policy.IDName{anyone}},
		}},
	}
	text, err := f.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func sign(t *testing.T, c *testchain.Chain, feed string, text []byte, change func(*fragment.Signer)) []byte {
	t.Helper()
	issuer, err := didx509.Subject(c.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	s := fragment.Signer{
		Key: c.Key, Chain: c.Certificates, Algorithm: cose1.ES384, Issuer: issuer, Feed: feed, At: testchain.NotBefore.AddDate(0, 1, 0),
	}
	if change != nil {
		change(&s)
	}
	message, err := s.Sign(rand.Reader, text)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// importing is a policy that lists nothing but a fragment.
func importing(t *testing.T, message []byte, minimum string) []byte {
	t.Helper()
	f, err := fragment.Open(message)
	if err != nil {
		t.Fatal(err)
	}
	statement, err := f.Import(minimum, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := policy.Policy{APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework, Fragments: []policy.Fragment{statement}}
	return p.Text()
}

// enforced is a service with fakes around it and the real engine in it, under a policy.
func enforced(t *testing.T, text []byte) *rig {
	t.Helper()
	j := &journal{}
	r := &rig{
		log: j, machine: &fakeMachine{log: j}, runtime: &fakeRuntime{log: j},
		provider: &fakeProvider{hostData: policy.Hash(text)}, broker: &channel.Broker{}, sockets: &fakeSockets{},
	}
	s, err := New(t.Context(), Config{
		TEE: "simulated", Build: "test", Provider: r.provider, Machine: r.machine, Runtime: r.runtime, Streams: r.broker, Evidence: r.sockets,
		LoadPolicy: LoadPolicy, VolumeRoot: "/volumes", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Service = s
	t.Cleanup(func() { r.takeDown(t.Context()) })
	_, err = s.SetPolicy(t.Context(), &guestv1.SetPolicyRequest{Policy: text})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestFragmentContainer runs a container that only a fragment defines.
func TestFragmentContainer(t *testing.T) {
	t.Parallel()
	message := sign(t, testchain.New(t, "Publisher", nil), "registry/app", fragmentText(t, "3"), nil)
	r := enforced(t, importing(t, message, "2"))
	ctx := t.Context()
	_, err := r.MountLayer(ctx, layerRequest(0))
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodePolicyDenied {
		t.Fatalf("a layer of the fragment before it is loaded: %v", err)
	}
	answer, err := r.LoadFragment(ctx, &guestv1.LoadFragmentRequest{Message: message})
	if err != nil {
		t.Fatal(err)
	}
	if answer.GetFeed() != "registry/app" || !strings.Contains(answer.GetIssuer(), "::subject:CN:Publisher") {
		t.Errorf("answer is %v", answer)
	}
	mounted(t, r)
	other := createRequest(idA)
	other.Command = []string{"/bin/false"}
	_, err = r.CreateContainer(ctx, other)
	if d := guestv1.DenialFrom(err); !strings.Contains(strings.Join(d.GetReasons(), " "), "invalid command") {
		t.Errorf("another command: %v", err)
	}
	_, err = r.CreateContainer(ctx, createRequest(idA))
	if err != nil {
		t.Fatal(err)
	}
	err = start(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
}

// TestFragmentRefused loads fragments that the policy does not take, some of which are not even Rego.
func TestFragmentRefused(t *testing.T) {
	t.Parallel()
	publisher, stranger := testchain.New(t, "Publisher", nil), testchain.New(t, "Publisher", nil)
	good := sign(t, publisher, "registry/app", fragmentText(t, "3"), nil)
	tampered := bytes.Replace(good, []byte("/bin/true"), []byte("/bin/evil"), 1)
	nonsense := []byte("package part\n}} not Rego {{\n")
	svn := func(n int64) func(*fragment.Signer) {
		return func(s *fragment.Signer) { s.Claims, s.SVN = true, &n }
	}
	policyText := importing(t, good, "3")
	for name, c := range map[string]struct {
		message      []byte
		code, reason string
	}{
		"nothing":      {nil, guestv1.CodeBadRequest, "message"},
		"too much":     {make([]byte, fragment.MaxSize+1), guestv1.CodeBadRequest, "message"},
		"no COSE":      {[]byte("package part"), guestv1.CodeFragmentInvalid, "parsing COSE_Sign1"},
		"tampered":     {tampered, guestv1.CodeFragmentInvalid, "signature does not verify"},
		"stranger":     {sign(t, stranger, "registry/app", nonsense, nil), guestv1.CodePolicyDenied, "invalid fragment issuer"},
		"other feed":   {sign(t, publisher, "registry/other", nonsense, nil), guestv1.CodePolicyDenied, "invalid fragment feed"},
		"old header":   {sign(t, publisher, "registry/app", nonsense, svn(2)), guestv1.CodePolicyDenied, "fragment svn is below the specified minimum"},
		"old text":     {sign(t, publisher, "registry/app", fragmentText(t, "2"), nil), guestv1.CodePolicyDenied, "fragment svn is below the specified minimum"},
		"disagreement": {sign(t, publisher, "registry/app", fragmentText(t, "3"), svn(4)), guestv1.CodePolicyDenied, "svn in header 4 does not match svn in fragment rego 3"},
		"accepted":     {sign(t, publisher, "registry/app", nonsense, nil), guestv1.CodePolicyDenied, "fragment is invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := enforced(t, policyText)
			_, err := r.LoadFragment(t.Context(), &guestv1.LoadFragmentRequest{Message: c.message})
			d := guestv1.DenialFrom(err)
			if d.GetCode() != c.code || !strings.Contains(d.Error(), c.reason) {
				t.Errorf("got %v, want %s: %s", err, c.code, c.reason)
			}
			_, err = r.MountLayer(t.Context(), layerRequest(0))
			if err == nil {
				t.Error("the fragment's layer can be mounted")
			}
		})
	}
}

// TestManyFragments loads one fragment until no more are taken.
func TestManyFragments(t *testing.T) {
	t.Parallel()
	message := sign(t, testchain.New(t, "Publisher", nil), "registry/app", fragmentText(t, "3"), nil)
	r := ready(t)
	for range maxFragments {
		_, err := r.LoadFragment(t.Context(), &guestv1.LoadFragmentRequest{Message: message})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.LoadFragment(t.Context(), &guestv1.LoadFragmentRequest{Message: message})
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeTooMany {
		t.Errorf("got %v, want %s", err, guestv1.CodeTooMany)
	}
}
