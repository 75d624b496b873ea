// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/internal/volume/blob/wire"
)

// apiVersion is the protocol's version: the header x-ms-version.
const apiVersion = "2021-12-02"

// SharedKey is the key of a storage account. It prints without the key. The zero value is none.
type SharedKey struct {
	account string
	key     []byte
}

// NewSharedKey takes an account's name and its key in base64.
func NewSharedKey(account string, key wire.Secret) (SharedKey, error) {
	raw, err := base64.StdEncoding.DecodeString(key.Reveal())
	if err != nil || len(raw) == 0 {
		return SharedKey{}, errors.New("the account key is not base64") // the decoder's error says where
	}
	if account == "" || strings.ContainsAny(account, "/:\r\n ") {
		return SharedKey{}, fmt.Errorf("the account's name is %q", account)
	}
	return SharedKey{account: account, key: raw}, nil
}

// IsZero reports whether there is no key.
func (k SharedKey) IsZero() bool { return len(k.key) == 0 }

// String names the account.
func (k SharedKey) String() string { return "key of account " + k.account }

// GoString is String.
func (k SharedKey) GoString() string { return k.String() }

// LogValue is String.
func (k SharedKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON hides the key.
func (k SharedKey) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// sign adds the header Authorization. The request must have all other headers.
func (k SharedKey) sign(req *http.Request) {
	mac := hmac.New(sha256.New, k.key)
	mac.Write([]byte(stringToSign(k.account, req)))
	req.Header.Set("Authorization", "SharedKey "+k.account+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// stringToSign is what a shared key signs of a request to the Blob service, in versions 2015-02-21 and later.
func stringToSign(account string, req *http.Request) string {
	h, length := req.Header, ""
	if req.ContentLength > 0 {
		length = strconv.FormatInt(req.ContentLength, 10)
	}
	lines := []string{
		req.Method, h.Get("Content-Encoding"), h.Get("Content-Language"), length, h.Get("Content-MD5"), h.Get("Content-Type"),
		h.Get("Date"), h.Get("If-Modified-Since"), h.Get("If-Match"), h.Get("If-None-Match"), h.Get("If-Unmodified-Since"), h.Get("Range"),
	}
	own := []string{}
	for name := range h {
		if low := strings.ToLower(name); strings.HasPrefix(low, "x-ms-") {
			own = append(own, low)
		}
	}
	slices.Sort(own)
	for _, name := range own {
		lines = append(lines, name+":"+strings.TrimSpace(h.Get(name)))
	}
	return strings.Join(lines, "\n") + "\n" + canonicalResource(account, req.URL)
}

func canonicalResource(account string, u *url.URL) string {
	var b strings.Builder
	b.WriteString("/" + account + u.EscapedPath())
	byName := map[string][]string{}
	for name, values := range u.Query() {
		low := strings.ToLower(name)
		byName[low] = append(byName[low], values...)
	}
	names := []string{}
	for name, values := range byName {
		slices.Sort(values)
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.WriteString("\n" + name + ":" + strings.Join(byName[name], ","))
	}
	return b.String()
}

// signature is what a shared access signature in a URL says about itself. The service decides; this is for clear errors.
type signature struct {
	permissions string
	expires     string
	secureOnly  bool
}

// parseSignature reads the parameters of a shared access signature. Without one, ok is false.
func parseSignature(q url.Values) (s signature, ok bool) {
	if q.Get("sig") == "" {
		return signature{}, false
	}
	s = signature{permissions: q.Get("sp"), secureOnly: q.Get("spr") == "https"}
	if at, err := time.Parse(time.RFC3339, q.Get("se")); err == nil {
		s.expires = at.UTC().Format(time.RFC3339)
	} else if at, err := time.Parse(time.DateOnly, q.Get("se")); err == nil {
		s.expires = at.Format(time.DateOnly)
	}
	return s, true
}

// check says at once what the service would refuse without a reason. A signature that names a stored policy (si) may say
// nothing of its permissions.
func (s signature) check(l wire.Location, writes bool) error {
	if s.secureOnly && !l.Encrypted() {
		return fmt.Errorf("the shared access signature of %s is for https only: %w", l, wire.ErrDenied)
	}
	if writes && s.permissions != "" && !strings.Contains(s.permissions, "w") {
		return fmt.Errorf("the shared access signature of %s does not permit to write: %w", l, wire.ErrDenied)
	}
	return nil
}
