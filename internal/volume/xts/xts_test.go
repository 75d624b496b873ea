// SPDX-License-Identifier: Apache-2.0

package xts

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	oracle "golang.org/x/crypto/xts"
	"pgregory.net/rapid"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestNIST holds data units to vectors of NIST's CAVP (XTSGenAES128 and XTSGenAES256, tweaks of 128 bits).
func TestNIST(t *testing.T) {
	t.Parallel()
	for name, v := range map[string][4]string{
		"128/100": {
			"bcb6613c495de4bdad9c19f04e4b3915f9ecb379e1a575b633337e934fca1050", "64981173159d58ac355a20120c8e81f1",
			"189acacee06dfa7c94484c7dae59e166", "7900191d0f19a97668fdba9def84eedc",
		},
		"128/101": {
			"b7b93f516aef295eff3a29d837cf1f135347e8a21dae616ff5062b2e8d78ce5e", "873edea653b643bd8bcf51403197ed14",
			"236f8a5b58dd55f6194ed70c4ac1a17f1fe60ec9a6c454d087ccb77d6b638c47",
			"22e6a3c6379dcf7599b052b5a749c7f78ad8a11b9f1aa9430cf3aef445682e19",
		},
		"128/500": {
			"783a83ec52a27405dff9de4c57f9c979b360b6a5df88d67ec1a052e6f582a717", "886e975b29bdf6f0c01bb47f61f6f0f5",
			"b04d84da856b9a59ce2d626746f689a8051dacd6bce3b990aa901e4030648879",
			"f941039ebab8cac39d59247cbbcb4d816c726daed11577692c55e4ac6d3e6820",
		},
		"256/1": {
			"1ea661c58d943a0e4801e42f4b0947149e7f9f8e3e68d0c7505210bd311a0e7c" +
				"d6e13ffdf2418d8d1911c004cda58da3d619b7e2b9141e58318eea392cf41b08", "adf8d92627464ad2f0428e84a9f87564",
			"2eedea52cd8215e1acc647e810bbc3642e87287f8d2e57e36c0a24fbc12a202e",
			"cbaad0e2f6cea3f50b37f934d46a9b130b9d54f07e34f36af793e86f73c6d7db",
		},
		"256/101": {
			"266c336b3b01489f3267f52835fd92f674374b88b4e1ebd2d36a5f457581d9d0" +
				"42c3eef7b0b7e5137b086496b4d9e6ac658d7196a23f23f036172fdb8faee527", "06b209a7a22f486ecbfadb0f3137ba42",
			"ca7d65ef8d3dfad345b61ccddca1ad81de830b9e86c7b426d76cb7db766852d981c6b21409399d78f42cc0b33a7bbb06",
			"c73256870cc2f4dd57acc74b5456dbd776912a128bc1f77d72cdebbf270044b7a43ceed29025e1e8be211fa3c3ed002d",
		},
	} {
		c, err := New(unhex(t, v[0]))
		if err != nil {
			t.Fatal(err)
		}
		tweak, plain, cipher := unhex(t, v[1]), unhex(t, v[2]), unhex(t, v[3])
		low, high := littleEndian(tweak)
		got := make([]byte, len(plain))
		c.encrypt(new(scratch), got, plain, low, high)
		if !bytes.Equal(got, cipher) {
			t.Errorf("%s: encrypted to %x, want %x", name, got, cipher)
		}
		c.decrypt(new(scratch), got, got, low, high)
		if !bytes.Equal(got, plain) {
			t.Errorf("%s: decrypted to %x, want %x", name, got, plain)
		}
	}
}

func littleEndian(tweak []byte) (low, high uint64) {
	for i := 7; i >= 0; i-- {
		low, high = low<<8|uint64(tweak[i]), high<<8|uint64(tweak[8+i])
	}
	return low, high
}

// TestIEEE holds whole sectors to vectors 4 and 13 of IEEE 1619-2007 annex B, by their first and last blocks.
func TestIEEE(t *testing.T) {
	t.Parallel()
	plain := make([]byte, Unit)
	for i := range plain {
		plain[i] = byte(i)
	}
	for name, v := range map[string]struct {
		key         string
		number      uint64
		first, last string
	}{
		"AES-128": {
			"2718281828459045235360287471352631415926535897932384626433832795", 0,
			"27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c", "eb4a427d1923ce3ff262735779a418f20a282df920147beabe421ee5319d0568",
		},
		"AES-256": {
			"2718281828459045235360287471352662497757247093699959574966967627" +
				"3141592653589793238462643383279502884197169399375105820974944592", 0xffffffff,
			"bf53d2dade78e822a4d949a9bc6766b01b06a8ef70d26748c6a7fc36d80ae4c5", "f6516139420fcff3b7361d86322c4bd84c82f335abb152c4a93411373aaa8220",
		},
	} {
		c, err := New(unhex(t, v.key))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, Unit)
		if err := c.Encrypt(got, plain, Unit, v.number); err != nil {
			t.Fatal(err)
		}
		if first, last := unhex(t, v.first), unhex(t, v.last); !bytes.HasPrefix(got, first) || !bytes.HasSuffix(got, last) {
			t.Errorf("%s: got %x", name, got)
		}
	}
}

// TestAgainstOracle compares with golang.org/x/crypto/xts, in place and beside it, for every size of key and sector.
func TestAgainstOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(r, "key")[:rapid.SampledFrom([]int{32, 64}).Draw(r, "key size")]
		key[0] = key[len(key)/2] + 1 // the halves differ
		size := rapid.SampledFrom([]int{512, 1024, 2048, 4096}).Draw(r, "sector size")
		number := rapid.Uint64().Draw(r, "number")
		plain := rapid.SliceOfN(rapid.Byte(), 3*size, 3*size).Draw(r, "plain")
		sectors := rapid.IntRange(0, 3).Draw(r, "sectors")
		plain = plain[:sectors*size]

		want := make([]byte, len(plain))
		o, err := oracle.NewCipher(aes.NewCipher, key)
		if err != nil {
			r.Fatal(err)
		}
		for i := range sectors {
			o.Encrypt(want[i*size:(i+1)*size], plain[i*size:(i+1)*size], number+uint64(i*size/Unit))
		}
		c, err := New(key)
		if err != nil {
			r.Fatal(err)
		}
		beside, inPlace := make([]byte, len(plain)), bytes.Clone(plain)
		if err := errors.Join(c.Encrypt(beside, plain, size, number), c.Encrypt(inPlace, inPlace, size, number)); err != nil {
			r.Fatal(err)
		}
		if !bytes.Equal(beside, want) || !bytes.Equal(inPlace, want) {
			r.Fatal("encrypted differently")
		}
		if err := errors.Join(c.Decrypt(beside, want, size, number), c.Decrypt(inPlace, inPlace, size, number)); err != nil {
			r.Fatal(err)
		}
		if !bytes.Equal(beside, plain) || !bytes.Equal(inPlace, plain) {
			r.Fatal("decrypted differently")
		}
	})
}

func TestRefused(t *testing.T) {
	t.Parallel()
	differ := make([]byte, 65)
	differ[0] = 1
	for name, key := range map[string][]byte{
		"none": nil, "16 bytes": differ[:16], "48 bytes": differ[:48], "65 bytes": differ, "zeros": make([]byte, 64), "equal halves": bytes.Repeat([]byte{7}, 32),
	} {
		if _, err := New(key); !errors.Is(err, ErrKey) {
			t.Errorf("key of %s: error is %v", name, err)
		}
	}
	c, err := New(differ[:64])
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct{ dst, src, sector int }{
		{512, 512, 0}, {512, 512, -512}, {16, 16, 16}, {8192, 8192, 8192}, {511, 511, 512}, {512, 1024, 512}, {1024, 512, 512}, {512, 512, 1024}, {768, 768, 768},
	} {
		dst := make([]byte, s.dst)
		src := bytes.Repeat([]byte{1}, s.src)
		errs := []error{c.Encrypt(dst, src, s.sector, 0), c.Decrypt(dst, src, s.sector, 0)}
		if errs[0] == nil || errs[1] == nil || !bytes.Equal(dst, make([]byte, s.dst)) {
			t.Errorf("%+v: %v", s, errs)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	key := make([]byte, 64)
	key[0] = 1
	c, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256*Unit)
	// The pool may give its content back at any garbage collection, so that a few allocations are allowed for 256 sectors.
	if n := testing.AllocsPerRun(20, func() { _ = c.Decrypt(buf, buf, Unit, 0) }); n > 8 {
		t.Errorf("%v allocations for 256 sectors", n)
	}
}

// BenchmarkSector is to be read as a ratio between ours and the library's.
func BenchmarkSector(b *testing.B) {
	key := make([]byte, 64)
	key[0] = 1
	ours, err := New(key)
	if err != nil {
		b.Fatal(err)
	}
	theirs, err := oracle.NewCipher(aes.NewCipher, key)
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{512, 4096} {
		buf := make([]byte, size)
		for name, f := range map[string]func(){
			"encrypt/ours":     func() { _ = ours.Encrypt(buf, buf, size, 1) },
			"decrypt/ours":     func() { _ = ours.Decrypt(buf, buf, size, 1) },
			"encrypt/x-crypto": func() { theirs.Encrypt(buf, buf, 1) },
			"decrypt/x-crypto": func() { theirs.Decrypt(buf, buf, 1) },
		} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					f()
				}
			})
		}
	}
}
