// SPDX-License-Identifier: Apache-2.0

package strictpem

import (
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func block(kind, body string, headers map[string]string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(body), Headers: headers}))
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	one, two := block("CERTIFICATE", "one", nil), block("CERTIFICATE", "two", nil)
	for name, c := range map[string]struct {
		text string
		want []string
		err  string
	}{
		"one":             {one, []string{"one"}, ""},
		"two":             {one + two, []string{"one", "two"}, ""},
		"white space":     {"\n\t " + strings.ReplaceAll(one, "\n", "\r\n") + "\n\n" + strings.TrimSpace(two), []string{"one", "two"}, ""},
		"none":            {"", nil, "there is no certificate in PEM"},
		"blank":           {" \n", nil, "there is no certificate in PEM"},
		"too many":        {one + two + one, nil, "after 2 certificates in PEM there is something else"},
		"text before":     {"subject=x\n" + one, nil, "after 0 certificates in PEM there is something that is none"},
		"text between":    {one + "x\n" + two, nil, "after 1 certificates in PEM there is something that is none"},
		"text after":      {one + "x", nil, "after 1 certificates in PEM there is something that is none"},
		"another type":    {one + block("PRIVATE KEY", "k", nil), nil, "after 1 certificates in PEM there is something that is none"},
		"no end":          {strings.SplitAfter(one, "\n")[0] + two, nil, "after 0 certificates in PEM there is something that is none"},
		"cut":             {one[:len(one)-10], nil, "after 0 certificates in PEM there is something that is none"},
		"headers":         {block("CERTIFICATE", "one", map[string]string{"A": "b"}), nil, "certificate 0 in PEM has headers, or no bytes"},
		"without a body":  {block("CERTIFICATE", "", nil), nil, "certificate 0 in PEM has headers, or no bytes"},
		"body not base64": {begin + "\n!!!!\n-----END CERTIFICATE-----\n", nil, "after 0 certificates in PEM there is something that is none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := Certificates([]byte(c.text), 2)
			var got []string
			for _, b := range list {
				got = append(got, string(b))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("%v; want %q", err, c.err)
			}
		})
	}
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	one := block("CERTIFICATE", "one", nil)
	if b, err := Certificate([]byte(one)); err != nil || string(b) != "one" {
		t.Errorf("%q, %v", b, err)
	}
	for _, text := range []string{"", one + one} {
		if b, err := Certificate([]byte(text)); err == nil {
			t.Errorf("%q from %q", b, text)
		}
	}
}

// FuzzCertificates has whatever is accepted written anew: it must read as the same.
func FuzzCertificates(f *testing.F) {
	f.Add(block("CERTIFICATE", "one", nil) + block("CERTIFICATE", "two", nil))
	f.Add(begin + "\nAAAA\n" + begin + "\nAAAA\n-----END CERTIFICATE-----")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Certificates([]byte(text), 8)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, b := range list {
			again.WriteString(block("CERTIFICATE", string(b), nil))
		}
		got, err := Certificates([]byte(again.String()), 8)
		if diff := cmp.Diff(list, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		if strings.Count(text, begin) != len(list) {
			t.Errorf("%d certificates in %q", len(list), text)
		}
	})
}
