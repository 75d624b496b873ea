// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestDraftBomb tries policies of anybody's that would fill the machine.
func TestDraftBomb(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	body := theWorld(t).body(t, runtimeJSON)
	for name, query := range map[string]string{
		"a list that doubles": strings.Repeat("[@,@]|", 60) + "@", "and is flattened": strings.Repeat("[@,@][]|", 60) + "length(@)",
	} {
		draft := `version=1.2; authorizationrules{ c:[type=="x-ms-runtime"] && [value==JmesPath(c.value, "` + query + `")] => permit(); }; issuancerules{};`
		begin := time.Now()
		a := f.do(t, http.MethodPost, attestSNP, "", mixed(body, "draftPolicyForAttestation", draft))
		if e := a.failure(t); a.status != http.StatusBadRequest || e.Code != codePolicyEvaluation || !strings.Contains(e.Message, "could make") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("%s: it took %s", name, took)
		}
	}
}
