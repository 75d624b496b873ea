// SPDX-License-Identifier: Apache-2.0

package pcs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/testcap"
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	dir, file := filepath.Split(name)
	b, err := os.ReadFile(filepath.Join(testcap.Vectors(t, filepath.Clean(dir)), file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// embedded takes a document out of the collateral files that keep its parts apart.
func embedded(t testing.TB, name, member string) []byte {
	t.Helper()
	var parts map[string]string
	if err := json.Unmarshal(load(t, name), &parts); err != nil {
		t.Fatal(err)
	}
	outer := map[string]string{"tcb_info": "tcbInfo", "qe_identity": "enclaveIdentity"}[member]
	return fmt.Appendf(nil, `{"%s":%s,"signature":"%s"}`, outer, parts[member], parts[member+"_signature"])
}

// signer is the key that signs all documents of the vectors.
func signer(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	block, _ := pem.Decode(load(t, "tdx/t3-v4-debug-50806f/collateral/tcb_signing_chain.pem"))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert.PublicKey.(*ecdsa.PublicKey)
}

func verifies(key *ecdsa.PublicKey, s Signed) bool {
	sum := sha256.Sum256(s.Body)
	return ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(s.Signature[:32]), new(big.Int).SetBytes(s.Signature[32:]))
}

func TestTCBInfo(t *testing.T) {
	t.Parallel()
	key := signer(t)
	for _, c := range []struct {
		name    string
		doc     []byte
		id      string
		fmspc   [6]byte
		number  uint32
		levels  int
		modules int
		first   Status
	}{
		{"t1", embedded(t, "tdx/t1-v4-b0c06f/collateral.json", "tcb_info"), IDTDX, [6]byte{0xb0, 0xc0, 0x6f}, 17, 2, 2, UpToDate},
		{"t3", load(t, "tdx/t3-v4-debug-50806f/collateral/tcb_info_50806f000000.json"), IDTDX, [6]byte{0x50, 0x80, 0x6f}, 18, 5, 2, UpToDate},
		{"t5 of 2023", load(t, "tdx/t5-google/sample_tcbInfo_response.json"), IDTDX, [6]byte{0x50, 0x80, 0x6f}, 15, 2, 0, UpToDate},
		{"t5 of 2026", load(t, "tdx/t5-google/sample_tcbinfo_response_v5.json"), IDTDX, [6]byte{0x90, 0xc0, 0x6f}, 18, 3, 2, UpToDate},
		{"g1", embedded(t, "sgx/g1-v3-00a067/collateral.json", "tcb_info"), IDSGX, [6]byte{0, 0xa0, 0x67, 0x11}, 17, 11, 0, SWHardeningNeeded},
		{"g3", load(t, "sgx/g3-oasis/tcb_info_v3_fmspc_00606A000000.json"), IDSGX, [6]byte{0, 0x60, 0x6a}, 13, 5, 0, SWHardeningNeeded},
		{"g3 TDX of 2024", load(t, "sgx/g3-oasis/tcb_info_v3_tdx_fmspc_C0806F000000.json"), IDTDX, [6]byte{0xc0, 0x80, 0x6f}, 17, 4, 2, UpToDate},
		{"g3 TDX of 2023", load(t, "sgx/g3-oasis/tcb_info_v3_tdx_fmspc_50806F000000.json"), IDTDX, [6]byte{0x50, 0x80, 0x6f}, 15, 2, 0, UpToDate},
		{"g4, version 2", openEnclave(t, "tcbInfo"), IDSGX, [6]byte{0, 0x90, 0x6e, 0xd5}, 12, 13, 0, SWHardeningNeeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			info, err := ParseTCBInfo(c.doc)
			if err != nil {
				t.Fatal(err)
			}
			got := []any{info.ID, info.FMSPC, info.PCEID, info.EvaluationNumber, len(info.Levels), len(info.ModuleIdentities), info.Levels[0].Status}
			want := []any{c.id, c.fmspc, [2]byte{}, c.number, c.levels, c.modules, c.first}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("differs (-want +got):\n%s", d)
			}
			if !verifies(key, info.Signed) {
				t.Error("the signature over the kept bytes does not verify")
			}
			if (info.Module != nil) != (c.id == IDTDX) || info.NextUpdate.Sub(info.IssueDate) != 30*24*time.Hour {
				t.Errorf("module %v, issued %s, next update %s", info.Module, info.IssueDate, info.NextUpdate)
			}
		})
	}
}

// openEnclave finds a document in the file of Open Enclave, whose framing is no business of ours.
func openEnclave(t testing.TB, member string) []byte {
	t.Helper()
	doc := regexp.MustCompile(`(?s)\{"` + member + `".*?"signature":"[0-9a-f]*"\}`).Find(load(t, "sgx/g4-openenclave/endorsements"))
	if doc == nil {
		t.Fatalf("no %s in the file", member)
	}
	return doc
}

func TestTCBInfoValues(t *testing.T) {
	t.Parallel()
	info, err := ParseTCBInfo(load(t, "tdx/t3-v4-debug-50806f/collateral/tcb_info_50806f000000.json"))
	if err != nil {
		t.Fatal(err)
	}
	last := info.Levels[len(info.Levels)-1]
	if last.Status != OutOfDate || len(last.Advisories) == 0 || last.PCESVN != 5 || last.TDX == ([16]uint8{}) || last.SGX == ([16]uint8{}) {
		t.Errorf("last level is %+v", last)
	}
	if m := info.ModuleIdentities[0]; m.ID != "TDX_03" || m.AttributesMask != ([8]byte{255, 255, 255, 255, 255, 255, 255, 255}) || len(m.Levels) == 0 {
		t.Errorf("first module is %+v", m)
	}
}

func TestQEIdentity(t *testing.T) {
	t.Parallel()
	key := signer(t)
	for _, c := range []struct {
		name   string
		doc    []byte
		id     string
		prodID uint16
		svn    uint16
		number uint32
	}{
		{"t1", embedded(t, "tdx/t1-v4-b0c06f/collateral.json", "qe_identity"), IDTDQE, 2, 4, 17},
		{"t3", load(t, "tdx/t3-v4-debug-50806f/collateral/td_qe_identity.json"), IDTDQE, 2, 4, 18},
		{"t5", load(t, "tdx/t5-google/sample_qeIdentity_response.json"), IDTDQE, 2, 4, 15},
		{"g1", embedded(t, "sgx/g1-v3-00a067/collateral.json", "qe_identity"), IDQE, 1, 8, 17},
		{"g3", load(t, "sgx/g3-oasis/qe_identity_v2.json"), IDQE, 1, 6, 13},
		{"g3 TDX", load(t, "sgx/g3-oasis/qe_identity_v2_tdx.json"), IDTDQE, 2, 4, 15},
		{"g3 TDX of 2024", load(t, "sgx/g3-oasis/qe_identity_v2_tdx2.json"), IDTDQE, 2, 4, 17},
		{"g4", openEnclave(t, "enclaveIdentity"), IDQE, 1, 6, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q, err := ParseQEIdentity(c.doc)
			if err != nil {
				t.Fatal(err)
			}
			got := []any{q.ID, q.ISVProdID, q.Levels[0].ISVSVN, q.Levels[0].Status, q.EvaluationNumber}
			if d := cmp.Diff([]any{c.id, c.prodID, c.svn, UpToDate, c.number}, got); d != "" {
				t.Errorf("differs (-want +got):\n%s", d)
			}
			if !verifies(key, q.Signed) {
				t.Error("the signature over the kept bytes does not verify")
			}
		})
	}
}

// TestIncompleteQEIdentities reads documents in which one member lost its name or is left out.
func TestIncompleteQEIdentities(t *testing.T) {
	t.Parallel()
	const dir = "sgx/g4-qe-identity-fields/"
	q, err := ParseQEIdentity(load(t, dir+"qe_identity_ok.json"))
	if err != nil {
		t.Fatal(err)
	}
	if q.Version != 1 || q.ISVProdID != 1 || q.EvaluationNumber != 0 || len(q.Levels) != 1 || q.Levels[0].Status != "" {
		t.Errorf("identity of version 1 is %+v", q)
	}
	for _, field := range []string{
		"attributes", "attributesMask", "issueDate", "isvprodid", "isvsvn", "miscselect", "miscselectMask", "mrsigner", "nextUpdate",
		"qeIdentity", "signature", "version",
	} {
		_, err := ParseQEIdentity(load(t, dir+"qe_identity_missing_"+strings.ToLower(field)+".json"))
		if err == nil {
			t.Errorf("%s: accepted without it", field)
			continue
		}
		named := regexp.MustCompile(`\b[A-Za-z]*\b`).FindAllString(err.Error(), -1)
		if !bytes.Contains([]byte(" "+strings.Join(named, " ")+" "), []byte(" "+field+" ")) {
			t.Errorf("%s is not named by: %v", field, err)
		}
		for _, other := range []string{"mrsigner", "isvprodid", "nextUpdate"} {
			if other != field && strings.Contains(err.Error(), other) {
				t.Errorf("%s: the error names %s, which is there: %v", field, other, err)
			}
		}
	}
}
