// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"context"
	"errors"
	"path/filepath"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/attestsvc/rest"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/ratls"
)

// device makes evidence of the machine's own device on behalf of the service, which is the workload.
type device struct{ attest.Provider }

// Evidence implements rest.Attester and ratls.Attester.
func (d device) Evidence(ctx context.Context, nonce, runtimeData []byte) (*evidence.Document, error) {
	res, err := d.Report(ctx, evidence.ReportData(evidence.SourceWorkload, nonce, runtimeData))
	if err != nil {
		return nil, err
	}
	return res.Document(evidence.SourceWorkload, nonce, runtimeData)
}

// openAttester opens what makes evidence of the service: a kind of device, or the evidence socket that a container of a
// group has, by its kind or by its path.
func openAttester(ctx context.Context, source string) (rest.Attester, error) {
	if filepath.IsAbs(source) {
		return attest.OpenSocket(source)
	}
	p, err := attest.Open(ctx, source)
	if err != nil {
		return nil, err
	}
	if s, ok := p.(*attest.Socket); ok {
		return s, nil
	}
	return device{p}, nil
}

// attestedTLS serves with a key that is made in this process, by a certificate that carries evidence of the machine.
func attestedTLS(ctx context.Context, o *serve.Options, c *listenConfig, source string) (*ratls.Identity, error) {
	if c.Certificate != "" || c.Key != "" {
		return nil, errors.New("attested TLS has a certificate and a key of its own: leave those in files out")
	}
	attester, err := openAttester(ctx, source)
	if err != nil {
		return nil, err
	}
	id, err := ratls.NewIdentity(ctx, ratls.IdentityOptions{Attester: attester, Name: o.Name})
	if err != nil {
		return nil, err
	}
	o.TLS = id.Server(nil)
	return id, serve.AskClients(o.TLS, c.ClientCA)
}
