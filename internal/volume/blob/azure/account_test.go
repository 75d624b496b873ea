// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"cofferdam.dev/internal/volume/blob/wire"
)

// TestStringToSign compares with the example that Microsoft publishes ("Authorize with Shared Key"), and with what it says of
// parameters, which the example has few of.
func TestStringToSign(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method, target string
		header               http.Header
		length               int64
		want                 string
	}{
		{
			"published", http.MethodGet, "https://myaccount.blob.core.windows.net/mycontainer?comp=metadata&restype=container&timeout=20",
			http.Header{"X-Ms-Date": {"Fri, 26 Jun 2015 23:39:12 GMT"}, "X-Ms-Version": {"2015-02-21"}}, 0,
			"GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n" +
				"/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20",
		},
		{
			"everything", http.MethodPut, "http://127.0.0.1:10000/myaccount/c/a%20b?b=2&A=1&b=1",
			http.Header{
				"If-Match": {`"x"`}, "Range": {"bytes=0-1"}, "Content-Type": {"text/plain"}, "If-None-Match": {"*"},
				"If-Unmodified-Since": {"then"}, "X-Ms-B": {" two "}, "X-Ms-A": {"one"}, "User-Agent": {"not signed"},
			}, 12,
			"PUT\n\n\n12\n\ntext/plain\n\n\n\"x\"\n*\nthen\nbytes=0-1\nx-ms-a:one\nx-ms-b:two\n/myaccount/myaccount/c/a%20b\na:1\nb:1,2",
		},
	} {
		u, err := url.Parse(c.target)
		if err != nil {
			t.Fatal(err)
		}
		got := stringToSign("myaccount", &http.Request{Method: c.method, URL: u, Header: c.header, ContentLength: c.length})
		if got != c.want {
			t.Errorf("%s:\ngot  %q\nwant %q", c.name, got, c.want)
		}
	}
}

func TestSharedKeyHides(t *testing.T) {
	t.Parallel()
	k, err := NewSharedKey("account", wire.NewSecret("aHVzaC1odXNo")) // hush-hush
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"key": k, "access": fmt.Sprintf("%v %+v %#v", k, Access{Key: k}, Access{Key: k}.Key)})
	if all := string(text) + fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k); err != nil || strings.Contains(all, "hush") || strings.Contains(all, "aHVzaC1odXNo") ||
		strings.Contains(all, "104 117 115 104") || strings.Contains(all, "68757368") {
		t.Errorf("it prints as %s, %v", all, err)
	}
	for _, bad := range [][2]string{{"account", "not base64, hush"}, {"account", ""}, {"", "a2V5"}, {"a/b", "a2V5"}} {
		if k, err := NewSharedKey(bad[0], wire.NewSecret(bad[1])); err == nil || !k.IsZero() || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSignature(t *testing.T) {
	t.Parallel()
	at, err := wire.ParseLocation("http://127.0.0.1/c/b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		query, expires  string
		present         bool
		mayRead, mayPut bool
	}{
		{"", "", false, true, true},
		{"sp=r&se=2030-01-02T03:04:05Z&sig=x", "2030-01-02T03:04:05Z", true, true, false},
		{"sp=rw&se=2030-01-02&sig=x", "2030-01-02", true, true, true},
		{"si=policy&sig=x", "", true, true, true},
		{"sp=rw&spr=https&se=soon&sig=x", "", true, false, false},
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		s, ok := parseSignature(q)
		if ok != c.present || s.expires != c.expires || (s.check(at, false) == nil) != c.mayRead || (s.check(at, true) == nil) != c.mayPut {
			t.Errorf("%q: %t, %+v, %v, %v", c.query, ok, s, s.check(at, false), s.check(at, true))
		}
	}
}
