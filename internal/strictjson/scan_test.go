// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// oracle reads an object by means of encoding/json.
func oracle(data []byte) (Object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := walk(dec, 0); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	var o Object
	err := json.Unmarshal(data, &o)
	if err == nil && o == nil {
		err = errors.New("it is null")
	}
	return o, err
}

// walk reads one value and refuses repeated keys and deep nesting.
func walk(dec *json.Decoder, depth int) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	if depth >= maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	seen := map[string]bool{}
	for dec.More() {
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, ok := key.(string)
			if !ok || seen[name] {
				return fmt.Errorf("key %q occurs twice", key)
			}
			seen[name] = true
		}
		if err := walk(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token() // the closing delimiter
	return err
}

// agree compares the scanner with encoding/json.
func agree(t interface {
	Helper()
	Errorf(format string, args ...any)
}, text string) {
	t.Helper()
	got, err := Parse([]byte(text))
	want, wantErr := oracle([]byte(text))
	if (err == nil) != (wantErr == nil) {
		t.Errorf("%q: %v, but encoding/json: %v", text, err, wantErr)
		return
	}
	if err != nil {
		return
	}
	if diff := cmp.Diff(texts(want), texts(got)); diff != "" {
		t.Errorf("%q: %s", text, diff)
	}
}

func texts(o Object) map[string]string {
	m := map[string]string{}
	for k, v := range o {
		m[k] = string(v)
	}
	return m
}

var scanSeeds = []string{
	`{}`, ` { } `, `{"a":1}`, `{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`, `{"\u0061":1,"a":2}`, `{"a":"\ud800","\ud801":1}`, `{"\ud800":1,"\ud801":2}`,
	`{"a":[1,-0,0.5,1e9,-1.5E-10,true,false,null,"x",[],{}]}`, `{"a":01}`, `{"a":-}`, `{"a":1.}`, `{"a":.5}`, `{"a":1e}`, `{"a":+1}`, `{"a":tru}`,
	`{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{a:1}`, `{"a":1}}`, `{"a":1} {}`, `[]`, `null`, `"x"`, `1`, ``, `{`, `{"`, `{"a`, `{"a":"\`, `{"a":"\u00`,
	`{"a":"\x"}`, `{"a":"\u00zz"}`, `{"a":"\"\\\/\b\f\n\r\t\u00ff"}`, "{\"a\":\"\n\"}", "{\"a\":\"\xff\"}", "{\"a\":\u00a01}", "\ufeff{}", `{"a":[}`, `{"a":[1,]}`,
	strings.Repeat(`{"a":`, 16) + `1` + strings.Repeat(`}`, 16), strings.Repeat(`{"a":`, 17) + `1` + strings.Repeat(`}`, 17),
	`{"a":` + strings.Repeat(`[`, 15) + strings.Repeat(`]`, 15) + `}`, `{"a":` + strings.Repeat(`[`, 16) + strings.Repeat(`]`, 16) + `}`,
	"{\"a\":\t\r\n 1 ,\n\"b\" : \"\" }", `{"a":nullx}`, `{"a":1 2}`, `{"a":"\u0000"}`, "{\"a\":\x00}", `{"A":1,"a":1}`,
}

func TestScan(t *testing.T) {
	t.Parallel()
	for _, s := range scanSeeds {
		agree(t, s)
	}
	// Texts that are nearly JSON are more telling than any texts.
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SampledFrom([]string{
			"{", "}", "[", "]", ",", ":", `"a"`, `"b"`, `"\u0061"`, `"`, `\`, "1", "-", "0", ".", "e", "+", "true", "null", " ", "\n", "é", "\x80",
		}), 0, 12).Draw(t, "pieces")
		agree(t, strings.Join(pieces, ""))
		agree(t, `{"x":`+strings.Join(pieces, "")+`}`)
	})
}

func FuzzScan(f *testing.F) {
	for _, s := range scanSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { agree(t, text) })
}
