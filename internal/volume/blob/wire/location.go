// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Location is where an object is, without what may be secret in its URL: the query of a signed URL is kept apart.
type Location struct {
	base  url.URL
	query Secret
}

// ParseLocation reads a URL of http or https. Errors do not repeat it.
func ParseLocation(raw string) (Location, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Location{}, errors.New("the URL can not be parsed") // url.Error would repeat it
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return Location{}, fmt.Errorf("the URL's scheme is %q, not http or https", u.Scheme)
	case u.Host == "" || u.Opaque != "":
		return Location{}, errors.New("the URL has no host")
	case u.User != nil:
		return Location{}, errors.New("the URL has a user name or password: give credentials apart")
	case u.Fragment != "":
		return Location{}, errors.New("the URL has a fragment")
	case strings.Contains(u.RawQuery, ";"):
		return Location{}, errors.New("the URL's query has a semicolon")
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil {
		return Location{}, errors.New("the URL's query can not be parsed")
	}
	l := Location{base: *u, query: NewSecret(u.RawQuery)}
	l.base.RawQuery, l.base.ForceQuery = "", false
	return l, nil
}

// String is the URL without its query.
func (l Location) String() string { return l.base.String() }

// GoString is String.
func (l Location) GoString() string { return l.String() }

// Host is the host, with a port if the URL has one.
func (l Location) Host() string { return l.base.Host }

// Hostname is the host without a port.
func (l Location) Hostname() string { return l.base.Hostname() }

// Path is the decoded path.
func (l Location) Path() string { return l.base.Path }

// Encrypted reports whether the connection will be TLS.
func (l Location) Encrypted() bool { return l.base.Scheme == "https" }

// Query returns the parameters, which are secret.
func (l Location) Query() url.Values {
	q, _ := url.ParseQuery(l.query.Reveal()) // parsed before, by ParseLocation
	return q
}

// HasQuery reports whether the URL has parameters.
func (l Location) HasQuery() bool { return !l.query.IsZero() }

// WithPath returns the location of another path, given decoded and as it is to be sent.
func (l Location) WithPath(path, encoded string) Location {
	l.base.Path, l.base.RawPath = path, encoded
	return l
}

// url is the whole URL with further parameters.
func (l Location) url(more url.Values) *url.URL {
	u := l.base
	u.RawQuery = l.query.Reveal()
	if extra := more.Encode(); extra != "" {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += extra
	}
	return &u
}

// Nearby reports whether what is sent there does not leave this machine or its link.
func (l Location) Nearby() bool {
	if l.Hostname() == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(l.Hostname())
	return err == nil && (addr.IsLoopback() || addr.IsLinkLocalUnicast())
}
