// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/internal/vault/authority"
)

// vaultAuthority is an attestation service whose tokens count.
type vaultAuthority struct {
	// Issuer is exactly what its tokens have in iss.
	Issuer string `json:"issuer"`
	// Keys is the URL of its key set, or a file with it.
	Keys string `json:"keys"`
	// CA is a file with the authorities of the URL's server, instead of the system's.
	CA string `json:"ca"`
	// Algorithms are those of its tokens; none are RS256, ES256 and ES384.
	Algorithms []token.Algorithm `json:"algorithms"`
	// Audience must be in its tokens; tokens that have one are refused when it is empty.
	Audience string `json:"audience"`
	// MaxAge is how long ago a token may have been issued, such as 10m; empty is until it expires.
	MaxAge string `json:"maxAge"`
	// Simulated takes tokens over simulated evidence, and no others.
	Simulated bool `json:"simulated"`
}

// addAuthorities takes over those that flags name: ISSUER=KEYS.
func (c *vaultConfig) addAuthorities(cmd *cobra.Command, flag string, values []string, ca string, simulated bool) error {
	for _, v := range values {
		issuer, keys, ok := strings.Cut(v, "=")
		if !ok || issuer == "" || keys == "" {
			return console.Usage(cmd, fmt.Sprintf("--%s is %q; want ISSUER=URL, or ISSUER=FILE of the key set", flag, v))
		}
		c.Authorities = append(c.Authorities, vaultAuthority{Issuer: issuer, Keys: keys, CA: ca, Simulated: simulated})
	}
	return nil
}

// authoritySet returns the authorities that were configured.
func (c *vaultConfig) authoritySet() (*authority.Set, error) {
	var list []authority.Authority
	for _, a := range c.Authorities {
		one, err := a.open()
		if err != nil {
			return nil, fmt.Errorf("authority %q: %w", a.Issuer, err)
		}
		list = append(list, one)
	}
	return authority.NewSet(list...)
}

func (a *vaultAuthority) open() (authority.Authority, error) {
	one := authority.Authority{Issuer: a.Issuer, Algorithms: a.Algorithms, Audience: a.Audience, Simulated: a.Simulated}
	var err error
	if a.MaxAge != "" {
		if one.MaxAge, err = time.ParseDuration(a.MaxAge); err != nil || one.MaxAge <= 0 {
			return one, fmt.Errorf("maxAge is %q, not a time such as 10m", a.MaxAge)
		}
	}
	if strings.HasPrefix(a.Keys, "https://") || strings.HasPrefix(a.Keys, "http://") {
		one.Keys, err = authority.NewRemote(authority.RemoteOptions{URL: a.Keys, CA: a.CA})
		return one, err
	}
	one.Keys, err = authority.ReadFile(a.Keys)
	return one, err
}
