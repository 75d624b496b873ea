// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cofferdam.dev/attest"
)

// API versions of Azure Attestation that are asked for.
const (
	versionSNP = "2020-10-01"
	versionTDX = "2025-06-01"
)

// Attestation is an attestation service.
type Attestation struct {
	// Endpoint is its host name or URL.
	Endpoint string
	// HTTP makes the connections, and says whom to trust as a server.
	HTTP *http.Client
	// UserAgent is sent with requests when it is not empty.
	UserAgent string
}

// Challenge asks for a nonce that can be used once, at the endpoint /challenge that the service of this module has.
func (a *Attestation) Challenge(ctx context.Context) (string, error) {
	body, err := a.ask(ctx, http.MethodGet, "/challenge", nil)
	if err != nil {
		return "", fmt.Errorf("asking for a nonce: %w", err)
	}
	var v struct {
		Nonce string `json:"nonce"`
	}
	if json.Unmarshal(body, &v) != nil || v.Nonce == "" || len(v.Nonce) > maxText {
		return "", fmt.Errorf("asking for a nonce: %w", wrong("there is no nonce in it"))
	}
	return v.Nonce, nil
}

// Token has evidence appraised that commits to the runtime data by ReportData, and returns the service's token. The nonce
// is one of Challenge that the runtime data hold, or empty. The token is the vault's to verify: nothing in it is believed
// here.
func (a *Attestation) Token(ctx context.Context, e *Evidence, runtimeData []byte, nonce string) (string, error) {
	token, err := a.token(ctx, e, runtimeData, nonce)
	if err != nil {
		return "", fmt.Errorf("having the guest attested: %w", err)
	}
	return token, nil
}

func (a *Attestation) token(ctx context.Context, e *Evidence, runtimeData []byte, nonce string) (string, error) {
	path, body, err := attestBody(e, runtimeData, nonce)
	if err != nil {
		return "", err
	}
	answer, err := a.ask(ctx, http.MethodPost, path, body)
	if err != nil {
		return "", err
	}
	var v struct {
		Token string `json:"token"`
	}
	if json.Unmarshal(answer, &v) != nil || strings.Count(v.Token, ".") != 2 {
		return "", wrong("there is no token in it")
	}
	return v.Token, nil
}

func (a *Attestation) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	u, err := ParseEndpoint(a.Endpoint)
	if err != nil {
		return nil, err
	}
	if a.HTTP == nil {
		return nil, malformed("no HTTP client is configured for the attestation service")
	}
	h := http.Header{}
	if body != nil {
		h.Set("Content-Type", "application/json")
	}
	if a.UserAgent != "" {
		h.Set("User-Agent", a.UserAgent)
	}
	return ask(ctx, a.HTTP, &request{server: AttestationService, method: method, url: u.String() + path, header: h, body: body})
}

// data is how the service takes data of the guest.
type data struct {
	Data string `json:"data"`
	Type string `json:"dataType"`
}

func runtimeOf(b []byte) data {
	typ := "JSON"
	if !isObject(b) {
		typ = "Binary"
	}
	return data{base64.URLEncoding.EncodeToString(b), typ}
}

func isObject(b []byte) bool {
	var o map[string]json.RawMessage
	return json.Unmarshal(b, &o) == nil && o != nil
}

// attestBody makes the body for a type of evidence. The one for SNP is what the service gets from release sidecars: the
// report within JSON within base64url with padding, initTimeData that are there and empty, and a nonce that is a number.
func attestBody(e *Evidence, runtimeData []byte, nonce string) (path string, body []byte, err error) {
	common := map[string]any{"runtimeData": runtimeOf(runtimeData)}
	if nonce != "" {
		common["nonce"] = nonce
	}
	switch e.Type {
	case attest.TypeSEVSNP:
		if nonce == "" {
			common["nonce"] = number64()
		}
		common["initTimeData"] = data{}
		common["report"], err = snpReport(e)
		path = "/attest/SevSnpVM?api-version=" + versionSNP
	case attest.TypeTDX:
		common["quote"] = base64.URLEncoding.EncodeToString(e.Report)
		path = "/attest/TdxVm?api-version=" + versionTDX
	default:
		err = malformed("evidence is of type %q, not %s or %s", clean(e.Type), attest.TypeSEVSNP, attest.TypeTDX)
	}
	if err != nil {
		return "", nil, err
	}
	body, err = json.Marshal(common)
	return path, body, err
}

func snpReport(e *Evidence) (string, error) {
	if len(e.Certificates) == 0 {
		return "", fmt.Errorf("%w: it has no certificates of the chip", ErrEvidence)
	}
	in := struct {
		Report       string `json:"SnpReport"`
		Chain        string `json:"VcekCertChain"`
		Endorsements string `json:"Endorsements,omitempty"`
	}{Report: base64.URLEncoding.EncodeToString(e.Report), Chain: base64.URLEncoding.EncodeToString(e.ChainPEM())}
	if len(e.Endorsements) > 0 {
		list := make([]string, len(e.Endorsements))
		for i, b := range e.Endorsements {
			list[i] = base64.URLEncoding.EncodeToString(b)
		}
		b, err := json.Marshal(map[string][]string{"Uvm": list})
		if err != nil {
			return "", err
		}
		in.Endorsements = base64.URLEncoding.EncodeToString(b)
	}
	b, err := json.Marshal(in)
	return base64.URLEncoding.EncodeToString(b), err
}

// number64 is a random number for the member nonce. The service repeats it in the token; nobody checks it.
func number64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])                     // never fails
	return binary.BigEndian.Uint64(b[:]) >> 11 // exact for readers whose numbers are floating-point
}

// expiry returns until when a token says that it is good, unverified: it only bounds how long the token is kept.
func expiry(token string) (time.Time, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, false
	}
	var v struct {
		Exp float64 `json:"exp"`
	}
	if json.Unmarshal(b, &v) != nil || v.Exp <= 0 || v.Exp > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(v.Exp), 0), true
}
