// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault/releasepolicy"
	"cofferdam.dev/policy"
)

// policyVersion is the version of release policies that are made here.
const policyVersion = "1.0.0"

// Claims of attestation services about guests of AMD SEV-SNP.
const (
	claimHostData    = "x-ms-sevsnpvm-hostdata"
	claimMeasurement = "x-ms-sevsnpvm-launchmeasurement"
	claimDebug       = "x-ms-sevsnpvm-is-debuggable"
	claimGuestSVN    = "x-ms-sevsnpvm-guestsvn"
	claimCompliance  = "x-ms-compliance-status"
)

// makePolicyOptions are the reference values of which a policy is made.
type makePolicyOptions struct {
	authorities, hostData, executionPolicies, measurements, claims []string
	compliance, form                                               string
	minSVN                                                         int
	allowDebug                                                     bool
}

func (a *App) keyPolicyMakeCommand() *cobra.Command {
	var o makePolicyOptions
	c := &cobra.Command{
		Use:   "make --authority URL --execution-policy FILE",
		Short: "Make a release policy of reference values",
		Long: `Make a release policy: who must attest a guest (--authority, the issuer of the tokens), and
what the guest must be. Several authorities, hashes and measurements are alternatives; all
else must hold together. Guests that can be debugged are left out unless --allow-debug.

--execution-policy takes the policy under which a group is launched, or group:NAME, and
--host-data its hash (` + "`cofferdam policy hash`" + `). A policy without either, and without
a measurement, would release to any guest of the authority, and is refused: bind it by
--claim, if something else tells your guests from others.

The hash says what a guest was launched with, and not that it enforces it: the host chooses
both. --measurement or --compliance says which guests do. Without them there is a warning.

--form says whose way of writing it is: a vault and a managed HSM keep the same policy as
different texts. They take both.`,
		Example: `  cofferdam key policy make --authority https://attest.example \
    --execution-policy policy.rego --measurement DIGEST > release.json
  cofferdam key policy make --authority https://sharedneu.neu.attest.azure.net --host-data \
    74f03b4c4d1b0a7a2e0f3b6bd3c1b5b5f0a1d9c8b7a69584736251403f2e1d0c \
    --compliance azure-compliant-uvm --claim x-ms-runtime.role=builder`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			form, ok := map[string]releasepolicy.Form{"vault": releasepolicy.VaultForm, "managed-hsm": releasepolicy.ManagedForm}[o.form]
			if !ok {
				return console.Usage(cmd, fmt.Sprintf("--form is %q; want vault or managed-hsm", o.form))
			}
			p, err := a.makePolicy(cmd, &o)
			if err != nil {
				return err
			}
			text, err := p.Marshal(form)
			if err != nil {
				return err
			}
			if len(o.measurements) == 0 && o.compliance == "" && len(o.claims) == 0 {
				a.Say("%s this binds the group's policy, and not the guest that enforces it: a host that boots a guest of its own"+
					" under the same hash gets the key, unless the authority vouches for its own guests alone; give --measurement or --compliance",
					a.Style(a.Err).Warn("warning:"))
			}
			_, err = fmt.Fprintln(a.Out, string(text))
			return err
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.authorities, "authority", nil, "issuer of the tokens that count; may be given several times")
	f.StringArrayVar(&o.executionPolicies, "execution-policy", nil, "policy of the group: a file, - or group:NAME; may be given several times")
	f.StringArrayVar(&o.hostData, "host-data", nil, "hash of the group's policy in hexadecimal; may be given several times")
	f.StringArrayVar(&o.measurements, "measurement", nil, "launch measurement in hexadecimal; may be given several times")
	f.StringVar(&o.compliance, "compliance", "", "status that the authority gives the guest's image, as azure-compliant-uvm")
	f.IntVar(&o.minSVN, "min-guest-svn", 0, "least security version of the guest")
	f.StringArrayVar(&o.claims, "claim", nil, "NAME=VALUE: another claim that the token must have; may be given several times")
	f.BoolVar(&o.allowDebug, "allow-debug", false, "also release to guests that their host can debug: only for tests")
	f.StringVar(&o.form, "form", "vault", "way of writing: vault or managed-hsm")
	return c
}

func (a *App) makePolicy(cmd *cobra.Command, o *makePolicyOptions) (*releasepolicy.Policy, error) {
	if len(o.authorities) == 0 {
		return nil, console.Usage(cmd, "--authority is missing: the attestation service whose tokens count")
	}
	for _, name := range o.executionPolicies {
		text, err := a.policy.PolicyText(name)
		if err != nil {
			return nil, err
		}
		if len(text) == 0 {
			return nil, fmt.Errorf("reading the execution policy: %s is empty", name)
		}
		h := policy.Hash(text)
		o.hostData = append(o.hostData, hex.EncodeToString(h[:]))
	}
	if len(o.hostData)+len(o.measurements)+len(o.claims) == 0 {
		return nil, console.Usage(cmd, "nothing tells your guests from others: give --execution-policy, --host-data, --measurement or --claim")
	}
	hashes, err := alternatives(cmd, "host-data", claimHostData, o.hostData, sha256.Size)
	if err != nil {
		return nil, err
	}
	const measurementSize = 48 // SHA-384 (SEV-SNP ABI, MEASUREMENT)
	measured, err := alternatives(cmd, "measurement", claimMeasurement, o.measurements, measurementSize)
	if err != nil {
		return nil, err
	}
	conditions := append(hashes, measured...)
	if !o.allowDebug {
		conditions = append(conditions, equals(claimDebug, "false"))
	}
	if o.compliance != "" {
		conditions = append(conditions, equals(claimCompliance, o.compliance))
	}
	if o.minSVN > 0 {
		conditions = append(conditions, releasepolicy.Condition{Claim: claimGuestSVN, Operator: releasepolicy.GreaterOrEquals, Value: json.RawMessage(fmt.Sprint(o.minSVN))})
	}
	for _, one := range o.claims {
		name, value, ok := strings.Cut(one, "=")
		if !ok || name == "" {
			return nil, console.Usage(cmd, fmt.Sprintf("--claim is %q; want NAME=VALUE", one))
		}
		conditions = append(conditions, equals(name, value))
	}
	p := &releasepolicy.Policy{Version: policyVersion}
	for _, issuer := range o.authorities {
		p.Authorities = append(p.Authorities, releasepolicy.Authority{
			Issuer: issuer, Condition: releasepolicy.Condition{Combine: releasepolicy.AllOf, List: conditions},
		})
	}
	return checkedPolicy(p)
}

// alternatives returns the condition that a claim has one of the values, or none when there are none.
func alternatives(cmd *cobra.Command, flag, claim string, values []string, size int) ([]releasepolicy.Condition, error) {
	var list []releasepolicy.Condition
	for _, v := range values {
		if b, err := hex.DecodeString(v); err != nil || len(b) != size {
			return nil, console.Usage(cmd, fmt.Sprintf("--%s is %q; want %d hexadecimal digits", flag, v, 2*size))
		}
		list = append(list, equals(claim, strings.ToLower(v)))
	}
	if len(list) < 2 {
		return list, nil
	}
	return []releasepolicy.Condition{{Combine: releasepolicy.AnyOf, List: list}}, nil
}

// equals is the condition that a claim has a value, compared as text.
func equals(claim, value string) releasepolicy.Condition {
	b, err := json.Marshal(value)
	if err != nil {
		panic(err) // texts always can be encoded
	}
	return releasepolicy.Condition{Claim: claim, Operator: releasepolicy.Equals, Value: b}
}

// checkedPolicy has a policy that was put together read as vaults will.
func checkedPolicy(p *releasepolicy.Policy) (*releasepolicy.Policy, error) {
	text, err := p.Marshal(releasepolicy.VaultForm)
	if err != nil {
		return nil, err
	}
	checked, err := releasepolicy.Parse(text)
	if err != nil {
		return nil, errors.Join(errors.New("what was asked for makes no release policy"), err)
	}
	return checked, nil
}
