package azure_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// apiVersion is how Azure names versions.
var apiVersion = regexp.MustCompile(`\b20(1\d|2\d)-\d\d-\d\d(-preview)?\b`) // and no time.Layout, which is of 2006

// Each version of an API stands in the code once, as a constant with a name: a request made
// with another version by accident is another request. What only the sandbox serves, and days
// on which VM sizes retire, are no versions that are spoken.
func TestAPIVersionsAreNamedOnce(t *testing.T) {
	t.Parallel()
	constants := map[string]string{} // by name: where
	versions := 0
	for _, root := range []string{"../../reconcile", "../../cmd", "../../spec"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && (entry.Name() == "sandbox" || entry.Name() == "amlaks-sandbox" || entry.Name() == "testdata"):
				return fs.SkipDir
			case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || entry.Name() == "vmsizes.go":
				return nil
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			named := map[ast.Node]string{}
			ast.Inspect(file, func(n ast.Node) bool {
				if declaration, ok := n.(*ast.GenDecl); ok && declaration.Tok == token.CONST {
					for _, s := range declaration.Specs {
						if s := s.(*ast.ValueSpec); len(s.Values) == 1 {
							named[s.Values[0]] = s.Names[0].Name
						}
					}
				}
				literal, ok := n.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING || !apiVersion.MatchString(literal.Value) {
					return true
				}
				name, at := named[literal], files.Position(literal.Pos()).String()
				switch {
				case name == "" || !strings.HasSuffix(name, "Version"):
					t.Errorf("%s: %s is no constant whose name ends with Version", at, literal.Value)
				case constants[name] != "":
					t.Errorf("%s: %s is named at %s too", at, name, constants[name])
				}
				constants[name] = at
				versions++
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if versions < 4 {
		t.Errorf("only %d versions were found: the search has gone blind", versions)
	}
}
