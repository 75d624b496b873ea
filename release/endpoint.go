// SPDX-License-Identifier: Apache-2.0

package release

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// maxEndpoint bounds the text of an endpoint, in bytes.
const maxEndpoint = 512

var (
	hostName = regexp.MustCompile(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?\.)*[a-zA-Z0-9](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$`)
	// place is the path of an endpoint, such as a tenant's.
	place = regexp.MustCompile(`^(?:/[a-zA-Z0-9_-]+)*$`)
	// object is what keys and secrets of a vault are called, and version one of their versions.
	object  = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	version = regexp.MustCompile(`^[0-9a-zA-Z]{1,64}$`)
)

// ParseEndpoint reads the endpoint of a server: a bare host name as clients of Azure write it, one with a port, or an https
// URL. The result has no slash at its end.
func ParseEndpoint(text string) (*url.URL, error) {
	full := text
	if !strings.Contains(full, "://") {
		full = "https://" + full
	}
	u, err := url.Parse(full)
	if err != nil || len(text) > maxEndpoint {
		return nil, malformed("endpoint %q is no host name and no URL", clean(text))
	}
	host := u.Hostname()
	ip, ipErr := netip.ParseAddr(host)
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	switch {
	case !strings.EqualFold(u.Scheme, "https"):
		return nil, malformed("endpoint %q is not https", clean(text))
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		return nil, malformed("endpoint %q has more than host, port and path", clean(text))
	case !place.MatchString(u.Path):
		return nil, malformed("endpoint %q has a path of something else than letters, digits, hyphens and underscores", clean(text))
	case ip.Zone() != "" || ipErr != nil && (!hostName.MatchString(host) || len(host) > 253):
		return nil, malformed("endpoint %q has no host name", clean(text))
	}
	u.Scheme, u.Host = "https", strings.TrimSuffix(strings.ToLower(u.Host), ":")
	return u, nil
}

// KeyName is a key of a vault, and possibly one of its versions.
type KeyName struct {
	// Name is the key's name, and Version the version's, or empty for the newest.
	Name, Version string
}

// ParseKeyName reads "name" or "name/version".
func ParseKeyName(text string) (KeyName, error) {
	name, v, _ := strings.Cut(strings.TrimSuffix(text, "/"), "/")
	if !object.MatchString(name) || v != "" && !version.MatchString(v) {
		return KeyName{}, malformed("key %q is neither name nor name/version, of letters, digits and hyphens", clean(text))
	}
	return KeyName{name, v}, nil
}

// String returns what ParseKeyName reads.
func (n KeyName) String() string {
	if n.Version == "" {
		return n.Name
	}
	return n.Name + "/" + n.Version
}

// within reports whether a host is that of a domain or lies below it.
func within(host, domain string) bool {
	host, domain = strings.ToLower(host), strings.ToLower(domain)
	return domain != "" && (host == domain || strings.Contains(domain, ".") && strings.HasSuffix(host, "."+domain))
}
