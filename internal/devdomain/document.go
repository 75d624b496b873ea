// SPDX-License-Identifier: Apache-2.0

package devdomain

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Schema identifies the JSON form of a Document. Fields may be added under the same identifier, never changed.
const Schema = "cofferdam.dev/domain/v1"

// Document says where the services are and what they are trusted by. It holds no secret, but names the files of some.
type Document struct {
	Schema string `json:"schema"`
	// Simulated is true when simulated evidence is accepted, by the roots of these names.
	Simulated      bool     `json:"simulated"`
	SimulatedRoots []string `json:"simulatedRoots"`
	// State is the directory of everything.
	State string `json:"state"`
	// CA is a PEM file: the authority of all certificates of the domain, those that sign releases included.
	CA string `json:"ca"`
	// AdminToken is the file of the token of the operator of all services.
	AdminToken string `json:"adminToken"`

	Attestation AttestationDocument `json:"attestation"`
	Vault       VaultDocument       `json:"vault"`
	// Broker is nil when none is served.
	Broker  *ServiceDocument `json:"broker,omitempty"`
	Clients []ClientDocument `json:"clients"`
}

// ServiceDocument is where a service is.
type ServiceDocument struct {
	// URL is the service's on this machine, and GuestURL that for groups which were given its port.
	URL      string `json:"url"`
	GuestURL string `json:"guestURL"`
}

// AttestationDocument is about the attestation service.
type AttestationDocument struct {
	ServiceDocument
	// Issuer signs tokens over evidence of hardware, and SimulatedIssuer those over simulated evidence; it is empty when there
	// are none. Release policies name one of them.
	Issuer          string `json:"issuer"`
	SimulatedIssuer string `json:"simulatedIssuer,omitempty"`
}

// VaultDocument is about the vault.
type VaultDocument struct {
	ServiceDocument
	// Tenant is that of the domain's token issuer, which is reached at the vault's URLs.
	Tenant string `json:"tenant"`
}

// ClientDocument is about a client that may get tokens.
type ClientDocument struct {
	ID string `json:"id"`
	// Secret is the file of its secret.
	Secret string `json:"secretFile"`
}

// Running reads the document of the domain that runs with a state directory.
func Running(state string) (*Document, error) {
	b, err := os.ReadFile(filepath.Join(state, fileDocument))
	if err != nil {
		return nil, fmt.Errorf("reading about the development domain: %w", err)
	}
	d := &Document{}
	if err := json.Unmarshal(b, d); err != nil || d.Schema != Schema {
		return nil, fmt.Errorf("reading about the development domain: %s is no document of the schema %s", filepath.Join(state, fileDocument), Schema)
	}
	return d, nil
}
