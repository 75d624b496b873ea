// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/groupcmd"
	"cofferdam.dev/verify/appraisal"
)

const (
	// evidenceTimeout is how long a server may take to hand out its evidence.
	evidenceTimeout = 30 * time.Second
	// typeDocument says that a file is a document, which names its type itself.
	typeDocument = "document"
)

// sourceOptions say what the evidence is, and what comes beside it.
type sourceOptions struct {
	kind         string
	certificates []string
	endorsements []string
	eventLog     string
}

func (o *sourceOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.kind, "type", typeDocument, "what the file is: document, or a bare report, quote or JSON of type sev-snp, tdx, sgx or azure-vtpm")
	f.StringArrayVar(&o.certificates, "certificate", nil, "add the certificates in this file (PEM, or one in DER) to the evidence")
	f.StringArrayVar(&o.endorsements, "endorsement", nil, "add the endorsement in this file (COSE) to the evidence")
	f.StringVar(&o.eventLog, "event-log", "", "add the event log in this file (CCEL) to the evidence")
	_ = c.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(append([]string{typeDocument}, evidenceTypes...), cobra.ShellCompDirectiveNoFileComp)) // the flag exists: just defined
}

var evidenceTypes = []string{evidence.TypeSEVSNP, evidence.TypeTDX, evidence.TypeSGX, evidence.TypeAzureVTPM}

// evidence reads the document, fetches it from a group or a server, or makes it of a bare report. A nonce that is not
// given is made for fresh evidence of a group only.
func (a *App) evidence(ctx context.Context, cmd *cobra.Command, o *verifyOptions, name string, r *appraisal.Request) (*evidence.Document, error) {
	if o.evidence.kind != typeDocument && !slices.Contains(evidenceTypes, o.evidence.kind) {
		return nil, console.Usage(cmd, fmt.Sprintf("--type is %q; want %s, %s", o.evidence.kind, typeDocument, strings.Join(evidenceTypes, ", ")))
	}
	b, err := a.evidenceBytes(ctx, o, name, r)
	if err != nil {
		return nil, fmt.Errorf("getting the evidence: %w", err)
	}
	doc := &evidence.Document{Type: o.evidence.kind, Report: b}
	if o.evidence.kind == typeDocument {
		if doc, err = evidence.ParseDocument(b); err != nil {
			return nil, &console.Failure{Code: console.ExitRefused, Err: err, Fix: "evidence is what `cofferdam group attest` prints, unchanged; for a bare report or quote say --type"}
		}
	}
	if err = a.supplement(doc, &o.evidence); err != nil {
		return nil, err
	}
	if err = doc.Validate(); err != nil {
		return nil, &console.Failure{Code: console.ExitRefused, Err: err}
	}
	return doc, nil
}

func (a *App) evidenceBytes(ctx context.Context, o *verifyOptions, name string, r *appraisal.Request) ([]byte, error) {
	ref, fresh := strings.CutPrefix(name, console.GroupPrefix)
	switch {
	case fresh:
		if r.Nonce == nil {
			nonce, err := groupcmd.ParseNonce(nil, "random")
			if err != nil {
				return nil, err
			}
			r.Nonce = nonce
			o.note("nonce: made here (%x)", nonce)
		}
		return a.group.Attest(ctx, ref, r.Nonce, r.RuntimeData)
	case strings.HasPrefix(name, "https://"), strings.HasPrefix(name, "http://"):
		return fetchEvidence(ctx, name)
	}
	return console.ReadLimited(name, a.In, evidence.MaxDocumentSize)
}

// supplement adds what the flags name to a document.
func (a *App) supplement(doc *evidence.Document, o *sourceOptions) error {
	for _, name := range o.certificates {
		b, err := console.ReadLimited(name, nil, console.MaxPEM)
		if err != nil {
			return fmt.Errorf("reading certificates: %w", err)
		}
		block, rest := pem.Decode(b)
		if block == nil {
			doc.Certificates = append(doc.Certificates, b)
		}
		for ; block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				return fmt.Errorf("reading certificates: %s holds a %q", name, block.Type)
			}
			doc.Certificates = append(doc.Certificates, block.Bytes)
		}
	}
	for _, name := range o.endorsements {
		b, err := console.ReadLimited(name, nil, evidence.MaxEndorsementSize)
		if err != nil {
			return fmt.Errorf("reading an endorsement: %w", err)
		}
		doc.Endorsements = append(doc.Endorsements, b)
	}
	if o.eventLog != "" {
		b, err := console.ReadLimited(o.eventLog, nil, evidence.MaxEventLogSize)
		if err != nil {
			return fmt.Errorf("reading the event log: %w", err)
		}
		doc.EventLog = b
	}
	return nil
}

// fetchEvidence gets a document from a server. The connection proves nothing about the evidence: TLS keeps others from
// seeing who asks for what, and plain HTTP is for this machine alone.
func fetchEvidence(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if u.User != nil || u.Fragment != "" || u.Host == "" {
		return nil, fmt.Errorf("%s: an address of evidence has a host, and neither a user nor a fragment", u.Redacted())
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, console.Fixed(fmt.Errorf("%s: plain HTTP is for this machine alone", u), "https://%s%s", u.Host, u.RequestURI())
	}
	client := &http.Client{
		Timeout:       evidenceTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read, or is not wanted
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s, not 200", u, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, evidence.MaxDocumentSize+1))
	if err == nil && len(b) > evidence.MaxDocumentSize {
		err = fmt.Errorf("%s sends more than %d bytes", u, evidence.MaxDocumentSize)
	}
	return b, err
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// parseReportData reads a flag with report data of another form.
func parseReportData(cmd *cobra.Command, list []string) ([][]byte, error) {
	var out [][]byte
	for _, s := range list {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) == 0 || len(b) > 64 {
			return nil, console.Usage(cmd, fmt.Sprintf("--report-data is %q; want 1 to 64 bytes in hexadecimal", s))
		}
		out = append(out, b)
	}
	return out, nil
}
