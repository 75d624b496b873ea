// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"fmt"
	"strings"

	"cofferdam.dev/internal/sidecar/config"
)

// Kinds of servers that have certificates of chips.
const (
	// CertAMD is AMD's key distribution service.
	CertAMD = "AMD"
	// CertAzCache is Azure's cache of it.
	CertAzCache = "AzCache"
	// CertLocalTHIM is the metadata service of the machine.
	CertLocalTHIM = "LocalTHIM"
)

// AzureInformation is the sidecar's configuration, as container groups on Azure give it: JSON, usually in base64.
type AzureInformation struct {
	// CertCache is where certificates of the chip are when the host does not give good ones.
	CertCache CertCache `json:"certcache"`
	// Identity chooses among several managed identities.
	Identity Identity `json:"identity"`
	// MAA says what is sent to attestation services.
	MAA MAAConfig `json:"maaconfig"`
}

// CertCache names a server of certificates.
type CertCache struct {
	// EndpointType is CertAMD, CertAzCache or CertLocalTHIM; empty is none.
	EndpointType string `json:"endpoint_type"`
	// Endpoint is the server's host, possibly with the beginning of a path.
	Endpoint string `json:"endpoint"`
	// TEEType is AMD's product line for CertAMD, and a part of the path for CertAzCache, usually SevSnpVM.
	TEEType string `json:"tee_type"`
	// APIVersion is what CertAzCache wants as its query, such as api-version=2020-10-15-preview.
	APIVersion string `json:"api_version"`
	// ClientID is sent to CertAzCache when it is not empty.
	ClientID string `json:"client_id"`
}

// Identity names a managed identity.
type Identity struct {
	// ClientID names it by its application, PrincipalID by its object.
	ClientID    string `json:"client_id"`
	PrincipalID string `json:"principal_id"`
}

// MAAConfig says what is sent to attestation services.
type MAAConfig struct {
	// UserAgent is put behind ours.
	UserAgent string `json:"user_agent"`
}

// maxConfig bounds the configuration's JSON, in bytes.
const maxConfig = 64 << 10

// ParseAzureInformation reads the configuration from base64, of either alphabet, or from the JSON itself. Empty text is
// an empty configuration. A member that is not known is an error: it would do nothing.
func ParseAzureInformation(text string) (*AzureInformation, error) {
	c, err := parseAzureInformation(text)
	if err != nil {
		return nil, fmt.Errorf("reading the sidecar's configuration: %w", err)
	}
	return c, nil
}

func parseAzureInformation(text string) (*AzureInformation, error) {
	c := &AzureInformation{}
	if strings.TrimSpace(text) == "" {
		return c, nil
	}
	if err := config.Read(text, maxConfig, c); err != nil {
		return nil, err
	}
	return c, c.CertCache.validate()
}

func (c *CertCache) validate() error {
	switch c.EndpointType {
	case "", CertLocalTHIM:
		return nil
	case CertAMD, CertAzCache:
		if c.Endpoint == "" || c.TEEType == "" {
			return fmt.Errorf("certcache of type %s needs endpoint and tee_type", c.EndpointType)
		}
		return nil
	}
	return fmt.Errorf("certcache: endpoint_type is %q; want %s, %s or %s", c.EndpointType, CertAMD, CertAzCache, CertLocalTHIM)
}
