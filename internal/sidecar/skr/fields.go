// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/sidecar/config"
	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/release"
)

// fields are the members of a request's body.
type fields strictjson.Object

func readFields(r *http.Request) (fields, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return nil, &failure{status: http.StatusRequestEntityTooLarge, code: serve.CodeTooLarge, message: "the body is larger than the sidecar takes"}
		}
		return nil, invalid("the body did not arrive whole")
	}
	o, err := strictjson.Parse(b)
	if err != nil {
		return nil, invalid("the body is no JSON object of the form that is wanted: %v", err)
	}
	return fields(o), nil
}

// texts returns members that must be there and not be empty. All that are missing are named at once.
func (f fields) texts(names ...string) ([]string, error) {
	out := make([]string, len(names))
	var missing []string
	for i, n := range names {
		t, err := f.text(n)
		if err != nil {
			return nil, err
		}
		if t == "" {
			missing = append(missing, n)
		}
		out[i] = t
	}
	if len(missing) > 0 {
		return nil, invalid("missing or empty: %s", strings.Join(missing, ", "))
	}
	return out, nil
}

// text returns a member that may be absent.
func (f fields) text(name string) (string, error) {
	raw, ok := f[name]
	if !ok || string(raw) == "null" {
		return "", nil
	}
	t, err := strictjson.Object(f).Text(name)
	if err != nil {
		return "", invalid("%s is no text", name)
	}
	return t, nil
}

// object returns the members of a member that is an object, and nil when it is absent.
func (f fields) object(name string) (fields, error) {
	raw, ok := f[name]
	if !ok || string(raw) == "null" {
		return nil, nil //nolint:nilnil // absent
	}
	o, err := strictjson.Object(f).Object(name)
	if err != nil {
		return nil, invalid("%s is no object", name)
	}
	return fields(o), nil
}

// bytes returns what a member encodes that must be there.
func (f fields) bytes(name string) ([]byte, error) {
	t, err := f.texts(name)
	if err != nil {
		return nil, err
	}
	b, err := config.Base64(t[0])
	if err != nil {
		return nil, invalid("decoding %s: %v", name, err)
	}
	return b, nil
}

// releaseRequest reads what a release needs from members of these names.
func releaseRequest(in fields, attestation, vault, kid string) (*release.Request, error) {
	t, err := in.texts(attestation, vault, kid)
	if err != nil {
		return nil, err
	}
	name, err := release.ParseKeyName(t[2])
	if err != nil {
		return nil, err
	}
	access, err := in.text("access_token")
	if err != nil {
		return nil, err
	}
	return &release.Request{Attestation: t[0], Vault: t[1], Key: name, AccessToken: access}, nil
}
