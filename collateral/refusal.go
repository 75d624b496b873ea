// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"fmt"
	"net/http"
	"time"
)

// Refusal is the error of a server that answered, but without the item: it has none (404), is asked too often (429), is
// down (503). It wraps ErrUnavailable.
type Refusal struct {
	// URL is what was asked for.
	URL string
	// Status is the HTTP status.
	Status int
	// Wait is how long the server wants to be left alone; zero when it does not say.
	Wait time.Duration
}

// Error names the URL and the status.
func (r *Refusal) Error() string {
	text := fmt.Sprintf("%s answered %d (%s)", r.URL, r.Status, http.StatusText(r.Status))
	if r.Wait > 0 {
		text += fmt.Sprintf(", to be asked again in %s", r.Wait)
	}
	return text
}

// Unwrap returns ErrUnavailable.
func (r *Refusal) Unwrap() error { return ErrUnavailable }
