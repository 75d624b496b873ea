// SPDX-License-Identifier: Apache-2.0

// Package kds is the key distribution service of a simulated secure processor: an http.Handler that serves the
// certificates and revocation lists of one installation under the paths of AMD's service (AMD publication 57230), so that
// clients of that service work with simulated machines too.
//
// Everything that it serves is public and signed under the installation's own root. Requests are hostile: paths and
// queries are parsed strictly, and only GET is answered. It can be told to be as short of breath as the real one. It never
// serves for AMD's roots, never decides anything, and never lets a key out.
package kds

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"cofferdam.dev/evidence/snp"
)

// Processor is what is needed of a simulated secure processor.
type Processor interface {
	// ChipID returns the chip's ID as certificates of a product line have it.
	ChipID(line snp.ProductLine) ([]byte, error)
	// ChipCertificate returns the certificate of the chip's key under a TCB version in DER.
	ChipCertificate(line snp.ProductLine, tcb snp.TCB) ([]byte, error)
	// Authority returns root and intermediate of a product line, of chips or of providers.
	Authority(line snp.ProductLine, vlek bool) (ark, intermediate *x509.Certificate, err error)
	// CRL returns the revocation list of a product line's root in DER.
	CRL(line snp.ProductLine, vlek bool) ([]byte, error)
}

// Options say how the service behaves. The zero value is a service that always answers.
type Options struct {
	// Pace is the least time between two answers. What comes earlier is refused with 429 and told when to come back, as
	// AMD's service does, whose pace is about ten seconds for each client. This one has the same pace for all together.
	Pace time.Duration
	// Now is the clock; nil for the real one.
	Now func() time.Time
	// Log receives what went wrong inside; nil for none.
	Log *slog.Logger
}

// Handler is the service.
type Handler struct {
	p    Processor
	opts Options
	mux  *http.ServeMux

	mu   sync.Mutex
	next time.Time // before it nobody is answered
}

var _ http.Handler = (*Handler)(nil)

// New returns the service of a processor.
func New(p Processor, o Options) *Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{p: p, opts: o, mux: http.NewServeMux()}
	for kind, vlek := range map[string]bool{"vcek": false, "vlek": true} {
		h.mux.HandleFunc("GET /"+kind+"/v1/{product}/cert_chain", func(w http.ResponseWriter, r *http.Request) { h.chain(w, r, vlek) })
		h.mux.HandleFunc("GET /"+kind+"/v1/{product}/crl", func(w http.ResponseWriter, r *http.Request) { h.crl(w, r, vlek) })
	}
	h.mux.HandleFunc("GET /vcek/v1/{product}/{hwid}", h.vcek)
	return h
}

// ServeHTTP answers a request, or refuses it when it comes too early.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if wait := h.early(); wait > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// early returns how long to wait until an answer is due; not at all means now, and puts the next one off.
func (h *Handler) early() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.opts.Now()
	if wait := h.next.Sub(now); wait > 0 {
		return wait
	}
	h.next = now.Add(h.opts.Pace)
	return 0
}

// line returns the product line of a request, which has no query unless it is for a chip. It answers when there is none.
func (h *Handler) line(w http.ResponseWriter, r *http.Request, query bool) (snp.ProductLine, bool) {
	line := snp.ProductLine(r.PathValue("product"))
	switch line {
	case snp.Milan, snp.Genoa, snp.Turin:
	default:
		http.NotFound(w, r)
		return "", false
	}
	if !query && r.URL.RawQuery != "" {
		http.Error(w, "there is no query in such a request", http.StatusBadRequest)
		return "", false
	}
	return line, true
}

func (h *Handler) chain(w http.ResponseWriter, r *http.Request, vlek bool) {
	line, ok := h.line(w, r, false)
	if !ok {
		return
	}
	ark, intermediate, err := h.p.Authority(line, vlek)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	var b bytes.Buffer
	for _, c := range []*x509.Certificate{intermediate, ark} {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer never fails
	}
	h.send(w, "application/x-pem-file", b.Bytes())
}

func (h *Handler) crl(w http.ResponseWriter, r *http.Request, vlek bool) {
	line, ok := h.line(w, r, false)
	if !ok {
		return
	}
	der, err := h.p.CRL(line, vlek)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.send(w, "application/pkix-crl", der)
}

func (h *Handler) vcek(w http.ResponseWriter, r *http.Request) {
	line, ok := h.line(w, r, true)
	if !ok {
		return
	}
	tcb, err := parseTCB(line, r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id, err := h.p.ChipID(line)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	if r.PathValue("hwid") != hex.EncodeToString(id) { // IDs are no secret
		http.NotFound(w, r)
		return
	}
	der, err := h.p.ChipCertificate(line, tcb)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.send(w, "application/pkix-cert", der)
}

// parseTCB reads the patch levels of a query. Each that the product line has must be there, once, and no other.
func parseTCB(line snp.ProductLine, raw string) (snp.TCB, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return snp.TCB{}, fmt.Errorf("the query is malformed")
	}
	var parts snp.TCBParts
	fields := map[string]*uint8{
		"blSPL": &parts.Bootloader, "teeSPL": &parts.TEE, "snpSPL": &parts.SNP, "ucodeSPL": &parts.Microcode,
	}
	if line == snp.Turin {
		fields["fmcSPL"] = &parts.FMC
	}
	for name, field := range fields {
		values := query[name]
		if len(values) != 1 {
			return snp.TCB{}, fmt.Errorf("%s is given %d times, not once", name, len(values))
		}
		n, err := strconv.ParseUint(values[0], 10, 8)
		if err != nil {
			return snp.TCB{}, fmt.Errorf("%s is not a number from 0 to 255", name)
		}
		*field = uint8(n)
	}
	if len(query) != len(fields) {
		return snp.TCB{}, fmt.Errorf("the query has parameters that %s does not have", line)
	}
	return parts.TCB(line)
}

func (h *Handler) send(w http.ResponseWriter, kind string, b []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) //nolint:gosec // certificates and lists, no HTML; a client that is gone needs no answer
}

// fail answers without saying what is wrong inside.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	h.opts.Log.ErrorContext(r.Context(), "simulated key distribution service failed", slog.String("path", r.URL.Path), slog.Any("error", err))
	http.Error(w, "internal error", http.StatusInternalServerError)
}
