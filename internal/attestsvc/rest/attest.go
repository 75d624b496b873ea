// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"encoding/json"
	"net/http"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/strictpem"
)

// attest answers POST /attest/{type}.
func (h *Handler) attest(c *call) error {
	body, err := readBody(c.r)
	if err != nil {
		return err
	}
	req, err := parseRequest(c.kind, body)
	if err != nil {
		return err
	}
	if err := fromQuery(req, c.r); err != nil {
		return err
	}
	req.ID = serve.RequestID(c.r.Context())
	answer, err := h.opts.Service.Attest(c.r.Context(), c.tenant, req)
	if err != nil {
		return err
	}
	return respond(c, map[string]string{"token": answer.Token})
}

// fromQuery takes form and audience from the query, for clients whose library makes the body.
func fromQuery(req *attestsvc.Request, r *http.Request) error {
	q := r.URL.Query()
	for name, set := range map[string]bool{"form": req.Form != "", "audience": req.Audience != ""} {
		if n := len(q[name]); n > 1 || n == 1 && set {
			return bad("%s is said more than once", name)
		}
	}
	if a := q.Get("audience"); a != "" {
		req.Audience = a
	}
	var err error
	if f := q.Get("form"); f != "" {
		req.Form, err = attestsvc.ParseForm(f)
	}
	return err
}

// parseRequest takes a request for an appraisal apart.
func parseRequest(k attestsvc.Kind, body []byte) (*attestsvc.Request, error) {
	o, err := parseObject("the body", body)
	if err != nil {
		return nil, err
	}
	req := &attestsvc.Request{Kind: k}
	if err := o.evidence(req); err != nil {
		return nil, err
	}
	if req.Runtime, err = o.data("runtimeData"); err != nil {
		return nil, err
	}
	if req.InitTime, err = o.data("initTimeData"); err != nil {
		return nil, err
	}
	if req.Nonce, err = o.nonce(); err != nil {
		return nil, err
	}
	if req.EventLog, err = o.bytes("eventLog"); err != nil {
		return nil, err
	}
	if req.Audience, err = o.text("audience"); err != nil {
		return nil, err
	}
	form, err := o.text("form")
	if err != nil {
		return nil, err
	}
	if form != "" {
		if req.Form, err = attestsvc.ParseForm(form); err != nil {
			return nil, err
		}
	}
	draft, err := o.text("draftPolicyForAttestation")
	if err != nil || draft == "" {
		return req, err
	}
	req.Draft, err = attestsvc.OpenPolicy(draft)
	return req, err
}

// evidence takes the evidence out of a body.
func (o object) evidence(req *attestsvc.Request) error {
	name, other := "report", "quote"
	switch req.Kind {
	case attestsvc.SgxEnclave, attestsvc.TdxVM:
		name, other = other, name
	case attestsvc.AzureGuest:
		other = "attestationInfo"
		if o.get(other) != nil && o.get(name) == nil {
			name, other = other, name
		}
	case attestsvc.SevSnpVM, attestsvc.OpenEnclave:
	}
	b, err := o.bytes(name)
	if err != nil {
		return err
	}
	switch {
	case len(b) == 0 && o.get(other) != nil:
		return bad("%s evidence is sent as the member %s, not %s", req.Kind, name, other)
	case len(b) == 0:
		return bad("the body has no member %s, or it is empty", name)
	case req.Kind == attestsvc.SevSnpVM:
		return snpEvidence(req, b)
	case req.Kind == attestsvc.AzureGuest:
		return guestEvidence(req, b)
	}
	req.Report = b
	return nil
}

// snpEvidence reads the JSON in which an SNP report travels with the chip's certificates, and with endorsements of the
// utility VM that it was made in.
func snpEvidence(req *attestsvc.Request, b []byte) error {
	o, err := parseObject("the report", b)
	if err != nil {
		return err
	}
	if req.Report, err = o.bytes("SnpReport"); err != nil {
		return err
	}
	if len(req.Report) == 0 {
		return bad("the report has no member SnpReport, or it is empty")
	}
	chain, err := o.bytes("VcekCertChain")
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(chain)) > 0 {
		if req.Certificates, err = strictpem.Certificates(chain, evidence.MaxCertificates); err != nil {
			return bad("VcekCertChain: %v", err)
		}
	}
	e, err := o.bytes("Endorsements")
	if err != nil || len(e) == 0 {
		return err
	}
	in, err := parseObject("Endorsements", e)
	if err != nil {
		return err
	}
	var list []string
	if raw := in.get("Uvm"); raw != nil {
		if err := json.Unmarshal(raw, &list); err != nil {
			return bad("Uvm is no list of strings")
		}
	}
	for _, one := range list {
		b, err := decode64("Uvm", []byte(one))
		if err != nil {
			return err
		}
		req.Endorsements = append(req.Endorsements, b)
	}
	return nil
}

// guestEvidence reads evidence of a VM with a vTPM: the JSON that package evidence/hcl knows. What Azure's own library for
// guests sends under the same name is something else. It wants its answer encrypted to a key in the TPM, and it has the TPM
// vouched for by a certificate of the platform rather than by the hardware report alone.
func guestEvidence(req *attestsvc.Request, b []byte) error {
	o, err := parseObject("the evidence", b)
	if err != nil {
		return err
	}
	if o.get("TpmInfo") != nil || o.get("IsolationInfo") != nil || o.get("AttestationProtocolVersion") != nil {
		return bad("this is what Azure's guest attestation library sends, which the service does not take: send the paravisor's report, the TPM's quote and the chip's certificate as JSON with the members version, hcl_report, tpm_quote, and vcek or td_quote")
	}
	req.Report = b
	return nil
}

// respond answers with a JSON document that nobody may keep.
func respond(c *call, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	_, _ = c.w.Write(b) // the client may be gone
	return nil
}
