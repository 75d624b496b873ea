// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// operation is what is done for one method at one endpoint.
type operation struct {
	// name is the label of metrics and logs.
	name string
	// needs is the permission that the caller's roles must give.
	needs permission
	do    func(*call) error
}

// call is one request under way.
type call struct {
	w http.ResponseWriter
	r *http.Request
	// query is the decoded query, and version the API version in it.
	query   url.Values
	version string
	// name and id are the object's name and version that the path has; each may be empty.
	name, id string
}

// objectName is the form of names; whatever else a path has in a name's place is answered with an error, and recorded nowhere.
var objectName = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)

// endpoints are the operations by path and method. In a path, "{name}" and "{version}" stand for those; the latter may be
// empty or, where the path goes on after it, missing.
type endpoints map[string]map[string]operation

// verbs are the last elements of paths that act on one version of an object.
var verbs = []string{"encrypt", "decrypt", "sign", "verify", "wrapkey", "unwrapkey", "release"}

// words are second elements below an object's name that are no versions.
var words = []string{"create", "versions", "rotate", "recover", "backup", "rotationpolicy"}

// restoring is the one word in the place of a name that is none, for the one method that names do not have.
const restoring = "restore"

// pattern turns a path into the pattern under which its endpoint is found, and takes name and version out of it. Paths are
// taken apart rather than cleaned: clients send an empty version as "/keys/name//release", and a redirection would lose
// their bodies.
func (c *call) pattern(path string) string {
	parts := strings.Split(strings.TrimLeft(path, "/"), "/")
	parts[0] = strings.ToLower(parts[0])
	if len(parts) == 2 && parts[1] == "" {
		parts = parts[:1]
	}
	if len(parts) == 1 {
		return parts[0]
	}
	if c.r.Method == http.MethodPost && len(parts) == 2 && strings.EqualFold(parts[1], restoring) {
		return parts[0] + "/" + restoring
	}
	c.name = parts[1]
	pattern := parts[0] + "/{name}"
	rest := parts[2:]
	last := strings.ToLower(parts[len(parts)-1])
	switch {
	case len(rest) == 0 || len(rest) == 1 && rest[0] == "":
		return pattern
	case len(rest) == 1 && slices.Contains(words, last):
		return pattern + "/" + last
	case len(rest) == 1 && slices.Contains(verbs, last):
		return pattern + "/{version}/" + last
	case len(rest) == 1:
		c.id = rest[0]
		return pattern + "/{version}"
	case len(rest) == 2 && slices.Contains(verbs, last):
		c.id = rest[0]
		return pattern + "/{version}/" + last
	}
	return ""
}

// object is the path of the object that a request is about, for roles and for the audit log: kind/name.
func (c *call) object(path string) string {
	kind, _, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
	kind = strings.TrimPrefix(strings.ToLower(kind), "deleted")
	if !objectName.MatchString(c.name) {
		return kind
	}
	return kind + "/" + c.name
}

// versions are the API versions that clients name. The service answers all of them alike, but that keys can be exportable
// from 7.3 on alone.
var versions = []string{
	"7.0", "7.1", "7.2", "7.3-preview", "7.3", "7.4-preview.1", "7.4", "7.5-preview.1", "7.5", "7.6-preview.1", "7.6-preview.2", "7.6",
	"2025-06-01-preview", "2025-07-01", "2026-04-01",
}

// withoutRelease are the versions before secure key release.
var withoutRelease = []string{"7.0", "7.1", "7.2"}

// parseQuery requires one API version that is known. The names are decoded first: some clients encode their hyphen.
func (c *call) parseQuery() error {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return bad("The query is malformed.")
	}
	for name, v := range q {
		if len(v) != 1 {
			return bad("The query has the parameter %q %d times.", name, len(v))
		}
	}
	c.query, c.version = q, strings.ToLower(q.Get("api-version"))
	if !slices.Contains(versions, c.version) {
		return bad("The query must have a parameter api-version, which is one of %s.", strings.Join(versions, ", "))
	}
	return nil
}
