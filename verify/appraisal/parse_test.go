// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite the JSON Schema and the tables of the reference page")

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFull reads a policy with every key, and requires that there is no other key.
func TestFull(t *testing.T) {
	t.Parallel()
	text := read(t, "testdata/full.yaml")
	p := parse(t, string(text))
	unset(t, "", reflect.ValueOf(*p))
	b, err := p.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, parse(t, string(b))); d != "" {
		t.Errorf("the canonical form is another policy (-text +canonical):\n%s", d)
	}
	again, err := parse(t, string(b)).Canonical()
	if err != nil || string(again) != string(b) {
		t.Errorf("the canonical form has another one: %v\n%s\n%s", err, b, again)
	}
	var indented []byte
	if indented, err = json.MarshalIndent(json.RawMessage(b), "", "\t"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, parse(t, string(indented))); d != "" {
		t.Errorf("JSON with tabs is another policy:\n%s", d)
	}
}

// TestLongTexts keeps what is longer than a line of YAML usually is, and has characters of every kind.
func TestLongTexts(t *testing.T) {
	t.Parallel()
	p := parse(t, small)
	p.Description = strings.Repeat("<a> & \"b\" \\ \u2028 \u0085 \u007f \u0080 \u009f \ufeff \ufffe \uffff é 😀 # : - ", 2000)
	p.Rules.Modules = []string{"package appraisal\n\n\tdeny contains \"x\" if false # " + strings.Repeat("long ", 10000) + "\r\n"}
	b, err := p.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, parse(t, string(b))); d != "" {
		t.Errorf("it came back changed:\n%.500s", d)
	}
}

// TestHostileTexts requires texts that are made to be slow to be refused in time.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const n = 200_000
	for name, text := range map[string]string{
		"lists": strings.Repeat("[", n), "mappings": strings.Repeat("{a: ", n), "block lists": strings.Repeat("- ", n),
		"keys": strings.Repeat("? ", n), "quotes": strings.Repeat("\"a\" ", n), "references": "a: &a [x]\nb: [" + strings.Repeat("*a, ", n) + "]",
		"members": "{" + strings.Repeat("a: 1, ", n) + "}", "tags": strings.Repeat("!a ", n), "comments": strings.Repeat("# a\n", n) + "a: 1",
		"indents": strings.Repeat("a:\n ", 2000),
	} {
		start := processorTime(t)
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: it is a policy", name)
		}
		if d := processorTime(t) - start; d > time.Minute { // what grows with the square takes longer
			t.Errorf("%s: it took %s", name, d)
		} else {
			t.Logf("%s: %s", name, d)
		}
	}
}

// processorTime is what the test's thread has used. On a busy machine that is little where the clock runs on for long.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// unset complains about every value of the full policy that the text does not set. Pins are one or the other.
func unset(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		unset(t, path, v.Elem())
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[Pins]() && v.Type() != reflect.TypeFor[Ledger]() && v.Type() != reflect.TypeFor[ABI]():
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Tag.Get("doc") == "" || f.Tag.Get("json") == "" {
				t.Errorf("%s.%s has no doc or json tag", path, f.Name)
			}
			unset(t, path+"."+key(f), v.Field(i))
		}
	case v.IsZero() && path != ".snp.vmpl.minimum":
		t.Errorf("%s is not in testdata/full.yaml", path)
	}
}

const small = `schema: cofferdam.dev/appraisal-policy/v1
evidence: [sev-snp]
domains: [amd]
snp:
  tcb:
    Milan: {reported: {snp: 8}}
`

// TestMistakes requires each mistake to be told with its place.
func TestMistakes(t *testing.T) {
	t.Parallel()
	parse(t, small)
	for _, c := range []struct{ name, old, new, want string }{
		{"empty", small, "", "it is empty, and would accept nothing"},
		{"comment alone", small, "# nothing\n", "it is empty"},
		{"no mapping", small, "- a\n", "line 1, column 1: policy: it is a list, not a mapping"},
		{"two documents", small, small + "---\na: b\n", "more than one document"},
		{"no YAML", small, "a: [", "did not find expected"},
		{"no UTF-8", small, "\xff\xfe", "not UTF-8"},
		{"too long", small, strings.Repeat("#", MaxSize+1), "more than 2097152"},
		{"schema alone", small, "schema: cofferdam.dev/appraisal-policy/v1\n", `the key "evidence" is missing`},
		{"other schema", "policy/v1", "policy/v2", `line 1, column 9: schema: it is "cofferdam.dev/appraisal-policy/v2"`},
		{"unknown key", "domains:", "domain: x\ndomains:", `line 3, column 1: domain: the key "domain" is unknown; known here: schema, name,`},
		{"unknown key below", "{snp: 8}", "{SNP: 8}", `line 6, column 24: snp.tcb.Milan.reported.SNP: the key "SNP" is unknown`},
		{"key twice", "domains:", "evidence: [tdx]\ndomains:", `line 3, column 1: evidence: the key "evidence" is given twice`},
		{"key twice in a map", "{snp: 8}}", "{snp: 8}}\n    Milan: {reported: {}}", `line 7, column 5: snp.tcb.Milan: the key "Milan" is given twice`},
		{"unknown type", "[sev-snp]", "[sev]", `line 2, column 12: evidence[0]: "sev" is not one of sev-snp, tdx, sgx, azure-vtpm`},
		{"no list", "[sev-snp]", "sev-snp", `it is "sev-snp", not a list`},
		{"empty list", "[amd]", "[]", `line 3, column 10: domains: the list is empty: leave the key out`},
		{"empty map", "\n    Milan: {reported: {snp: 8}}", " {}", `snp.tcb: it is empty`},
		{"null", "[amd]", "~", `line 3, column 10: domains: it has no value`},
		{"unknown line", "Milan", "Rome", `"Rome" is not one of Milan, Genoa, Turin`},
		{"missing below", "{reported: {snp: 8}}", "{launch: {snp: 8}}", `snp.tcb.Milan: the key "reported" is missing`},
		{"number too large", "snp: 8", "snp: 256", `"256" is no whole number of at most 8 bits`},
		{"negative", "snp: 8", "snp: -1", `"-1" is no whole number`},
		{"octal", "snp: 8", "snp: 010", `"010" is no whole number`},
		{"text for a number", "snp: 8", `snp: "8"`, `it is "8", not a whole number`},
		{"fraction", "snp: 8", "snp: 8.5", `not a whole number`},
		{"text for a truth value", "domains:", "allowSimulated: \"yes\"\ndomains:", `not a truth value`},
		{"long hash", "  tcb:", "  measurements: [abcd]\n  tcb:", `snp.measurements[0]: it has 4 characters, not 96 hexadecimal digits`},
		{"capitals", "  tcb:", "  chips: {allow: [zz00000000000000]}\n  tcb:", `snp.chips.allow[0]: parsing chip ID`},
		{"masked chip", "  tcb:", "  chips: {deny: ['0000000000000000']}\n  tcb:", `all zeros`},
		{"VMPL", "  tcb:", "  vmpl: {maximum: 4}\n  tcb:", `snp.vmpl.maximum: 4 is more than 3`},
		{"VMPL upside down", "  tcb:", "  vmpl: {minimum: 1}\n  tcb:", `the lowest VMPL is 1, above the highest, 0`},
		{"unpinned identity", "  tcb:", "  idBlock: {minimumGuestSVN: 1}\n  tcb:", `line 5, column 3: snp: guest SVN, family or image IDs`},
		{"FMC of Milan", "snp: 8", "fmc: 8", `line 6, column 12: snp.tcb.Milan: fmc is asked for`},
		{"debug as a flag", "  tcb:", "  guestPolicy: {require: [debug]}\n  tcb:", `"debug" is not one of`},
		{"ABI", "  tcb:", "  guestPolicy: {minimumABI: 1}\n  tcb:", `no version of the form MAJOR.MINOR`},
		{"anchor", "[amd]", "&a [amd]", `anchors, aliases and tags`},
		{"tag", "[amd]", "!!seq [amd]", `anchors, aliases and tags`},
		{"merge", "  tcb:", "  <<: {vmpl: {}}\n  tcb:", `a key is not a plain text`},
		{"section missing", "[sev-snp]", "[sev-snp, tdx]", `line 2, column 11: evidence: a type is accepted for which the section "tdx" is missing`},
		{"section unused", "domains:", "sgx: {}\ndomains:", `line 3, column 6: sgx: no accepted type of evidence uses this section`},
		{"Intel unused", "domains:", "intel: {}\ndomains:", `intel: no accepted type`},
		{"Azure without machines", small, strings.Replace(small[:strings.Index(small, "snp:\n")], "sev-snp", "azure-vtpm", 1) + "azure: {}\n", `neither section snp nor tdx`},
		{"simulated domain alone", "[amd]", "[amd, simulated]", `allowSimulated: it is false, but the domains are [amd simulated]`},
		{"simulated flag alone", "domains:", "allowSimulated: true\ndomains:", `allowSimulated: it is true, but the domains are [amd]`},
		{"simulated without a root", "[amd]", "[simulated]\nallowSimulated: true", `simulatedRoots lists no root`},
		{"short nonce", "domains:", "binding: {minimumNonceSize: 7}\ndomains:", `it is 7, less than the 8`},
		{"short report data", "domains:", "binding: {reportData: [00]}\ndomains:", `it has 1 bytes, not the 64`},
		{"file elsewhere", "domains:", "hostData: {policyFiles: [../p]}\ndomains:", `hostData.policyFiles[0]: "../p" does not lie in`},
		{"absolute file", "domains:", "hostData: {policyFiles: [/p]}\ndomains:", `"/p" does not lie in`},
		{"endorsements without SVN", "  tcb:", "  endorsements: {issuers: [x], feed: f, minimumSVN: 0}\n  tcb:", `publishers count from 1`},
		{"no DID", "  tcb:", "  endorsements: {issuers: [x], feed: f, minimumSVN: 1}\n  tcb:", `snp.endorsements.issuers[0]: "x" is no did:x509`},
		{"receipt without ledger", "  tcb:", "  endorsements: {issuers: [x], feed: f, minimumSVN: 1, requireReceipt: true}\n  tcb:", `no ledger is trusted`},
		{"bad ledger keys", "  tcb:", "  endorsements: {issuers: [x], feed: f, minimumSVN: 1, ledgers: {l: {keys: x}}}\n  tcb:", `snp.endorsements.ledgers.l.keys: `},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(small, c.old, c.new, 1)
			_, err := Parse([]byte(text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s\ngives %v\nnot %s", text, err, c.want)
			}
		})
	}
}

// TestAllProblems requires more than one mistake to be told at once, in the order of the text.
func TestAllProblems(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte("schema: 1\nname: [x]\nevidence: [sev]\ntypo: 1\n"))
	var list Problems
	if !errors.As(err, &list) || len(list) != 5 {
		t.Fatalf("problems are %v", err)
	}
	for i, line := range []int{1, 1, 2, 3, 4} {
		if list[i].Line != line {
			t.Errorf("problem %d is on line %d, not %d: %s", i, list[i].Line, line, list[i].Message)
		}
	}
}

// TestDocuments holds the JSON Schema and the tables of the reference page to the types.
func TestDocuments(t *testing.T) {
	t.Parallel()
	schema, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	docs := filepath.Join("..", "..", "docs", "reference")
	golden(t, filepath.Join(docs, "appraisal-policy.schema.json"), schema)
	page := filepath.Join(docs, "appraisal-policy.md")
	text := read(t, page)
	begin, end := "<!-- keys: made from the program -->\n", "<!-- end of keys -->\n"
	head, rest, ok1 := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("the page has no place for the tables")
	}
	golden(t, page, []byte(head+begin+tables()+end+tail))
}

func golden(t *testing.T, name string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(string(want), string(read(t, name))); d != "" {
		t.Errorf("%s is out of date; run with -update (-types +file):\n%s", name, d)
	}
}

// tables has one table for each kind of mapping, in the order in which they are met.
func tables() string {
	var b strings.Builder
	seen := map[reflect.Type]bool{}
	queue := []struct {
		title string
		t     reflect.Type
	}{{"The policy", reflect.TypeFor[Policy]()}}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		fmt.Fprintf(&b, "\n### %s\n\n| key | value | |\n|---|---|---|\n", s.title)
		for i := range s.t.NumField() {
			f := s.t.Field(i)
			doc := f.Tag.Get("doc")
			if f.Tag.Get("required") != "" {
				doc += " (required)"
			}
			words, inner := describe(f.Type)
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", key(f), words, doc)
			if inner == nil || seen[inner] {
				continue
			}
			seen[inner] = true
			queue = append(queue, struct {
				title string
				t     reflect.Type
			}{"`" + key(f) + "`", inner})
		}
	}
	return b.String()
}

// describe says in words what a type takes, and which mapping is inside.
func describe(t reflect.Type) (words string, inner reflect.Type) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch s := reflect.Zero(t).Interface().(type) {
	case scalar:
		if m := regexp.MustCompile(`^\^\[0-9a-f\]\{(\d+)\}\$$`).FindStringSubmatch(s.form().pattern); m != nil {
			return m[1] + " hexadecimal digits", nil
		}
		return map[reflect.Type]string{
			reflect.TypeFor[ReportData](): "2 to 128 hexadecimal digits", reflect.TypeFor[Blob](): "base64",
			reflect.TypeFor[Chip](): "128 hexadecimal digits, or 16 for Turin", reflect.TypeFor[Word](): "bits, such as 0x10",
			reflect.TypeFor[ABI](): "MAJOR.MINOR", reflect.TypeFor[Duration](): "number with d, h, m or s",
			reflect.TypeFor[Register](): "0 to 23",
		}[t], nil
	case enumeration:
		return "`" + strings.Join(s.values(), "`, `") + "`", nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return "mapping", t
	case reflect.Map:
		k, _ := describe(t.Key())
		v, inner := describe(t.Elem())
		return fmt.Sprintf("mapping of %s to: %s", k, v), inner
	case reflect.Slice:
		v, inner := describe(t.Elem())
		return "list of: " + v, inner
	case reflect.Bool:
		return "`true`, `false`", nil
	case reflect.String:
		return "text", nil
	}
	return fmt.Sprintf("number of %d bits", t.Bits()), nil
}

// TestYAMLTree guards against a library that changes how it reads what our errors and values depend on.
func TestYAMLTree(t *testing.T) {
	t.Parallel()
	for text, tag := range map[string]string{
		"0011": "!!int", "1e5": "!!float", "00ff": "!!str", "true": "!!bool", "yes": "!!str", "~": "!!null", "2020-01-01": "!!timestamp",
	} {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(text), &n); err != nil || n.Content[0].ShortTag() != tag || n.Content[0].Value != text {
			t.Errorf("%s is read as %s %q: %v", text, n.Content[0].ShortTag(), n.Content[0].Value, err)
		}
	}
}

// FuzzParse looks for a text that panics, or whose canonical form is another policy.
func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add(read(f, "testdata/full.yaml"))
	f.Add([]byte(strings.Replace(small, "domains:", "name: \"\\x85\\x7f\\ufffe\\0\"\ndomains:", 1)))
	f.Add([]byte("{\"schema\":\"\\u0000\",\"evidence\":[]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		b, err := p.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		q, err := Parse(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if d := cmp.Diff(p, q); d != "" {
			t.Errorf("the canonical form is another policy:\n%s", d)
		}
	})
}
