// SPDX-License-Identifier: Apache-2.0

package pcs

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestMissingMembers leaves out every member of real documents, one at a time and at every depth.
func TestMissingMembers(t *testing.T) {
	t.Parallel()
	optional := map[string]bool{"advisoryIDs": true, "tdxModuleIdentities": true, "category": true, "type": true}
	for name, c := range map[string]struct {
		doc   []byte
		parse func([]byte) error
	}{
		"TCB info":            {load(t, "tdx/t3-v4-debug-50806f/collateral/tcb_info_50806f000000.json"), parseInfo},
		"TCB info, version 2": {openEnclave(t, "tcbInfo"), parseInfo},
		"QE identity":         {load(t, "sgx/g3-oasis/qe_identity_v2.json"), parseIdentity},
	} {
		var tree any
		if err := json.Unmarshal(c.doc, &tree); err != nil {
			t.Fatal(err)
		}
		n := 0
		visit(tree, func(o map[string]any, member string) {
			n++
			kept := o[member]
			delete(o, member)
			b, err := json.Marshal(tree)
			o[member] = kept
			if err != nil {
				t.Fatal(err)
			}
			err = c.parse(b)
			switch {
			case optional[member] && err != nil:
				t.Errorf("%s: refused without %s: %v", name, member, err)
			case !optional[member] && (err == nil || !strings.Contains(err.Error(), member+" ")):
				t.Errorf("%s: without %s: %v", name, member, err)
			}
		})
		if n < 15 {
			t.Errorf("%s: only %d members were left out", name, n)
		}
	}
}

func parseInfo(b []byte) error     { _, err := ParseTCBInfo(b); return err }
func parseIdentity(b []byte) error { _, err := ParseQEIdentity(b); return err }

// visit calls f for the members of all objects in a tree; of a list, only the first element is visited.
func visit(tree any, f func(o map[string]any, member string)) {
	switch v := tree.(type) {
	case map[string]any:
		for name := range v {
			f(v, name)
			visit(v[name], f)
		}
	case []any:
		if len(v) > 0 {
			visit(v[0], f)
		}
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	info := string(load(t, "sgx/g3-oasis/tcb_info_v3_fmspc_00606A000000.json"))
	tdx := string(load(t, "sgx/g3-oasis/tcb_info_v3_tdx_fmspc_50806F000000.json"))
	identity := string(load(t, "sgx/g3-oasis/qe_identity_v2.json"))
	for _, c := range []struct{ name, doc, from, to, want string }{
		{"nothing", "", "", "", "no JSON object"},
		{"array", "[]", "", "", "begins with ["},
		{"number", "7", "", "", "begins with 7"},
		{"empty object", "{}", "", "", "missing"},
		{"trailing text", info, "", "x", "follows"},
		{"second object", info, "", "{}", "follows"},
		{"signature twice", info, `"signature":`, `"signature":"","signature":`, "occurs twice"},
		{"unsigned member", info, `"signature":`, `"more":1,"signature":`, "nothing vouches for others"},
		{"QE identity beside an older one", identity, `"signature":`, `"qeIdentity":{"version":1},"signature":`, "nothing vouches for others"},
		{"level's status twice", info, `"tcbStatus":`, `"tcbStatus":"UpToDate","tcbStatus":`, "tcbInfo.tcbLevels[0] is no JSON object: member \"tcbStatus\" occurs twice"},
		{"name in another case", info, `"fmspc"`, `"FMSPC"`, "tcbInfo.fmspc is missing"},
		{"null", info, `"fmspc":"00606A000000"`, `"fmspc":null`, "tcbInfo.fmspc is no string"},
		{"short FMSPC", info, "00606A000000", "00606A0000", "has 10 characters, not 12"},
		{"FMSPC not hexadecimal", info, "00606A000000", "00606X000000", "not hexadecimal"},
		{"short signature", info, `"signature":"00`, `"signature":"`, "signature has 126 characters, not 128"},
		{"signature in capitals", info, `"signature":"00ebb`, `"signature":"00EBB`, "lower-case"},
		{"unknown status", info, `"SWHardeningNeeded"`, `"swHardeningNeeded"`, "no known status"},
		{"version 4", info, `"version":3`, `"version":4`, "tcbInfo.version is 4, not 2 or 3"},
		{"version as text", info, `"version":3`, `"version":"3"`, "tcbInfo.version"},
		{"other platform kind", info, `"id":"SGX"`, `"id":"SNP"`, "tcbInfo.id is"},
		{"TDX without its components", info, `"id":"SGX"`, `"id":"TDX"`, "tdxtcbcomponents is missing"},
		{"other TCB type", info, `"tcbType":0`, `"tcbType":1`, "tcbType is not 0"},
		{"SVN of 256", info, `"svn":7`, `"svn":256`, "svn is \"256\", not a number from 0 to 255"},
		{"negative SVN", info, `"svn":7`, `"svn":-7`, "svn is"},
		{"fraction", info, `"pcesvn":13`, `"pcesvn":13.0`, "pcesvn is"},
		{"exponent", info, `"pcesvn":13`, `"pcesvn":1e1`, "pcesvn is"},
		{"fifteen components", info, `,{"svn":0}],"pcesvn":13`, `],"pcesvn":13`, "has 15 components, not 16"},
		{"seventeen components", info, `,{"svn":0}],"pcesvn":13`, `,{"svn":0},{"svn":0}],"pcesvn":13`, "has 17 elements, more than 16"},
		{"levels as object", info, `"tcbLevels":[`, `"tcbLevels":{"":[`, "no JSON object"},
		{"local time", info, "2022-12-19T09:40:10Z", "2022-12-19T09:40:10+01:00", "tcbInfo.issueDate is"},
		{"no time", info, "2022-12-19T09:40:10Z", "yesterday", "tcbInfo.issueDate is"},
		{"update before issue", info, "2023-01-18T09:40:10Z", "2022-12-19T09:40:10Z", "tcbInfo.nextUpdate is not after"},
		{"advisory that is no text", info, `["INTEL-SA-00615"`, `[615`, "advisoryIDs[0] is no string"},
		{"module of other size", tdx, `"attributes":"0000000000000000"`, `"attributes":"00"`, "tcbInfo.tdxModule.attributes has 2"},
		{"QE of version 3", identity, `"version":2`, `"version":3`, "enclaveIdentity.version is 3, not 2"},
		{"QE of another kind", identity, `"id":"QE"`, `"id":"QVE"`, "enclaveIdentity.id is"},
		{"QE under the old name", identity, `"enclaveIdentity"`, `"qeIdentity"`, "qeIdentity.version is 2, not 1"},
		{"QE without levels", identity, `"tcbLevels":[`, `"tcbLevels":[],"x":[`, "enclaveIdentity.tcbLevels is empty"},
		{"QE product too large", identity, `"isvprodid":1`, `"isvprodid":65536`, "enclaveIdentity.isvprodid is"},
	} {
		doc := c.doc + c.to
		if c.from != "" {
			if doc = strings.Replace(c.doc, c.from, c.to, 1); doc == c.doc {
				t.Errorf("%s: %q is not in the document", c.name, c.from)
			}
		}
		parse := parseInfo
		if strings.HasPrefix(c.name, "QE") {
			parse = parseIdentity
		}
		if err := parse([]byte(doc)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
	if err := parseInfo(bytes.Repeat([]byte(" "), MaxDocumentSize+1)); err == nil {
		t.Error("a document over the limit is accepted")
	}
}

// FuzzDocuments holds the parsers to their promise: no panic, and the kept body is a part of the document.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"tcbInfo":{"id":"SGX","version":3,"tcbLevels":[{"tcb":{"sgxtcbcomponents":[{"svn":1}],"pcesvn":5}}]},"signature":"00"}`))
	f.Add([]byte(`{"enclaveIdentity":{"id":"QE","version":2,"tcbLevels":[{"tcb":{"isvsvn":1}}]},"signature":"00"}`))
	f.Add([]byte(`{"qeIdentity":{"version":1},"signature":"00"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if info, err := ParseTCBInfo(b); err == nil && (!bytes.Contains(b, info.Body) || len(info.Levels) == 0) {
			t.Error("a TCB info whose body is not in it, or without levels")
		}
		if q, err := ParseQEIdentity(b); err == nil && (!bytes.Contains(b, q.Body) || len(q.Levels) == 0) {
			t.Error("a QE identity whose body is not in it, or without levels")
		}
	})
}
