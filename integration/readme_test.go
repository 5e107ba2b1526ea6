package integration_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/integration/harness"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

// TestReadme keeps what the README shows true where a machine can tell: its config file is accepted, its commands and
// flags exist, and the tests that it names are there.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)

	yaml := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(text)
	if yaml == nil {
		t.Fatal("the README shows no config file")
	}
	file, err := configfile.Parse("README.md", []byte(yaml[1]))
	if err != nil {
		t.Fatalf("the README's config file: %v", err)
	}
	s := events.NewState()
	s.Namespace = file.Config.Namespace
	if _, err := events.PlanConfig(s, file.Config, events.PlanOptions{}); err != nil {
		t.Errorf("the README's config file: %v", err)
	}

	for _, line := range commandLines(text) {
		args := append(words(line), "--help")
		if r := harness.Run(t, args...); r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, "usage: unitgate "+args[0]) {
			t.Errorf("README: unitgate %s: exit %d\n%s", line, r.Code, r.Stderr)
		}
	}

	tests := map[string]bool{}
	err = filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(src), -1) {
			tests[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(text, -1) {
		if !tests[name] {
			t.Errorf("the README names %s, which is no test", name)
		}
	}
}

// commandLines are the README's unitgate commands: lines of code blocks, and code within sentences.
func commandLines(text string) []string {
	var lines []string
	for i, part := range strings.Split(text, "```") {
		pattern := "`unitgate ([a-z][^`\n]*)`"
		if i%2 == 1 { // inside a block
			pattern = `(?m)^(?:\$ )?unitgate ([a-z].*)$`
		}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(part, -1) {
			if !strings.Contains(m[1], " is ready: ") { // what dev prints
				lines = append(lines, m[1])
			}
		}
	}
	return lines
}

// words are a command line's words up to its comment.
func words(line string) []string {
	line, _, _ = strings.Cut(line, "#")
	return strings.Fields(line)
}
