// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// page is one page of a test enclave.
type enclavePage struct {
	offset   uint64
	flags    EnclaveFlags
	content  []byte
	measured bool
}

// smallEnclave has code, a thread control structure and a stack whose content is not measured.
func smallEnclave() []enclavePage {
	code := make([]byte, pageSize)
	for i := range code {
		code[i] = byte(i * 7)
	}
	return []enclavePage{
		{0, EnclaveRegular | EnclaveRead | EnclaveExecute, code, true},
		{0x1000, EnclaveTCS, make([]byte, pageSize), true},
		{0x2000, EnclaveRegular | EnclaveRead | EnclaveWrite, nil, false},
	}
}

func enclave(t *testing.T, ssaFrame uint32, size uint64, pages []enclavePage) [32]byte {
	t.Helper()
	e, err := NewEnclave(ssaFrame, size)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if err := e.Add(p.offset, p.flags, p.content, p.measured); err != nil {
			t.Fatal(err)
		}
	}
	return e.MRENCLAVE()
}

// TestMRENCLAVEGolden holds a digest that another program computed, in another language, straight from the SDM's
// pseudo-code: the SHA-256 of the packed records "<8sIQ44x", "<8sQQ40x" and "<8sQ48x" with the chunks.
func TestMRENCLAVEGolden(t *testing.T) {
	t.Parallel()
	got := enclave(t, 1, 0x8000, smallEnclave())
	const want = "370a8bd78703fa369145fd33df53878335d95fea2467ad989d92351c49effb4d"
	if hex.EncodeToString(got[:]) != want {
		t.Errorf("MRENCLAVE is %x, not %s", got, want)
	}
}

func TestWhatChangesMRENCLAVE(t *testing.T) {
	t.Parallel()
	base := enclave(t, 1, 0x8000, smallEnclave())
	with := func(change func(p []enclavePage) []enclavePage) [32]byte {
		return enclave(t, 1, 0x8000, change(smallEnclave()))
	}
	seen := map[[32]byte]string{base: "base"}
	for name, got := range map[string][32]byte{
		"larger":         enclave(t, 1, 0x10000, smallEnclave()),
		"larger frames":  enclave(t, 2, 0x8000, smallEnclave()),
		"a byte of code": with(func(p []enclavePage) []enclavePage { p[0].content[4095]++; return p }),
		"permissions":    with(func(p []enclavePage) []enclavePage { p[2].flags |= EnclaveExecute; return p }),
		"type":           with(func(p []enclavePage) []enclavePage { p[1].flags = EnclaveRegular; return p }),
		"offset":         with(func(p []enclavePage) []enclavePage { p[2].offset += pageSize; return p }),
		"order":          with(func(p []enclavePage) []enclavePage { p[0], p[1] = p[1], p[0]; return p }),
		"a page more": with(func(p []enclavePage) []enclavePage {
			return append(p, enclavePage{offset: 0x3000, flags: EnclaveRegular})
		}),
		"a page less":     with(func(p []enclavePage) []enclavePage { return p[:2] }),
		"code unmeasured": with(func(p []enclavePage) []enclavePage { p[0].measured = false; return p }),
		"stack is measured": with(func(p []enclavePage) []enclavePage {
			p[2].content, p[2].measured = make([]byte, pageSize), true
			return p
		}),
	} {
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s have the same measurement", name, other)
		}
		seen[got] = name
	}
	filled := with(func(p []enclavePage) []enclavePage { p[2].content = bytes.Repeat([]byte{9}, pageSize); return p })
	if filled != base {
		t.Error("content that is not measured changes the measurement")
	}
}

func TestEnclavesThatCanNotBe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		frame uint32
		size  uint64
	}{
		"no size": {1, 0}, "one page": {1, pageSize}, "no power of two": {1, 0x3000}, "no frame": {0, 0x8000}, "huge frame": {9, 0x8000},
	} {
		if _, err := NewEnclave(c.frame, c.size); err == nil {
			t.Errorf("%s: begun", name)
		}
	}
	page := make([]byte, pageSize)
	for name, p := range map[string]enclavePage{
		"not aligned":             {8, EnclaveRegular, page, true},
		"outside":                 {0x8000, EnclaveRegular, page, true},
		"twice":                   {0x7000, EnclaveRegular, page, true},
		"no type":                 {0, EnclaveRead, page, true},
		"SECS":                    {0, 1 << 3, page, true},
		"TCS that can be written": {0, EnclaveTCS | EnclaveRead | EnclaveWrite, page, true},
		"written but not read":    {0, EnclaveRegular | EnclaveWrite, page, true},
		"short":                   {0, EnclaveRegular, page[:100], true},
		"short and not measured":  {0, EnclaveRegular, page[:100], false},
		"measured but missing":    {0, EnclaveRegular, nil, true},
		"unknown flag":            {0, EnclaveRegular | 1<<20, page, true},
	} {
		e, err := NewEnclave(1, 0x8000)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Add(0x7000, EnclaveRegular, page, true); err != nil {
			t.Fatal(err)
		}
		before := e.MRENCLAVE()
		if err := e.Add(p.offset, p.flags, p.content, p.measured); err == nil || e.MRENCLAVE() != before {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
