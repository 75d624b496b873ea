// SPDX-License-Identifier: Apache-2.0

package devmapper

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func verityTarget() Target {
	return Target{Sectors: 80, Type: "verity", Params: []byte("1 8:0 8:0 4096 4096 10 11 sha256 " +
		strings.Repeat("ab", 32) + " " + strings.Repeat("00", 32))}
}

// TestEncodeGolden compares requests with bytes that were checked by hand against the kernel's dm-ioctl.h.
func TestEncodeGolden(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		flags   uint32
		targets []Target
		space   int
	}{
		{name: "create"},
		{name: "load-verity", flags: flagReadOnly, targets: []Target{verityTarget()}},
		{name: "load-two", flags: flagSecureData, targets: []Target{
			{Sectors: 8, Type: "zero"}, {Start: 8, Sectors: 16, Type: "linear", Params: []byte("8:0 0")},
		}},
		{name: "status", flags: flagStatusTable, space: 64},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			buf, err := encode("layer-m0", tc.flags, tc.targets, tc.space)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tc.name, hex.Dump(buf))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestRequestNumbers holds the numbers that dmsetup passes to ioctl(2) on a 64-bit machine.
func TestRequestNumbers(t *testing.T) {
	t.Parallel()
	want := map[command]uintptr{
		cmdDevCreate: 0xc138fd03, cmdDevRemove: 0xc138fd04, cmdDevSuspend: 0xc138fd06,
		cmdTableLoad: 0xc138fd09, cmdTableStatus: 0xc138fd0c,
	}
	for c, n := range want {
		if got := c.request(); got != n {
			t.Errorf("command %d is request %#x, want %#x", c, got, n)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	good := verityTarget()
	tests := []struct {
		name, device string
		targets      []Target
	}{
		{"empty name", "", nil},
		{"name with a slash", "a/b", nil},
		{"name with upper case", "Layer", nil},
		{"long name", strings.Repeat("a", maxName+1), nil},
		{"no sectors", "a", []Target{{Type: "zero"}}},
		{"range wraps", "a", []Target{{Start: 1<<64 - 1, Sectors: 2, Type: "zero"}}},
		{"no type", "a", []Target{{Sectors: 1}}},
		{"long type", "a", []Target{{Sectors: 1, Type: strings.Repeat("t", maxType+1)}}},
		{"NUL in parameters", "a", []Target{{Sectors: 1, Type: "zero", Params: []byte("a\x00b")}}},
		{"long parameters", "a", []Target{{Sectors: 1, Type: "zero", Params: bytes.Repeat([]byte("a"), maxParams+1)}}},
		{"many targets", "a", make([]Target, maxTargets+1)},
		{"second target is bad", "a", []Target{good, {}}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if _, err := encode(tc.device, 0, tc.targets, 0); err == nil {
				t.Error("the request was encoded")
			}
		})
	}
}

// status builds an answer as the kernel's retrieve_status does.
func status(targets ...Target) []byte {
	ne := binary.NativeEndian
	buf, err := encode("x", flagActivePresent, nil, answerSpace)
	if err != nil {
		panic(err)
	}
	ne.PutUint32(buf[offTargetCount:], uint32(len(targets)))
	ne.PutUint64(buf[offDev:], 0xfd<<8|0x34|0x12<<20)
	at := 0
	for _, t := range targets {
		n := t.encodedSize()
		t.put(buf[headerSize+at:headerSize+at+n], at+n)
		at += n
	}
	return buf
}

func TestDecodeStatus(t *testing.T) {
	t.Parallel()
	want := []Target{{Sectors: 80, Type: "verity", Params: []byte("V")}, {Start: 80, Sectors: 8, Type: "zero", Params: []byte{}}}
	a, err := decode(status(want...))
	if err != nil {
		t.Fatal(err)
	}
	if a.major != 0xfd || a.minor != 0x1234 {
		t.Errorf("device number is %d:%d, want %d:%d", a.major, a.minor, 0xfd, 0x1234)
	}
	got, err := decodeTargets(a)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}

// TestDecodeWithoutData holds the answer of Linux 6.12 to a successful DM_DEV_CREATE: the data size is shrunk to where
// data would begin, which is in the padding of the header.
func TestDecodeWithoutData(t *testing.T) {
	t.Parallel()
	b := status()[:headerSize]
	binary.NativeEndian.PutUint32(b[offDataSize:], answerSize)
	a, err := decode(b)
	if err != nil || a.minor != 0x1234 || len(a.data) != 0 {
		t.Errorf("answer is %+v, %v", a, err)
	}
}

// TestDecodeUnalignedEnd holds what Linux 6.12 answers about one dm-integrity target: the data end with the text, and
// "next" is where another target would begin.
func TestDecodeUnalignedEnd(t *testing.T) {
	t.Parallel()
	want := []Target{{Sectors: 8, Type: "integrity", Params: []byte("0 524288 -")}}
	b := status(want...)
	binary.NativeEndian.PutUint32(b[offDataSize:], headerSize+specSize+uint32(len("0 524288 -"))+1)
	a, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeTargets(a)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("targets (-want +got), %v:\n%s", err, diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	ne := binary.NativeEndian
	tests := []struct {
		name   string
		damage func([]byte) []byte
	}{
		{"short header", func(b []byte) []byte { return b[:headerSize-1] }},
		{"other interface version", func(b []byte) []byte { ne.PutUint32(b[offVersion:], 5); return b }},
		{"data size beyond the buffer", func(b []byte) []byte { ne.PutUint32(b[offDataSize:], 1<<31); return b }},
		{"data size within the header", func(b []byte) []byte { ne.PutUint32(b[offDataSize:], answerSize-1); return b }},
		{"buffer full", func(b []byte) []byte { ne.PutUint32(b[offFlags:], flagBufferFull); return b }},
		{"too many targets", func(b []byte) []byte { ne.PutUint32(b[offTargetCount:], 1<<31); return b }},
		{"data starts behind its end", func(b []byte) []byte { ne.PutUint32(b[offDataStart:], 1<<31); return b }},
		{"data starts in the header", func(b []byte) []byte { ne.PutUint32(b[offDataStart:], 1); return b }},
		{"next goes backwards", func(b []byte) []byte { ne.PutUint32(b[headerSize+20:], 8); return b }},
		{"next is not aligned", func(b []byte) []byte { ne.PutUint32(b[headerSize+20:], specSize+9); return b }},
		{"next leaves the data", func(b []byte) []byte { ne.PutUint32(b[headerSize+20:], 1<<31); return b }},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a, err := decode(tc.damage(status(verityTarget())))
			if err == nil {
				_, err = decodeTargets(a)
			}
			if !errors.Is(err, errAnswer) {
				t.Errorf("error is %v, want one that wraps errAnswer", err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(status())
	f.Add(status(verityTarget(), Target{Start: 80, Sectors: 8, Type: "zero"}))
	f.Fuzz(func(t *testing.T, buf []byte) {
		a, err := decode(buf)
		if err != nil {
			return
		}
		targets, err := decodeTargets(a)
		if err != nil {
			return
		}
		size := 0
		for _, g := range targets {
			if len(g.Type) > maxType+1 {
				t.Fatalf("type %q is too long", g.Type)
			}
			size += specSize + len(g.Params)
		}
		if size > len(buf) {
			t.Fatalf("targets of %d bytes came out of %d", size, len(buf))
		}
	})
}
