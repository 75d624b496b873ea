// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/cbor"
	"cofferdam.dev/internal/testledger"
)

func TestParseKeys(t *testing.T) {
	t.Parallel()
	const older, newer = "23d48c280f71abf575c81e89f18a4dc9f3b33d8a3b149b16ad836c8553f95bc0", "da7694f16def5a056ca96afb21e89a9450e4cc875e2de351da76d99544a3e849"
	for name, want := range map[string][]string{
		"uvm/esrp_db_ledger_pub_keys.json": {older, newer}, "ledger/scitt/esrp-cts-db.json": {older, newer},
	} {
		keys := keysOf(t, vector(t, name))
		if !slices.Equal(keys.IDs(), want) {
			t.Errorf("%s: %v", name, keys.IDs())
		}
	}
	pem := append(vector(t, "ledger/acl/service_certificate_1.pem"), vector(t, "ledger/acl/service_certificate_2.pem")...)
	if keys := keysOf(t, pem); len(keys) != 2 {
		t.Errorf("certificates in PEM: %v", keys.IDs())
	}
}

func TestParseKeysRefusals(t *testing.T) {
	t.Parallel()
	l := testledger.New(t, "ledger")
	data, err := l.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	x := good[strings.Index(good, `"x":"`)+5:][:64]
	for name, c := range map[string]struct{ data, want string }{
		"nothing":     {"", "there is none"},
		"no keys":     {`{"keys":[]}`, "there is none"},
		"too large":   {strings.Repeat(" ", MaxKeysSize+1), "at most"},
		"no JSON":     {"{", "unexpected end"},
		"other type":  {strings.Replace(good, `"EC"`, `"RSA"`, 1), `type is "RSA"`},
		"other curve": {strings.Replace(good, "P-384", "P-521", 1), "curve is"},
		"wrong curve": {strings.Replace(good, "P-384", "P-256", 1), "coordinates have 48"},
		"other name":  {strings.Replace(good, l.KeyID(), strings.Repeat("0", 64), 1), "its SHA-256 is " + l.KeyID()},
		"no point":    {strings.Replace(good, x, strings.Repeat("A", 64), 1), "coordinates"},
		"no base64":   {strings.Replace(good, x, "!", 1), "x: "},
		"both forms":  {strings.Replace(good, `{`, `{"parameters":[{}],`, 1), "at once"},
		"no DER":      {`{"parameters":[{"serviceCertificate":"MAA="}]}`, "service certificate 0"},
		"private key": {"-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n", `"EC PRIVATE KEY"`},
	} {
		_, err := ParseKeys([]byte(c.data))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
}

func TestKeysFromCOSE(t *testing.T) {
	t.Parallel()
	l := testledger.New(t, "ledger")
	keys := ledgerKeys(t, l)
	b, err := keys.AppendCOSE(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(l.KeyID())
	if err != nil {
		t.Fatal(err)
	}
	text := string(cbor.AppendBytes(nil, []byte(l.KeyID())))
	for name, c := range map[string]struct{ data, want string }{
		"as written":       {string(b), ""},
		"named by bytes":   {strings.Replace(string(b), text, string(cbor.AppendBytes(nil, raw)), 1), ""},
		"other name":       {strings.Replace(string(b), text, string(cbor.AppendBytes(nil, []byte("key"))), 1), `named "key"`},
		"no set":           {"\xa0", "want an array"},
		"empty":            {"\x80", "no key"},
		"unknown keys":     {"\x82\x00\xa1\x01\x01", "no key"},
		"unknown and good": {"\x82\x00" + string(b[1:]), ""},
		"short":            {strings.Replace(string(b), "\x21\x58\x30", "\x24\x58\x30", 1), "coordinates"},
	} {
		it, err := cbor.Decode([]byte(c.data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := KeysFromCOSE(it)
		if c.want == "" && (err != nil || !slices.Equal(got.IDs(), keys.IDs())) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, %v; want %q", name, got.IDs(), err, c.want)
		}
	}
}
