// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"cofferdam.dev/internal/group"
)

// pageSize is how many resources one answer has at most.
const pageSize = 100

// groupList is the answer to a request for several resources.
type groupList struct {
	Value    []map[string]any `json:"value"`
	NextLink string           `json:"nextLink,omitempty"`
}

// listGroups answers the resources of a subscription, or of one of its resource groups, in the order of their IDs. What
// became of their containers is left out, as the service leaves it out.
func (a *API) listGroups(w http.ResponseWriter, r *http.Request, p params) *armError {
	after, bad := skipToken(r)
	if bad != nil {
		return bad
	}
	groups, err := a.opts.Groups.List()
	if len(groups) == 0 && err != nil {
		return a.internal(err)
	}
	byID := map[string]*group.Group{}
	for _, g := range groups {
		byID[g.Record.ID] = g
	}
	l := groupList{Value: []map[string]any{}}
	last := ""
	for _, d := range a.snapshot() {
		if !strings.EqualFold(d.ID.Subscription, p["subscriptionId"]) || d.ID.key() <= after {
			continue
		}
		if in, one := p["resourceGroupName"]; one && !strings.EqualFold(in, d.ID.ResourceGroup) {
			continue
		}
		if len(l.Value) == pageSize {
			l.NextLink = nextLink(r, last)
			break
		}
		v, err := (&moment{doc: d, group: byID[d.GroupID]}).resource(false)
		if err != nil {
			return a.internal(err)
		}
		l.Value, last = append(l.Value, v), d.ID.key()
	}
	return answer(w, http.StatusOK, l)
}

// skipToken is the key of the last resource of the page before.
func skipToken(r *http.Request) (string, *armError) {
	token := r.URL.Query().Get("$skiptoken")
	key, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", badRequest("InvalidSkipToken", "$skiptoken", "The $skiptoken is none that was answered here.")
	}
	return string(key), nil
}

func nextLink(r *http.Request, last string) string {
	q := url.Values{"api-version": {r.URL.Query().Get("api-version")}, "$skiptoken": {base64.RawURLEncoding.EncodeToString([]byte(last))}}
	return baseURL(r) + r.URL.EscapedPath() + "?" + q.Encode()
}
