// SPDX-License-Identifier: Apache-2.0

package encfs

import (
	"encoding/json"
	"net/http"

	"cofferdam.dev/internal/serve"
)

// statusDocument is the answer to GET /status.
type statusDocument struct {
	Schema      string   `json:"schema"`
	Ready       bool     `json:"ready"`
	Filesystems []Status `json:"filesystems"`
}

// ServeHTTP answers GET /status: where the filesystems stand. There is nothing secret in it.
func (s *Sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mux := http.NewServeMux()
	mux.Handle("GET /status", serve.Route("status", http.HandlerFunc(s.status)))
	mux.ServeHTTP(w, r)
}

func (s *Sidecar) status(w http.ResponseWriter, r *http.Request) {
	b, err := json.MarshalIndent(statusDocument{"cofferdam.dev/encfs-status/v1", s.Ready(r.Context()) == nil, s.Status()}, "", "  ")
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}
