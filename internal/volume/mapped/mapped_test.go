// SPDX-License-Identifier: Apache-2.0

package mapped

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// sequence is n bytes from first on.
func sequence(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// TestTables compares what the kernel is told with tables that were written by hand, as the kernel's documentation
// (admin-guide/device-mapper/{dm-crypt,verity}.rst) and the format's specification have them.
func TestTables(t *testing.T) {
	t.Parallel()
	key := "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	long := key + "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
	salt := "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
	root := "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
	for name, c := range map[string]struct {
		plan func() (*Plan, error)
		want []string
	}{
		"LUKS2": {
			func() (*Plan, error) { return LUKS2(sequence(0, 64), 16<<20, 1<<20, 4096) },
			[]string{"0 2048 crypt aes-xts-plain64 " + long + " 0 7:3 32768 1 sector_size:4096"},
		},
		"LUKS2 with a short key and small sectors": {
			func() (*Plan, error) { return LUKS2(sequence(0, 32), 1<<20, 512, 512) },
			[]string{"0 1 crypt aes-xts-plain64 " + key + " 0 7:3 2048 1 sector_size:512"},
		},
		"sealed": {
			func() (*Plan, error) {
				return Sealed(sequence(0, 64), sequence(0xa0, 32), sequence(0x40, 32), 10*4096, 12*4096)
			},
			[]string{
				"0 96 crypt aes-xts-plain64 " + long + " 0 7:3 0 1 sector_size:4096",
				"0 80 verity 1 7:3 7:3 4096 4096 10 11 sha256 " + root + " " + salt,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := c.plan()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range p.layers {
				got = append(got, fmt.Sprintf("0 %d %s %s", l.sectors, l.kind, l.params("7:3")))
			}
			if g, w := strings.Join(got, "\n"), strings.Join(c.want, "\n"); g != w {
				t.Errorf("the kernel is told\n%s\nwant\n%s", g, w)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	key, d := sequence(0, 64), sequence(0, 32)
	for name, f := range map[string]func() (*Plan, error){
		"no key":                func() (*Plan, error) { return LUKS2(nil, 0, 4096, 4096) },
		"another key size":      func() (*Plan, error) { return LUKS2(key[:48], 0, 4096, 4096) },
		"no data":               func() (*Plan, error) { return LUKS2(key, 0, 0, 4096) },
		"a part of a sector":    func() (*Plan, error) { return LUKS2(key, 0, 4096+512, 4096) },
		"no sector size":        func() (*Plan, error) { return LUKS2(key, 0, 4096, 0) },
		"a strange sector size": func() (*Plan, error) { return LUKS2(key, 0, 3*4096, 1536) },
		"large sectors":         func() (*Plan, error) { return LUKS2(key, 0, 8192, 8192) },
		"an odd offset":         func() (*Plan, error) { return LUKS2(key, 100, 4096, 4096) },
		"before the image":      func() (*Plan, error) { return LUKS2(key, -512, 4096, 4096) },
		"no root":               func() (*Plan, error) { return Sealed(key, d, nil, 8192, 4*4096) },
		"no salt":               func() (*Plan, error) { return Sealed(key, nil, d, 8192, 4*4096) },
		"a short data key":      func() (*Plan, error) { return Sealed(d, d, d, 8192, 4*4096) },
		"no tree":               func() (*Plan, error) { return Sealed(key, d, d, 8192, 8192) },
		"a part of a block":     func() (*Plan, error) { return Sealed(key, d, d, 8192+512, 4*4096) },
		"a part of the image":   func() (*Plan, error) { return Sealed(key, d, d, 8192, 4*4096+512) },
	} {
		if p, err := f(); !errors.Is(err, ErrFacts) || p != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

// A plan keeps its keys to itself, and then not even that.
func TestSecrets(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte("secretly"), 8)
	p, err := LUKS2(key, 0, 4096, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(p), fmt.Sprintf("%+v", p), fmt.Sprintf("%#v", p), p.String()} {
		if text != redacted {
			t.Errorf("it shows itself as %s", text)
		}
	}
	kept := p.layers[0].secret
	p.Destroy()
	if !bytes.Equal(kept, make([]byte, len(kept))) || !bytes.Equal(key, bytes.Repeat([]byte("secretly"), 8)) {
		t.Error("its copy of the key is left, or the caller's is gone")
	}
	for _, p := range []*Plan{nil, {}, p} {
		if d, err := Open(t.Context(), p, "7:0", false); !errors.Is(err, ErrFacts) {
			t.Errorf("a plan of nothing was carried out: %v, %v", d, err)
		}
		p.Destroy()
	}
}

// Where there is no device-mapper nothing is left of the attempt, and where there is one nothing of a plan that fails.
func TestNotHere(t *testing.T) {
	t.Parallel()
	_, before := os.Stat(control)
	here := opens()
	p, err := Sealed(sequence(0, 64), sequence(0, 32), sequence(0, 32), 8192, 4*4096)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), p, "0:0", false)
	if err == nil {
		t.Errorf("a volume on no device was opened: %s", d.Path())
	}
	if opens() {
		return // it is the one that there was, or it was only missing here
	}
	if here {
		t.Error("the control device is gone")
	}
	// Tests of other packages make it as well, and take it away.
	for deadline := time.Now().Add(10 * time.Second); before != nil; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(control); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a control device that leads to nothing is left")
		}
	}
}

// opens says whether there is a device-mapper that this process may use.
func opens() bool {
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	return err == nil && f.Close() == nil
}
