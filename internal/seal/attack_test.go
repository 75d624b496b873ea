// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestOneRoot has many make a root in one place: one of them does, and its file is the one that stays.
func TestOneRoot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root")
	var made atomic.Pointer[Memory]
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			key := NewRootKey()
			d := &document{Schema: fileSchema, Kind: KindPassphrase}
			if err := d.seal(key, key); err != nil {
				t.Error(err)
			}
			switch err := d.create(path); {
			case err == nil:
				m, err := NewMemory(key, "memory")
				if err != nil || !made.CompareAndSwap(nil, m) {
					t.Errorf("a second root was made (%v)", err)
				}
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 || made.Load() == nil {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// TestHostileRoot opens root files that someone wrote to take memory or time, or to be read in two ways.
func TestHostileRoot(t *testing.T) {
	t.Parallel()
	salt := base64.StdEncoding.EncodeToString(make([]byte, saltSize))
	file := func(costs string) string {
		return `{"schema":"` + fileSchema + `","kind":"passphrase","argon2id":{` + costs + `},"sealed":"AAAA"}`
	}
	good := `"time":1,"memoryKiB":64,"threads":1,"salt":"` + salt + `"`
	for name, text := range map[string]string{
		"memory":       file(`"time":1,"memoryKiB":4294967295,"threads":1,"salt":"` + salt + `"`),
		"passes":       file(`"time":4294967295,"memoryKiB":64,"threads":1,"salt":"` + salt + `"`),
		"both":         file(`"time":64,"memoryKiB":1048576,"threads":4,"salt":"` + salt + `"`),
		"no threads":   file(`"time":1,"memoryKiB":64,"threads":0,"salt":"` + salt + `"`),
		"no salt":      file(`"time":1,"memoryKiB":64,"threads":1`),
		"short salt":   file(`"time":1,"memoryKiB":64,"threads":1,"salt":"AAAA"`),
		"little":       file(`"time":1,"memoryKiB":1,"threads":255,"salt":"` + salt + `"`),
		"twice":        file(good + `,` + good),
		"another case": strings.Replace(file(good), `"kind"`, `"Kind":"shares","kind"`, 1) + `{}`,
		"after it":     file(good) + `{}`,
		"large":        file(good) + strings.Repeat(" ", maxFile),
		"another kind": strings.Replace(file(good), "passphrase", "shares", 1),
		"null":         `null`,
		"no costs":     `{"schema":"` + fileSchema + `","kind":"passphrase","sealed":"AAAA"}`,
	} {
		path := filepath.Join(t.TempDir(), "root")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := OpenPassphrase(path, passphrase)
		if err == nil || errors.Is(err, ErrSealed) || time.Since(began) > 20*time.Second {
			t.Errorf("%s: %v, after %s", name, err, time.Since(began))
		}
	}
}

// TestHostileShares gives shares that are not those of the root, or are given again, and never too few that open it.
func TestHostileShares(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root")
	root, shares, err := CreateShares(path, 5, 3)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := mustWrap(t, root)
	u, err := OpenShares(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(shares[0].Expose())
	parts := strings.Split(text, ".")
	with := func(at int, s string) string {
		p := append([]string{}, parts...)
		p[at] = s
		return strings.Join(p, ".")
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[3])
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	for name, bad := range map[string]string{
		"index 0": with(2, "0"), "index 256": with(2, "256"), "index 257": with(2, "257"), "another's index": with(2, "2"), "beyond": with(2, "6"),
		"signed": with(2, "+1"), "negative": with(2, "-1"), "another root": with(1, "00000000"), "nothing": "", "dots": "...",
		"zeroes": with(3, enc(make([]byte, RootKeySize))), "long": with(3, enc(append(bytes.Clone(body), 0))), "short": with(3, enc(body[:31])),
		"changed": with(3, enc(append(bytes.Clone(body[:31]), body[31]^1))), "huge": with(3, strings.Repeat("A", 1<<20)),
	} {
		if missing, err := u.Add(NewSecret([]byte(bad))); !errors.Is(err, ErrShare) || missing != 3 {
			t.Errorf("%s: %d missing, %v", name, missing, err)
		} else if strings.Contains(fmt.Sprint(err), parts[3]) {
			t.Errorf("%s: the error has the share", name)
		}
	}
	// One person alone, as often as it likes.
	for _, again := range []string{text, text, with(2, "01"), " " + text + "\n", with(2, "001")} {
		if missing, err := u.Add(NewSecret([]byte(again))); err != nil || missing != 2 {
			t.Errorf("%d missing, %v", missing, err)
		}
	}
	for _, s := range shares[1:3] {
		if _, err := u.Root(); !errors.Is(err, ErrSealed) {
			t.Errorf("open with too few: %v", err)
		}
		if _, err := u.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	m, err := u.Root()
	if err != nil || !opens(t, m, wrapped) {
		t.Fatalf("not the root: %v", err)
	}
}

// TestFewerNeeded lowers in the file how many shares are needed: what fewer people then make of theirs opens nothing.
func TestFewerNeeded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root")
	_, shares, err := CreateShares(path, 5, 3)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(`"threshold": 3`), []byte(`"threshold": 2`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := OpenShares(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shares[:2] {
		_, err = u.Add(s)
	}
	if _, rootErr := u.Root(); !errors.Is(err, ErrSealed) || !errors.Is(rootErr, ErrSealed) {
		t.Errorf("%v, %v", err, rootErr)
	}
}

// TestHSMOverRoot makes a root where one is: the module is not even asked for a key.
func TestHSMOverRoot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root")
	if err := os.WriteFile(path, []byte("a root"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CreatePKCS11(t.Context(), path, &HSM{Helper: "/nowhere"}); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "a root" {
		t.Errorf("%q, %v", b, err)
	}
}
