// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	t.Parallel()
	const plain = `{"name": "a?b>c"}`
	std, raw := base64.StdEncoding.EncodeToString([]byte(plain)), base64.RawURLEncoding.EncodeToString([]byte(plain))
	for name, c := range map[string]struct{ text, refusal string }{
		"the JSON":          {" " + plain + "\n", ""},
		"base64":            {std, ""},
		"base64url":         {raw, ""},
		"base64 in lines":   {std[:8] + "\n" + std[8:] + "\n", ""},
		"nothing":           {" \n", "empty"},
		"noise":             {"%%%", "neither JSON nor base64"},
		"too much padding":  {std + "===", "neither JSON nor base64"},
		"too much":          {`{"name": "` + strings.Repeat("a", 64) + `"}`, "more than 64 bytes"},
		"too much, encoded": {base64.StdEncoding.EncodeToString([]byte(`{"name": "` + strings.Repeat("a", 64) + `"}`)), "more than 64 bytes"},
		"an unknown member": {`{"nome": "a"}`, "nome"},
		"a member twice":    {`{"name": "a", "name": "b"}`, "twice"},
		"something behind":  {plain + "{}", "follows"},
		"no object":         {base64.StdEncoding.EncodeToString([]byte(`["name"]`)), "no object"},
		"another type":      {`{"name": 1}`, "number"},
	} {
		v := struct {
			Name string `json:"name"`
		}{}
		err := Read(c.text, 64, &v)
		if c.refusal == "" && (err != nil || v.Name != "a?b>c") || c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal)) {
			t.Errorf("%s: read %q, %v", name, v.Name, err)
		}
	}
}

func TestBase64(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"-_8=", "-_8", "+/8=", "+/8"} {
		if b, err := Base64(s); err != nil || string(b) != "\xfb\xff" {
			t.Errorf("%q is %x, %v", s, b, err)
		}
	}
	for _, s := range []string{"+_8=", "-_9", "-_8===", "-_8=\n", "-\n_8=", "%"} {
		if b, err := Base64(s); err == nil {
			t.Errorf("%q is %x", s, b)
		}
	}
}
