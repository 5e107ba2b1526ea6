package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// comments are what the source says of its types and their fields: by "package.Type", and by "package.Type.Field".
type comments map[string]string

// readComments reads the packages in these directories of the module, without their tests.
func readComments(root string, dirs ...string) (comments, error) {
	out := comments{}
	for _, dir := range dirs {
		files, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, dir, f.Name()), nil, parser.ParseComments)
			if err != nil {
				return nil, fmt.Errorf("read the comments of %s: %w", dir, err)
			}
			out.file(parsed)
		}
	}
	return out, nil
}

func (c comments) file(f *ast.File) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, s := range g.Specs {
			t := s.(*ast.TypeSpec) // of a type declaration
			doc := t.Doc
			if doc == nil && len(g.Specs) == 1 {
				doc = g.Doc
			}
			name := f.Name.Name + "." + t.Name.Name
			c[name] = line(doc)
			if st, ok := t.Type.(*ast.StructType); ok {
				c.fields(name, st)
			}
		}
	}
}

func (c comments) fields(name string, st *ast.StructType) {
	for _, f := range st.Fields.List {
		text := line(f.Doc)
		if text == "" {
			text = line(f.Comment)
		}
		for _, n := range f.Names {
			c[name+"."+n.Name] = text
		}
	}
}

// line is a comment as one line, without directives and without drawings.
func line(g *ast.CommentGroup) string {
	text, _, _ := strings.Cut(g.Text(), "\n\n")
	return strings.Join(strings.Fields(text), " ")
}
