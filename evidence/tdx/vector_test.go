// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"

	"cofferdam.dev/internal/testcap"
)

func readVector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bodyOf parses the body of a quote of version 4, which follows a header of 48 bytes.
func bodyOf(t *testing.T, name string) *Body {
	t.Helper()
	b, err := ParseBody(readVector(t, name)[48 : 48+BodySize10])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRealEventLogs replays logs of real machines against the registers of quotes, some of which are of other machines.
func TestRealEventLogs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		log, quote string
		events     int
		padding    byte
		differ     []int
		oracle     bool // go-eventlog can read the log: it knows no padding with zeros
	}{
		{"tdx/t6-ccel-google/ccel_data.dat", "tdx/t6-ccel-google/cos-113-tdx-quote.dat", 43, 0xff, nil, true},
		{"tdx/t7-ccel-mismatch/pair-a/tdx_ccel_live.bin", "tdx/t7-ccel-mismatch/pair-a/tdx_quote_live.dat", 20, 0xff, []int{2}, true},
		{"tdx/t7-ccel-mismatch/pair-b/CCEL_data", "tdx/t3-v4-debug-50806f/tdx_quote_4.dat", 5, 0, []int{0, 1}, false},
	} {
		t.Run(c.log, func(t *testing.T) {
			t.Parallel()
			b := readVector(t, c.log)
			l, err := ParseEventLog(b)
			if err != nil {
				t.Fatal(err)
			}
			if len(l.Events) != c.events || l.Padding == 0 || l.PaddingByte != c.padding {
				t.Errorf("%d events, then %d bytes of %#02x", len(l.Events), l.Padding, l.PaddingByte)
			}
			rtmr := bodyOf(t, c.quote).RTMR
			if diff := cmp.Diff(c.differ, l.Mismatches(rtmr)); diff != "" {
				t.Errorf("registers that differ (-want +got):\n%s", diff)
			}
			again, err := l.Marshal()
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("encoding gives other bytes: %v", err)
			}
			if c.oracle {
				compareReplay(t, b, rtmr, c.differ)
				compareReplay(t, b, l.Replay(), nil)
			}
		})
	}
}

// compareReplay asks another implementation about each register on its own.
func compareReplay(t *testing.T, log []byte, rtmr [RTMRCount][48]byte, differ []int) {
	t.Helper()
	var theirs []int
	for i, v := range rtmr {
		bank := register.RTMRBank{RTMRs: []register.RTMR{{Index: i, Digest: v[:]}}}
		_, err := tcg.ParseAndReplay(log, bank.MRs(), tcg.ParseOpts{AllowPadding: true})
		// A register that the log does not mention is an error for them, and one that must be zero for us.
		if err != nil && v != [48]byte{} {
			theirs = append(theirs, i)
		}
	}
	if diff := cmp.Diff(differ, theirs); diff != "" {
		t.Errorf("the oracle finds other registers to differ (-ours +theirs):\n%s", diff)
	}
}

// TestEventData shows which events say what their digests are of: configuration and separators, but no programs.
func TestEventData(t *testing.T) {
	t.Parallel()
	l, err := ParseEventLog(readVector(t, "tdx/t7-ccel-mismatch/pair-a/tdx_ccel_live.bin"))
	if err != nil {
		t.Fatal(err)
	}
	bound := map[string][2]int{}
	for _, e := range l.Events {
		n := bound[e.Type.String()]
		if e.DataBound() {
			n[0]++
		} else {
			n[1]++
		}
		bound[e.Type.String()] = n
	}
	want := map[string][2]int{
		"EV_EFI_ACTION": {3, 0}, "EV_EFI_BOOT_SERVICES_APPLICATION": {0, 1}, "EV_EFI_HANDOFF_TABLES2": {0, 1},
		"EV_EFI_PLATFORM_FIRMWARE_BLOB2": {0, 1}, "EV_EFI_VARIABLE_BOOT": {0, 2}, "EV_EFI_VARIABLE_DRIVER_CONFIG": {5, 0},
		"EV_EVENT_TAG": {0, 2}, "EV_PLATFORM_CONFIG_FLAGS": {0, 3}, "EV_SEPARATOR": {2, 0},
	}
	if diff := cmp.Diff(want, bound); diff != "" {
		t.Errorf("events that are bound and not bound (-want +got):\n%s", diff)
	}
}

// TestRealACPITable parses the table that goes with a log.
func TestRealACPITable(t *testing.T) {
	t.Parallel()
	b := readVector(t, "tdx/t6-ccel-google/ccel_table.dat")
	got, err := ParseACPITable(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&ACPITable{Revision: 1, MinLength: 0x40000, Address: 0xbedbf000}, got); diff != "" {
		t.Error(diff)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := ParseACPITable(bad); err == nil {
			t.Errorf("byte %d changed: no error", i)
		}
		if _, err := ParseACPITable(b[:i]); err == nil {
			t.Errorf("%d bytes: no error", i)
		}
	}
}

// TestRealReport parses the TDREPORT inside Azure's evidence, behind a header of 32 bytes, and compares it with the quote
// that was made of it.
func TestRealReport(t *testing.T) {
	t.Parallel()
	var doc struct {
		Report string `json:"hcl_report"`
		Quote  string `json:"td_quote"`
	}
	if err := json.Unmarshal(readVector(t, "azure-vtpm/tdx/a6/evidence-v1.json"), &doc); err != nil {
		t.Fatal(err)
	}
	hcl, quote := decodeAny(t, doc.Report), decodeAny(t, doc.Quote)
	b := hcl[32 : 32+ReportSize]
	r, err := ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Marshal(), b) {
		t.Error("encoding gives other bytes")
	}
	if err := r.CheckHashes(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(r.Body().Marshal(), quote[48:48+BodySize10]) {
		t.Error("the quote has another body")
	}
	r.TD.RTMR[3][0] ^= 1
	if err := r.CheckHashes(); err == nil {
		t.Error("a changed register passed the digest")
	}
	r.TD.RTMR[3][0] ^= 1
	r.TCBInfo.MRSEAM[0] ^= 1
	if err := r.CheckHashes(); err == nil {
		t.Error("a changed module passed the digest")
	}
}

func decodeAny(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
