// SPDX-License-Identifier: Apache-2.0

package rcar

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"regexp"

	"cofferdam.dev/internal/strictjson"
)

// InitData is a document that the host gave the guest at launch, with the digest fixed in what the hardware reports.
type InitData struct {
	// Body is the document, in TOML.
	Body []byte
	// Hash is the algorithm that the document names for its own digest.
	Hash crypto.Hash
}

// algorithmLine is the member of the document that names the digest. Nothing else of it is read: the digest binds it as a
// whole, and whichever algorithm a document names, it must come to what the hardware reports.
var algorithmLine = regexp.MustCompile(`(?m)^[ \t]*algorithm[ \t]*=[ \t]*["'](sha-?(?:256|384|512))["'][ \t]*(?:#.*)?\r?$`)

var firstTable = regexp.MustCompile(`(?m)^[ \t]*\[`)

func parseInitData(o strictjson.Object) (*InitData, error) {
	if !o.Has("init-data") || string(bytes.TrimSpace(o["init-data"])) == "null" {
		return nil, nil //nolint:nilnil // none is no error
	}
	inner, err := o.Object("init-data")
	if err != nil {
		return nil, err
	}
	if err := inner.Only("format", "body"); err != nil {
		return nil, err
	}
	format, err := inner.Text("format")
	if err != nil {
		return nil, err
	}
	if format != "toml" {
		return nil, fmt.Errorf("the format is %s, not toml", quote(format))
	}
	body, err := inner.Text("body")
	if err != nil {
		return nil, err
	}
	if len(body) == 0 || len(body) > maxInitData {
		return nil, fmt.Errorf("the body has %d bytes, not 1 to %d", len(body), maxInitData)
	}
	top := []byte(body)
	if at := firstTable.FindIndex(top); at != nil {
		top = top[:at[0]] // the members before the first table
	}
	found := algorithmLine.FindAllSubmatch(top, 2)
	if len(found) != 1 {
		return nil, errors.New("the body does not name one algorithm: sha256, sha384 or sha512")
	}
	hashes := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	name := string(found[0][1])
	return &InitData{[]byte(body), hashes[name[len(name)-3:]]}, nil
}
