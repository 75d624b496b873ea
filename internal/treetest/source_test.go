// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines = 600 // hard stop; most files are 80 to 250 lines
	maxFuncLines = 100 // hard stop; most functions are under 40 lines
)

type source struct {
	path      string // relative to the module
	data      []byte
	generated bool
}

func sources(t *testing.T, exts ...string) []source {
	t.Helper()
	root := top(t)
	var list []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") && name != ".ci" || name == "testdata" || path == filepath.Join(root, "bin")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !slices.Contains(exts, filepath.Ext(path)) {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		list = append(list, source{path: rel, data: data, generated: strings.HasSuffix(path, ".pb.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestLicenceHeaders(t *testing.T) {
	for _, s := range sources(t, ".go", ".proto", ".rego") {
		if s.generated {
			continue
		}
		if first, _, _ := bytes.Cut(s.data, []byte("\n")); !bytes.Contains(first, []byte("SPDX-License-Identifier: Apache-2.0")) {
			t.Errorf("%s: first line is %q, not the SPDX header", s.path, first)
		}
	}
}

func TestFileLength(t *testing.T) {
	for _, s := range sources(t, ".go", ".rego") {
		if n := bytes.Count(s.data, []byte("\n")); !s.generated && n > maxFileLines {
			t.Errorf("%s has %d lines; the limit is %d: split it at the second idea", s.path, n, maxFileLines)
		}
	}
}

func TestFunctionLength(t *testing.T) {
	eachFile(t, func(s source, fset *token.FileSet, f *ast.File) {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || strings.HasSuffix(s.path, "_test.go") {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFuncLines {
				t.Errorf("%s: %s has %d lines; the limit is %d", s.path, fn.Name.Name, n, maxFuncLines)
			}
		}
	})
}

func eachFile(t *testing.T, visit func(source, *token.FileSet, *ast.File)) {
	t.Helper()
	for _, s := range sources(t, ".go") {
		if s.generated {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, s.path, s.data, parser.ParseComments)
		if err != nil {
			t.Errorf("%s: %v", s.path, err)
			continue
		}
		visit(s, fset, f)
	}
}

func TestPackageDocs(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "api/") {
			continue // described by its .proto file
		}
		if len(p.Doc) < 20 {
			t.Errorf("%s has no package documentation", name)
		}
		for _, banned := range []string{"util", "utils", "common", "helpers", "misc", "types"} {
			if filepath.Base(name) == banned {
				t.Errorf("%s: a package is named for what it is about, not %q", name, banned)
			}
		}
	}
}

// TestExportedDocs holds the public packages to complete documentation: every exported name, method and field group.
func TestExportedDocs(t *testing.T) {
	eachFile(t, func(s source, fset *token.FileSet, f *ast.File) {
		if strings.HasSuffix(s.path, "_test.go") || f.Name.Name == "main" {
			return
		}
		public := !strings.HasPrefix(s.path, "internal/")
		for _, d := range f.Decls {
			for _, name := range undocumented(d) {
				if public {
					t.Errorf("%s: %s is exported and not documented", fset.Position(d.Pos()), name)
				}
			}
		}
	})
}

func undocumented(d ast.Decl) []string {
	var names []string
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, sp := range d.Specs {
			switch sp := sp.(type) {
			case *ast.TypeSpec:
				if sp.Name.IsExported() && d.Doc == nil && sp.Doc == nil && sp.Comment == nil {
					names = append(names, sp.Name.Name)
				}
			case *ast.ValueSpec:
				for _, n := range sp.Names {
					if n.IsExported() && d.Doc == nil && sp.Doc == nil && sp.Comment == nil {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if idx, ok := typ.(*ast.IndexExpr); ok {
		typ = idx.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}
