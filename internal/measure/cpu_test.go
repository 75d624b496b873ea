// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testcap"
)

// TestCPUSignatures holds the models against the published family, model and stepping of each.
func TestCPUSignatures(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(testcap.Vectors(t, "measure/known_answers.json"))
	if err != nil {
		t.Fatal(err)
	}
	var known struct {
		Signatures map[string]string `json:"cpu_signature"`
	}
	if err := json.Unmarshal(b, &known); err != nil {
		t.Fatal(err)
	}
	for name, text := range known.Signatures {
		text = strings.NewReplacer("family ", "", " model ", "/", " stepping ", "/").Replace(text)
		var want snp.CPUID
		if _, err := fmt.Sscanf(text, "%d/%d/%d", &want.Family, &want.Model, &want.Stepping); err != nil {
			t.Fatalf("%s: %q: %v", name, text, err)
		}
		model, _, _ := strings.Cut(name, "..")
		for _, m := range []string{model, model + "-v1", model + "-v4"} {
			got, ok := CPUSignature(m)
			if !ok || snp.ParseCPUSignature(got) != want || got != want.Signature() {
				t.Errorf("%s has signature %#x, which is %s; want %s", m, got, snp.ParseCPUSignature(got), want)
			}
		}
	}
	if len(known.Signatures) != len(CPUModels()) {
		t.Errorf("%d signatures are known, there are %d models", len(known.Signatures), len(CPUModels()))
	}
	for _, m := range []string{"", "max", "host", "EPYC-v", "EPYC-v0", "EPYC-v1-v2", "EPYC-Naples", "epyc"} {
		if s, ok := CPUSignature(m); ok {
			t.Errorf("%q has signature %#x", m, s)
		}
	}
}
