// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/wholefile"
	"cofferdam.dev/verify/anchor"
)

const (
	// fileName is the list.
	fileName = "roots.json"
	// schema names the form of the file.
	schema = "cofferdam.dev/trusted-roots/v1"
	// maxRoots and maxFile bound the list, in roots and bytes.
	maxRoots = 256
	maxFile  = 4 << 20
)

// wire is the form of one root in the file.
type wire struct {
	Name        string        `json:"name"`
	Domain      anchor.Domain `json:"domain"`
	SPKI        string        `json:"spki"`
	Added       string        `json:"added"`
	Certificate string        `json:"certificate"`
}

func (s *Store) store(roots []Root) error {
	slices.SortFunc(roots, func(a, b Root) int { return strings.Compare(a.Name, b.Name) })
	doc := struct {
		Schema string `json:"schema"`
		Roots  []wire `json:"roots"`
	}{Schema: schema, Roots: []wire{}}
	for _, r := range roots {
		doc.Roots = append(doc.Roots, wire{
			r.Name, r.Domain, r.SPKI, r.Added.Format(time.RFC3339), base64.StdEncoding.EncodeToString(r.Certificate.Raw),
		})
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	return wholefile.Replace(filepath.Join(s.dir, fileName), append(b, '\n'), 0o600)
}

func (s *Store) load() ([]Root, error) {
	path := filepath.Join(s.dir, fileName)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 || info.Size() > maxFile {
		return nil, fmt.Errorf("%s has mode %s and %d bytes, not that of a file that its owner alone may write, of at most %d",
			path, info.Mode(), info.Size(), maxFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return roots, nil
}

// parse reads the file strictly. That a root must not be trusted after all is no error here, but at its use: it must be
// possible to take it off the list.
func parse(b []byte) ([]Root, error) {
	doc, err := strictjson.Parse(b)
	if err != nil {
		return nil, err
	}
	if err := doc.Only("schema", "roots"); err != nil {
		return nil, err
	}
	if text, err := doc.Text("schema"); err != nil || text != schema {
		return nil, fmt.Errorf("the schema is %q, not %q", text, schema)
	}
	list, err := doc.List("roots", maxRoots)
	if err != nil {
		return nil, err
	}
	var roots []Root
	for i, raw := range list {
		r, err := parseRoot(raw)
		if err != nil {
			return nil, fmt.Errorf("roots[%d]: %w", i, err)
		}
		if i > 0 && roots[i-1].Name >= r.Name {
			return nil, fmt.Errorf("roots[%d]: %q does not come after %q", i, r.Name, roots[i-1].Name)
		}
		roots = append(roots, r)
	}
	return roots, nil
}

func parseRoot(raw []byte) (Root, error) {
	o, err := strictjson.Parse(raw)
	if err != nil {
		return Root{}, err
	}
	if err := o.Only("name", "domain", "spki", "added", "certificate"); err != nil {
		return Root{}, err
	}
	var errs []error
	field := func(key string) string {
		v, err := o.Text(key)
		errs = append(errs, err)
		return v
	}
	r := Root{Name: field("name"), Domain: anchor.Domain(field("domain")), SPKI: field("spki")}
	added, certificate := field("added"), field("certificate")
	if err := errors.Join(errs...); err != nil {
		return Root{}, err
	}
	if err := CheckName(r.Name); err != nil {
		return Root{}, err
	}
	if r.Domain != anchor.Simulated {
		return Root{}, fmt.Errorf("%q has the domain %q, not %q", r.Name, r.Domain, anchor.Simulated)
	}
	if r.Added, err = time.Parse(time.RFC3339, added); err != nil {
		return Root{}, err
	}
	der, err := base64.StdEncoding.Strict().DecodeString(certificate)
	if err != nil {
		return Root{}, fmt.Errorf("certificate of %q: %w", r.Name, err)
	}
	if r.Certificate, err = x509.ParseCertificate(der); err != nil {
		return Root{}, fmt.Errorf("certificate of %q: %w", r.Name, err)
	}
	if got := anchor.SPKI(r.Certificate); got != r.SPKI {
		return Root{}, fmt.Errorf("the public key of %q is %s, not %s as written down", r.Name, got, r.SPKI)
	}
	return r, nil
}
