// SPDX-License-Identifier: Apache-2.0

package attestationcmd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/cli/console"
)

// attestationVersion is the API version that we speak to attestation services.
const attestationVersion = "2022-08-01"

// tokenRequest is what `attestation request` was asked for.
type tokenRequest struct {
	serviceOptions

	form, audience       string
	runtimeData, initial string
	nonce                string
	draft                string
}

// tokenAnswer is the document behind `attestation request -o json`. The claims were not verified: the command shows what
// the service says.
type tokenAnswer struct {
	Schema string          `json:"schema"`
	Token  string          `json:"token"`
	Claims json.RawMessage `json:"claims"`
}

func (a *App) attestationRequestCommand() *cobra.Command {
	var o tokenRequest
	c := &cobra.Command{
		Use:   "request EVIDENCE|- --service URL",
		Short: "Have an attestation service appraise evidence, and get its token",
		Long: `Send evidence (a document of ` + "`cofferdam attest`" + `) to an attestation service and print the
token that it signs. Any service that speaks Azure Attestation's protocol will do;
--form and --audience are understood by cofferdam's own.

The token goes to standard output. Whoever relies on it has to verify it by the
service's keys; with -o json its claims are shown, too, unverified.

Exits with 3 when the service refuses the evidence.`,
		Example: `  cofferdam attestation request evidence.json --service https://127.0.0.1:8443 --ca tls.pem
  cofferdam attestation request evidence.json --service https://attest.example --form ear`,
		Args: console.Arguments(1, 1, "one piece of evidence"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.requestToken(ctx, &o, args[0])
		},
	}
	f := c.Flags()
	o.flags(c)
	f.StringVar(&o.form, "form", "", "form of the token: maa, maa-es256, ear, kbs or oidc (default: the service's)")
	f.StringVar(&o.audience, "audience", "", "audience of the token")
	f.StringVar(&o.runtimeData, "runtime-data", "", "file of the data whose SHA-256 the report carries")
	f.StringVar(&o.initial, "init-time-data", "", "file of the data whose SHA-256 the host data are")
	f.StringVar(&o.nonce, "nonce", "", "nonce that the token repeats, such as one of the service's /challenge")
	f.StringVar(&o.draft, "draft-policy", "", "file with a policy to try: the token is then unsigned")
	a.OutputFlag(c)
	return c
}

func (a *App) requestToken(ctx context.Context, o *tokenRequest, name string) error {
	b, err := console.ReadLimited(name, a.In, evidence.MaxDocumentSize)
	if err != nil {
		return fmt.Errorf("reading the evidence: %w", err)
	}
	doc, err := evidence.ParseDocument(b)
	if err != nil {
		return err
	}
	kind, body, err := o.body(doc)
	if err != nil {
		return err
	}
	client, err := a.client(ctx, &o.serviceOptions)
	if err != nil {
		return err
	}
	to := strings.TrimSuffix(o.service, "/") + "/attest/" + kind + "?api-version=" + attestationVersion
	answer, err := post(ctx, client, to, body)
	if err != nil {
		return err
	}
	var t struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(answer, &t); err != nil || strings.Count(t.Token, ".") != 2 {
		return fmt.Errorf("the service answers something that holds no token")
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(t.Token, ".")[1])
	if err != nil || !json.Valid(claims) {
		return fmt.Errorf("the service answers a token whose claims are no JSON")
	}
	return a.Answer(tokenAnswer{"cofferdam.dev/attestation-token/v1", t.Token, claims}, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, t.Token)
		return err
	})
}

// body returns the service's name for the kind of evidence, and the request.
func (o *tokenRequest) body(doc *evidence.Document) (kind string, body []byte, err error) {
	enc := base64.RawURLEncoding.EncodeToString
	m := map[string]any{}
	switch doc.Type {
	case evidence.TypeSEVSNP:
		kind = "SevSnpVm"
		m["report"], err = snpRequest(doc)
	case evidence.TypeTDX:
		kind = "TdxVm"
		m["quote"] = enc(doc.Report)
		if len(doc.EventLog) > 0 {
			m["eventLog"] = enc(doc.EventLog)
		}
	case evidence.TypeSGX:
		kind = "SgxEnclave"
		m["quote"] = enc(doc.Report)
	default:
		err = fmt.Errorf("evidence of type %q can not be sent to an attestation service", doc.Type)
	}
	if err != nil {
		return "", nil, err
	}
	for member, file := range map[string]string{"runtimeData": o.runtimeData, "initTimeData": o.initial, "draftPolicyForAttestation": o.draft} {
		if file == "" {
			continue
		}
		b, err := console.ReadLimited(file, nil, MaxClaims)
		if err != nil {
			return "", nil, fmt.Errorf("reading %s: %w", member, err)
		}
		if member == "draftPolicyForAttestation" {
			m[member] = string(b)
			continue
		}
		m[member] = map[string]string{"data": enc(b), "dataType": dataType(b)}
	}
	for member, value := range map[string]string{"nonce": o.nonce, "form": o.form, "audience": o.audience} {
		if value != "" {
			m[member] = value
		}
	}
	body, err = json.Marshal(m)
	return kind, body, err
}

// dataType is the protocol's word for data: an object's members become claims.
func dataType(b []byte) string {
	if t := bytes.TrimSpace(b); len(t) > 0 && t[0] == '{' && json.Valid(t) {
		return "JSON"
	}
	return "Binary"
}

// snpRequest is the report with its certificates and endorsements, in JSON in base64url.
func snpRequest(doc *evidence.Document) (string, error) {
	var chain bytes.Buffer
	for _, der := range doc.Certificates {
		if err := pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return "", err
		}
	}
	enc := base64.RawURLEncoding.EncodeToString
	m := map[string]string{"SnpReport": enc(doc.Report), "VcekCertChain": enc(chain.Bytes())}
	if len(doc.Endorsements) > 0 {
		var list []string
		for _, e := range doc.Endorsements {
			list = append(list, enc(e))
		}
		b, err := json.Marshal(map[string][]string{"Uvm": list})
		if err != nil {
			return "", err
		}
		m["Endorsements"] = enc(b)
	}
	b, err := json.Marshal(m)
	return enc(b), err
}

// serviceWait bounds one request to a service.
const serviceWait = time.Minute

// ServiceClient returns a client that trusts the system's authorities, or those of a file alone.
func ServiceClient(ca string) (*http.Client, error) {
	c := &http.Client{Timeout: serviceWait, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if ca == "" {
		return c, nil
	}
	b, err := console.ReadLimited(ca, nil, console.MaxPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("reading the authority: %s holds no certificate in PEM", ca)
	}
	c.Transport = &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}
	return c, nil
}

// MaxAnswer bounds a service's answer in bytes.
const MaxAnswer = 1 << 20

// post sends a request and returns the answer; a refusal is an error with the service's own words.
func post(ctx context.Context, client *http.Client, to string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return send(client, req)
}
