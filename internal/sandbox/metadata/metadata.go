// SPDX-License-Identifier: Apache-2.0

// Package metadata stands in, for development, for the service at which a container group on Azure gets the access tokens
// of its managed identity.
//
// It answers with a token that somebody put into a file, to whoever asks from within the group: that is what a managed
// identity means, too. It issues nothing, keeps nothing, and trusts neither the guest nor what it sends; the file is the
// user's own. No evidence is involved, so a token from here must open nothing that only attested code may have.
package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	// Address is where the service answers in a group's network, on port 80.
	Address = "169.254.169.254"
	// path is that of the token endpoint of Azure's instance metadata service.
	path = "/metadata/identity/oauth2/token"
	// version is the version of its interface that is documented for container groups.
	version = "2018-02-01"
	// maxToken bounds the file, in bytes.
	maxToken = 64 << 10
	// life is for how long a client may keep a token before it asks again. The token itself may end later.
	life = 5 * time.Minute
)

// Server answers with the token of a file, which is read for each request.
type Server struct {
	// TokenFile is the file.
	TokenFile string
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

type token struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   string `json:"expires_in"`
	ExpiresOn   string `json:"expires_on"`
	NotBefore   string `json:"not_before"`
	Resource    string `json:"resource"`
	TokenType   string `json:"token_type"`
	ClientID    string `json:"client_id"`
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch {
	case r.URL.Path != path:
		refuse(w, http.StatusNotFound, "not_found", "only "+path+" is answered here")
	case r.Method != http.MethodGet:
		refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "the method is GET")
	case r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "":
		// As there: a server that fetches what it is told to sends no such header.
		refuse(w, http.StatusBadRequest, "bad_request_102", "Required metadata header not specified")
	case q.Get("api-version") != version:
		refuse(w, http.StatusBadRequest, "bad_request_102", "api-version is not "+version)
	case q.Get("resource") == "":
		refuse(w, http.StatusBadRequest, "invalid_request", "resource is missing")
	default:
		s.answer(w, q.Get("resource"), q.Get("client_id"))
	}
}

func (s *Server) answer(w http.ResponseWriter, resource, client string) {
	value, err := s.read()
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "temporarily_unavailable", err.Error())
		return
	}
	now := time.Now()
	if s.Now != nil {
		now = s.Now()
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(token{ //nolint:gosec // the token is what is asked for; the client may be gone
		AccessToken: value, ExpiresIn: seconds(int64(life.Seconds())), ExpiresOn: seconds(now.Add(life).Unix()), NotBefore: seconds(now.Unix()),
		Resource: resource, TokenType: "Bearer", ClientID: client,
	})
}

func seconds(n int64) string { return fmt.Sprint(n) }

// errFile says nothing of the host's paths: the guest reads it.
var errFile = errors.New("the stand-in for the managed identity has no token")

func (s *Server) read() (string, error) {
	f, err := os.Open(s.TokenFile)
	if err != nil {
		return "", errFile
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	text := strings.TrimSpace(string(data))
	if err != nil || text == "" || len(data) > maxToken || strings.ContainsAny(text, " \t\r\n") {
		return "", errFile
	}
	return text, nil
}

// refuse answers in the form of the service's errors.
func refuse(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": text}) // the client may be gone
}
