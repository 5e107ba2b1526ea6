package integration_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatModel: every test that the page names for an attack is there.
func TestThreatModel(t *testing.T) {
	page, err := os.ReadFile("../deployments/docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(text, -1) {
			all[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(page, -1)
	for _, m := range named {
		if !all[string(m[1])] {
			t.Errorf("the page names %s, which there is not", m[1])
		}
	}
	if len(named) < 25 {
		t.Errorf("the page names %d tests only", len(named))
	}
}
