// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"fmt"

	"cofferdam.dev/evidence/hcl"
)

// Schema is the schema of every appraisal policy.
const Schema = "cofferdam.dev/appraisal-policy/v1"

// Policy is an appraisal policy. Its tags are the file's keys, and what the reference page and the JSON Schema say about
// them.
type Policy struct {
	Schema         string         `json:"schema" required:"true" doc:"cofferdam.dev/appraisal-policy/v1"`
	Name           string         `json:"name,omitzero" doc:"A name for people"`
	Description    string         `json:"description,omitzero" doc:"What the policy is for, for people"`
	Evidence       []EvidenceType `json:"evidence" required:"true" doc:"The types of evidence that are accepted"`
	Domains        []Domain       `json:"domains" required:"true" doc:"The trust domains whose roots count"`
	AllowSimulated bool           `json:"allowSimulated,omitzero" doc:"Accept evidence that says nothing about hardware; needs the domain simulated, and simulatedRoots"`
	SimulatedRoots []Hash         `json:"simulatedRoots,omitzero" doc:"SHA-256 of the public keys of the simulated roots that count (the last column of cofferdam trust list)"`
	HostData       HostData       `json:"hostData,omitzero" doc:"The execution policies that a guest may have been launched with; without any, no guest is accepted"`
	Binding        Binding        `json:"binding,omitzero" doc:"What the report must be bound to"`
	SNP            *SNP           `json:"snp,omitzero" doc:"What is asked of SEV-SNP machines and guests; under azure-vtpm, of the machine alone"`
	Intel          *Intel         `json:"intel,omitzero" doc:"What is asked of Intel's machines, for tdx and sgx"`
	TDX            *TDX           `json:"tdx,omitzero" doc:"What is asked of trust domains"`
	SGX            *SGX           `json:"sgx,omitzero" doc:"What is asked of enclaves"`
	Azure          *Azure         `json:"azure,omitzero" doc:"What is asked of Azure's confidential VMs; the hardware beneath is asked by snp, or by intel and tdx"`
	Rules          Rules          `json:"rules,omitzero" doc:"Rules in Rego that may refuse more"`
}

// HostData says which host data are trusted: the hash of the execution policy, in HOST_DATA, MRCONFIGID or CONFIGID.
type HostData struct {
	PolicyHashes []Hash   `json:"policyHashes,omitzero" doc:"SHA-256 of the texts of trusted execution policies (cofferdam policy hash)"`
	PolicyFiles  []string `json:"policyFiles,omitzero" doc:"Files with the texts of trusted execution policies; their hashes are used"`
	AllowNone    bool     `json:"allowNone,omitzero" doc:"Trust guests that were launched without host data; Azure VMs always are"`
}

// Binding says what a report must be bound to. The nonce itself comes with each appraisal.
type Binding struct {
	Source           Source       `json:"source,omitzero" doc:"On whose behalf the report must have been made; secrets are for workload only. Needed unless report data of another form are expected"`
	MinimumNonceSize uint8        `json:"minimumNonceSize,omitzero" doc:"The fewest bytes that a relying party's nonce may have; never below 8" max:"64"`
	ReportData       []ReportData `json:"reportData,omitzero" doc:"Report data of another form that are trusted, as they stand in the report; for an Azure VM what its TPM was asked to sign"`
}

// Rules are modules in Rego.
type Rules struct {
	Modules []string `json:"modules,omitzero" doc:"Texts of modules of package appraisal, whose rule deny names what is refused"`
	Files   []string `json:"files,omitzero" doc:"Files with such modules"`
}

// Azure is what is asked of Azure's confidential VMs.
type Azure struct {
	Measurements      []Digest            `json:"measurements,omitzero" doc:"Trusted launch measurements of paravisors"`
	PCRs              map[Register][]Hash `json:"pcrs,omitzero" doc:"Trusted values of the TPM's registers (SHA-256 bank), by number; 4 or 7 must be among them"`
	AllowInsecureBoot bool                `json:"allowInsecureBoot,omitzero" doc:"Accept VMs that the host configured without secure boot"`
}

// Register is the number of a TPM register, 0 to 23.
type Register uint8

func (Register) form() form { return form{pattern: "^([0-9]|1[0-9]|2[0-3])$"} }

// UnmarshalText reads a number.
func (r *Register) UnmarshalText(b []byte) error {
	n, err := readNumber(string(b), 8)
	if err != nil || n >= hcl.PCRCount {
		return fmt.Errorf("%q is no register: they have the numbers 0 to %d", b, hcl.PCRCount-1)
	}
	*r = Register(n)
	return nil
}

// MarshalText writes the number.
func (r Register) MarshalText() ([]byte, error) { return fmt.Append(nil, uint8(r)), nil }
