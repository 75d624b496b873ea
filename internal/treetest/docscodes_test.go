// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocsVerdictCodes holds the table of verdict codes to package verify: the same checks and codes, and for each code
// that a check is given in the source, the same row with the same effect on the verdict.
func TestDocsVerdictCodes(t *testing.T) {
	registry := parseDir(t, "verify/check")
	names := constants(t, registry, "Name")
	codes := constants(t, registry, "Code")
	calls := map[[3]string]bool{}
	passed := map[string]bool{} // codes that reach their check through a variable: the source does not name the two together
	for _, dir := range append(subdirectories(t, "verify"), "verify") {
		found, loose := verdictCalls(parseDir(t, dir), names, codes)
		maps.Copy(calls, found)
		if dir != "verify/check" {
			maps.Copy(passed, loose)
		}
	}
	if len(names) < 20 || len(codes) < 40 || len(calls) < 40 {
		t.Fatalf("found %d checks, %d codes, %d uses of them: the source is not read right", len(names), len(codes), len(calls))
	}
	page := page(t, "docs/reference/verdict-codes.md")
	rows := map[[3]string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| `([A-Z_]+)` \\| (refused|undecided) \\|").FindAllStringSubmatch(page, -1) {
		row := [3]string{m[1], m[2], m[3]}
		if rows[row] {
			t.Errorf("the page has the row %v twice", row)
		}
		rows[row] = true
	}
	for call := range calls {
		if !rows[call] {
			t.Errorf("the source has %v, the page has no such row", call)
		}
	}
	named := map[string]bool{} // codes that the source names beside their check
	for call := range calls {
		named[call[1]] = true
	}
	checks, used := map[string]bool{}, map[string]bool{"OK": true}
	for row := range rows {
		checks[row[0]], used[row[1]] = true, true
		if named[row[1]] && !passed[row[1]] && !calls[row] {
			t.Errorf("the page has the row %v, the source does not", row)
		}
	}
	if d := cmp.Diff(values(names), checks); d != "" {
		t.Errorf("checks of the source and of the page differ (-source +page):\n%s", d)
	}
	if d := cmp.Diff(values(codes), used); d != "" {
		t.Errorf("codes of the source and of the page differ (-source +page):\n%s", d)
	}
}

// verdictCalls finds the calls that record a check which did not pass, with both names as constants, and the codes that
// are named anywhere else.
func verdictCalls(files []*ast.File, names, codes map[string]string) (found map[[3]string]bool, loose map[string]bool) {
	effects := map[string]string{"Fail": "refused", "Require": "refused", "Undecided": "undecided"}
	found, loose = map[[3]string]bool{}, map[string]bool{}
	beside := map[ast.Expr]bool{}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if e, ok := n.(*ast.SelectorExpr); ok && codes[identifier(e)] != "" && !beside[e] {
				loose[codes[identifier(e)]] = true
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || effects[method.Sel.Name] == "" {
				return true
			}
			args := call.Args
			if method.Sel.Name == "Require" && len(args) > 0 {
				args = args[1:]
			}
			if len(args) < 2 {
				return true
			}
			check, code := names[identifier(args[0])], codes[identifier(args[1])]
			if check != "" && code != "" {
				found[[3]string{check, code, effects[method.Sel.Name]}] = true
				beside[args[1]] = true
			}
			return true
		})
	}
	return found, loose
}

// TestDocsDenials holds the page of denials to the guest's codes, to the engine's points, and to the reasons of its
// framework. Neither may have what the other lacks.
func TestDocsDenials(t *testing.T) {
	text := page(t, "docs/reference/denials.md")
	codes := values(constants(t, parseDir(t, "api/guest/v1"), ""))
	want := map[string]bool{}
	for c := range codes {
		if regexp.MustCompile(`^[A-Z_]{6,}$`).MatchString(c) {
			want[c] = true
		}
	}
	if d := cmp.Diff(want, firstColumn(text, "[A-Z_]+")); d != "" || len(want) < 10 {
		t.Errorf("codes of the source and of the page differ (-source +page):\n%s", d)
	}
	points := values(constants(t, parseDir(t, "policy/engine"), "Point"))
	if d := cmp.Diff(points, firstColumn(text, "[a-z0-9_]+")); d != "" || len(points) < 20 {
		t.Errorf("points of the source and of the page differ (-source +page):\n%s", d)
	}
	rego := page(t, "policy/engine/reasons.rego") + page(t, "policy/engine/fragments.rego")
	reasons := regexp.MustCompile(`(?:named contains|text :=) "([^"]+)"`).FindAllStringSubmatch(rego, -1)
	if len(reasons) < 20 {
		t.Fatalf("found %d reasons: the framework is not read right", len(reasons))
	}
	for _, m := range reasons {
		if !strings.Contains(text, "`"+m[1]+"`") {
			t.Errorf("the page does not have the reason %q", m[1])
		}
	}
}

// firstColumn returns the names of a form that stand in the first column of any table.
func firstColumn(text, form string) map[string]bool {
	found := map[string]bool{}
	name := regexp.MustCompile("`(" + form + ")`")
	for line := range strings.Lines(text) {
		cells := strings.SplitN(line, "|", 3)
		if len(cells) < 3 || cells[0] != "" {
			continue
		}
		for _, m := range name.FindAllStringSubmatch(cells[1], -1) {
			found[m[1]] = true
		}
	}
	return found
}

// TestDocsProtocol holds the table of calls to the service definition.
func TestDocsProtocol(t *testing.T) {
	proto, err := os.ReadFile(filepath.Join(top(t), "api", "guest", "v1", "guest.proto"))
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  rpc ([A-Za-z]+)\(`).FindAllStringSubmatch(string(proto), -1) {
		calls[m[1]] = true
	}
	if d := cmp.Diff(calls, firstColumn(page(t, "docs/reference/guest-protocol.md"), "[A-Z][A-Za-z]+")); d != "" {
		t.Errorf("calls of the protocol and of the page differ (-protocol +page):\n%s", d)
	}
}

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(top(t), filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// parseDir parses the Go files of a directory that are not tests.
func parseDir(t *testing.T, dir string) []*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(top(t), filepath.FromSlash(dir), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	fset := token.NewFileSet()
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go") {
			continue
		}
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// constants returns the string constants of a type, by name. An empty type means those without one.
func constants(t *testing.T, files []*ast.File, typ string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, f := range files {
		for _, d := range f.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok || gen.Tok != token.CONST {
				continue
			}
			for _, s := range gen.Specs {
				v, ok := s.(*ast.ValueSpec)
				if !ok || identifier(v.Type) != typ || len(v.Names) != len(v.Values) {
					continue
				}
				for i, name := range v.Names {
					if text, ok := literal(v.Values[i]); ok {
						found[name.Name] = text
					}
				}
			}
		}
	}
	return found
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

func identifier(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// subdirectories returns the directories below a directory of the module that hold Go files.
func subdirectories(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(top(t), filepath.FromSlash(dir), "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, p := range paths {
		found[dir+"/"+filepath.Base(filepath.Dir(p))] = true
	}
	return slices.Sorted(maps.Keys(found))
}

func values(m map[string]string) map[string]bool {
	out := map[string]bool{}
	for _, v := range m {
		out[v] = true
	}
	return out
}
