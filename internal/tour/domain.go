// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/devdomain"
	"cofferdam.dev/internal/vault/client"
	"cofferdam.dev/internal/vault/releasepolicy"
	"cofferdam.dev/verify/anchor"
)

const (
	// letterKey is the key's name in the vault, and in the letter.
	letterKey = "letter"
	// letterText is what only the application is to read.
	letterText = "Fair winds and a dry hold."
	// clientID is who the sidecar is to the vault.
	clientID = "app"
)

// owner is the data owner: a domain that releases keys, a key, and a letter that it encrypts.
type owner struct {
	dir     string
	domain  *devdomain.Domain
	doc     devdomain.Document
	http    *http.Client
	token   string // the operator's
	ended   chan error
	end     context.CancelFunc
	key     []byte
	letter  atomic.Pointer[[]byte] // encrypted
	storage *http.Server           // has it for everybody
	at      net.Addr               // where
}

// serveDomain starts an attestation service and a vault, in a directory of their own.
func (t *tour) serveDomain(ctx context.Context, s *Step) error {
	root, err := localRoot(t.cfg.Home)
	if err != nil {
		return err
	}
	o := &owner{}
	t.owner = o
	if o.dir, err = os.MkdirTemp(t.cfg.Home, "tour-*"); err != nil {
		return err
	}
	t.begin("starting an attestation service and a vault")
	o.domain, err = devdomain.Open(ctx, devdomain.Options{
		State: o.dir, Listen: devdomain.Addresses{Attestation: "127.0.0.1:0", Vault: "127.0.0.1:0"}, Roots: []anchor.Root{root},
		Clients: []devdomain.Client{{ID: clientID, Roles: []auth.Role{devdomain.DefaultRole}}}, Now: t.cfg.Now,
	})
	if err != nil {
		return err
	}
	o.doc = o.domain.Document()
	run, end := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the step, and is ended by clean
	o.end, o.ended = end, make(chan error, 1)
	go func() { o.ended <- o.domain.Run(run) }()
	if err := o.connect(); err != nil {
		return err
	}
	s.add("attestation", "%s", o.doc.Attestation.URL)
	s.add("vault", "%s, which believes that service alone", o.doc.Vault.URL)
	s.add("simulated roots", "%s; tokens over them come from an issuer of their own:\n%s", strings.Join(o.doc.SimulatedRoots, ", "), o.doc.Attestation.SimulatedIssuer)
	return nil
}

// connect makes the owner's client, which trusts the domain's authority and nobody else.
func (o *owner) connect() error {
	ca, err := os.ReadFile(o.doc.CA)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return fmt.Errorf("%s is not in PEM", o.doc.CA)
	}
	token, err := os.ReadFile(o.doc.AdminToken)
	if err != nil {
		return err
	}
	o.token = strings.TrimSpace(string(token))
	o.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}}
	return nil
}

// vault is the owner's client of the vault.
func (o *owner) vault() *client.Client {
	return &client.Client{URL: o.doc.Vault.URL, HTTP: o.http, Token: o.token}
}

// importKey makes a key, brings it to the vault under a policy for the group, and encrypts the letter under it.
func (t *tour) importKey(ctx context.Context, s *Step) error {
	o := t.owner
	err := o.openStorage(ctx)
	if err != nil {
		return err
	}
	t.pair, err = t.describePair()
	if err != nil {
		return err
	}
	t.prepared, err = t.prepare(ctx, t.pair)
	if err != nil {
		return err
	}
	o.key = make([]byte, 32)
	_, _ = rand.Read(o.key) // never fails: crypto/rand aborts the program instead
	sealed, err := sealLetter([]byte(letterText), o.key, letterKey)
	if err != nil {
		return err
	}
	o.letter.Store(&sealed)
	hash := t.prepared.Hash()
	text, err := o.policy(hash, t.expected)
	if err != nil {
		return err
	}
	var stored client.Key
	_, err = o.vault().Do(ctx, http.MethodPut, "/keys/"+letterKey, o.keyImport(text), &stored)
	if err != nil {
		return err
	}
	s.add("the group", "%s (the application: busybox and openssl)\n%s (the release sidecar)", t.pair.Containers[0].Image, t.pair.Containers[1].Image)
	s.add("policy hash", "%x", hash)
	s.add("launch digest", "%x", t.expected)
	s.add("key", "%s %s, made by the data owner", stored.Key.Type, stored.Key.ID)
	s.add("release policy", "%s", text)
	s.add("letter", "%d bytes, encrypted, at http://%s for anybody", len(sealed), o.at)
	return nil
}

// openStorage serves the encrypted letter to whoever asks, as storage does that nobody has to trust.
func (o *owner) openStorage(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serving the letter: %w", err)
	}
	o.at = l.Addr()
	o.storage = &http.Server{ReadHeaderTimeout: redisTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sealed := o.letter.Load()
		if sealed == nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(*sealed) // the client may be gone
	})}
	go func() { _ = o.storage.Serve(l) }() // ends with Close
	return nil
}

// policy releases the key to groups of one policy, in a machine of one launch digest that nobody can look into. Without the
// digest the hash would mean nothing: the host says what it is, and a guest of the host's own enforces no policy.
func (o *owner) policy(hash [32]byte, measurement [48]byte) ([]byte, error) {
	p := &releasepolicy.Policy{Version: "1.0.0", Authorities: []releasepolicy.Authority{{
		Issuer: o.doc.Attestation.SimulatedIssuer,
		Condition: releasepolicy.Condition{Combine: releasepolicy.AllOf, List: []releasepolicy.Condition{
			{Claim: "x-ms-sevsnpvm-hostdata", Operator: releasepolicy.Equals, Value: json.RawMessage(strconv.Quote(hex.EncodeToString(hash[:])))},
			{Claim: "x-ms-sevsnpvm-launchmeasurement", Operator: releasepolicy.Equals, Value: json.RawMessage(strconv.Quote(hex.EncodeToString(measurement[:])))},
			{Claim: "x-ms-sevsnpvm-is-debuggable", Operator: releasepolicy.Equals, Value: json.RawMessage(`"false"`)},
		}},
	}}}
	return p.Marshal(releasepolicy.VaultForm)
}

func (o *owner) keyImport(policy []byte) *client.Import {
	yes := true
	return &client.Import{
		Key:        json.RawMessage(fmt.Sprintf(`{"kty":"oct-HSM","k":%q}`, base64.RawURLEncoding.EncodeToString(o.key))),
		Attributes: client.Attributes{Exportable: &yes},
		Policy:     &client.Policy{Data: base64.RawURLEncoding.EncodeToString(policy)},
	}
}

// ports are those that the group must reach: the attestation service's, the vault's, the storage's.
func (o *owner) ports() ([]uint16, error) {
	var list []uint16
	for _, at := range []string{o.doc.Attestation.URL, o.doc.Vault.URL, "http://" + o.at.String()} {
		u, err := url.Parse(at)
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port of %s: %w", at, err)
		}
		list = append(list, uint16(n))
	}
	return list, nil
}

// close ends all of it. Nobody needs the directory any more.
func (o *owner) close() error {
	var errs []error
	if o.storage != nil {
		errs = append(errs, o.storage.Close())
	}
	if o.end != nil {
		o.end()
		errs = append(errs, <-o.ended)
	}
	if o.domain != nil {
		errs = append(errs, o.domain.Close())
	}
	clear(o.key)
	if o.dir != "" {
		errs = append(errs, os.RemoveAll(o.dir))
	}
	return errors.Join(errs...)
}
