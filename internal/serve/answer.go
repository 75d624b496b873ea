// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"encoding/json"
	"net/http"
)

// WriteError answers with an error as a JSON document, which nobody may keep; when the service can not answer now, it says
// to try again. Code is what is answered when the document can not be encoded.
func WriteError(w http.ResponseWriter, status int, contentType, code string, document any) {
	b, err := json.Marshal(document)
	if err != nil {
		http.Error(w, code, status)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}
