// SPDX-License-Identifier: Apache-2.0

package attestationcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/maapolicy"
	"cofferdam.dev/internal/plain"
)

// attestationTestsSchema is the schema of a file of tests.
const attestationTestsSchema = "cofferdam.dev/attestation-policy-tests/v1"

// attestationTests is a file of tests: what the policy must come to for some claims.
type attestationTests struct {
	Schema string `json:"schema"`
	Tests  []struct {
		Name   string         `json:"name"`
		Claims map[string]any `json:"claims"`
		// Permitted must be given.
		Permitted *bool `json:"permitted"`
		// Reason, when given, must occur in the reason of the decision.
		Reason string `json:"reason"`
		// Issued, when given, must be all that is issued.
		Issued map[string]any `json:"issued"`
	} `json:"tests"`
}

// attestationTestResult is the result of one test.
type attestationTestResult struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	// Why says what was expected and what came.
	Why string `json:"why,omitempty"`
}

type attestationTestAnswer struct {
	Schema string                  `json:"schema"`
	Failed int                     `json:"failed"`
	Tests  []attestationTestResult `json:"tests"`
}

func (a *App) attestationTestCommand() *cobra.Command {
	var tests string
	c := &cobra.Command{
		Use:   "test FILE --tests FILE",
		Short: "Run unit tests of a policy: claims in, expected decision and claims out",
		Long: `Run the tests in a YAML or JSON file against a policy. Each test has claims, whether the
policy must permit, and optionally a part of the reason and exactly the claims that must
be issued:

  schema: cofferdam.dev/attestation-policy-tests/v1
  tests:
    - name: guests that can be debugged are refused
      claims: {x-ms-sevsnpvm-is-debuggable: true}
      permitted: false
      reason: wants == false

Exits with 3 when a test fails.`,
		Example: `  cofferdam attestation policy test policy.txt --tests policy-tests.yaml`,
		Args:    console.Arguments(1, 1, "one policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if tests == "" {
				return console.Usage(cmd, "--tests is missing: a file with the tests")
			}
			p, err := a.readAttestationPolicy(args[0])
			if err != nil {
				return err
			}
			list, err := readAttestationTests(tests)
			if err != nil {
				return err
			}
			v := attestationTestAnswer{Schema: "cofferdam.dev/attestation-policy-test-results/v1", Tests: []attestationTestResult{}}
			for i := range list.Tests {
				r := list.run(cmd.Context(), p, i)
				if !r.Passed {
					v.Failed++
				}
				v.Tests = append(v.Tests, r)
			}
			if err = a.Answer(v, func(w io.Writer) error { return v.write(w, a.Style(a.Out)) }); err == nil && v.Failed > 0 {
				return console.Quiet(console.ExitRefused)
			}
			return err
		},
	}
	c.Flags().StringVar(&tests, "tests", "", "file with the tests, in YAML or JSON")
	a.OutputFlag(c)
	return c
}

func readAttestationTests(name string) (*attestationTests, error) {
	b, err := console.ReadLimited(name, nil, MaxClaims)
	if err != nil {
		return nil, fmt.Errorf("reading the tests: %w", err)
	}
	text, err := yaml.YAMLToJSONStrict(b)
	if err != nil {
		return nil, fmt.Errorf("reading the tests: %s: %w", name, err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	dec.UseNumber()
	var t attestationTests
	if err := dec.Decode(&t); err != nil {
		return nil, fmt.Errorf("reading the tests: %s: %w", name, err)
	}
	if t.Schema != attestationTestsSchema {
		return nil, fmt.Errorf("reading the tests: %s: schema is %q, not %q", name, t.Schema, attestationTestsSchema)
	}
	if len(t.Tests) == 0 {
		return nil, fmt.Errorf("reading the tests: %s: there are none", name)
	}
	for i, one := range t.Tests {
		if one.Name == "" || one.Permitted == nil {
			return nil, fmt.Errorf("reading the tests: %s: tests[%d] lacks name or permitted", name, i)
		}
	}
	return &t, nil
}

// run runs one test.
func (t *attestationTests) run(ctx context.Context, p *maapolicy.Policy, i int) attestationTestResult {
	one := &t.Tests[i]
	r := attestationTestResult{Name: one.Name}
	v, err := explainAttestation(ctx, p, one.Claims)
	switch {
	case err != nil:
		r.Why = err.Error()
	case v.Permitted != *one.Permitted:
		r.Why = fmt.Sprintf("permitted is %v, expected %v: %s", v.Permitted, *one.Permitted, v.Reason)
	case !strings.Contains(v.Reason, one.Reason):
		r.Why = fmt.Sprintf("the reason is %q, which does not have %q", v.Reason, one.Reason)
	case one.Issued != nil && !sameJSON(one.Issued, v.Issued):
		r.Why = fmt.Sprintf("issued is %s, expected %s", jsonText(v.Issued), jsonText(one.Issued))
	default:
		r.Passed = true
	}
	return r
}

// sameJSON compares two values by what they are in JSON.
func sameJSON(a, b any) bool {
	var x, y any
	errX, errY := json.Unmarshal([]byte(jsonText(a)), &x), json.Unmarshal([]byte(jsonText(b)), &y)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (v *attestationTestAnswer) write(w io.Writer, s console.Style) error {
	for _, r := range v.Tests {
		mark := s.Good("pass")
		if !r.Passed {
			mark = s.Bad("FAIL")
		}
		if _, err := fmt.Fprintf(w, "%s  %s\n", mark, plain.Printable(r.Name)); err != nil {
			return err
		}
		if r.Why != "" {
			if _, err := fmt.Fprintf(w, "      %s\n", plain.Printable(r.Why)); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(w, "%d tests, %d failed\n", len(v.Tests), v.Failed)
	return err
}
