package integration_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/integration/harness"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

// longestReadme is what somebody reads who wants to know whether to read on, in bytes. Details are pages beside what they
// describe.
const longestReadme = 12 << 10

// pages are the Markdown files of the project, by their paths from its top.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir("..", func(path string, e os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "node_modules" || e.Name() == "testdata" || e.Name() == ".git"):
			return filepath.SkipDir
		case e.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		out[filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReadme: the README is short, and the config file that its page shows is accepted.
func TestReadme(t *testing.T) {
	all := pages(t)
	if n := len(all["README.md"]); n == 0 || n > longestReadme {
		t.Errorf("the README has %d bytes, at most %d: move details to a page beside what they describe", n, longestReadme)
	}
	const page = "services/unitgate/configfile/README.md"
	yaml := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(all[page])
	if yaml == nil {
		t.Fatalf("%s shows no config file", page)
	}
	file, err := configfile.Parse(page, []byte(yaml[1]))
	if err != nil {
		t.Fatal(err)
	}
	s := events.NewState()
	s.Namespace = file.Config.Namespace
	if _, err := events.PlanConfig(s, file.Config, events.PlanOptions{}); err != nil {
		t.Errorf("%s: %v", page, err)
	}
}

// TestPages keeps what the pages show true where a machine can tell: their commands and flags exist, the tests that they
// name are there, and their links lead somewhere.
func TestPages(t *testing.T) {
	all, tests, tried := pages(t), testNames(t), map[string]bool{}
	for page, text := range all {
		for _, line := range commandLines(text) {
			args := append(words(line), "--help")
			key := strings.Join(args, " ")
			if tried[key] {
				continue
			}
			tried[key] = true
			if r := harness.Run(t, args...); r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, "usage: unitgate "+args[0]) {
				t.Errorf("%s: unitgate %s: exit %d\n%s", page, line, r.Code, r.Stderr)
			}
		}
		for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(text, -1) {
			if !tests[name] && !begins(tests, name) {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
		for _, link := range regexp.MustCompile(`\]\(([^)\s:]+)\)`).FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(link[1], "#")
			to := page
			if target != "" {
				to = path.Join(path.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(to))); err != nil {
				t.Errorf("%s: nothing is at %s", page, link[1])
			} else if anchor != "" && !anchors(all[to])[anchor] {
				t.Errorf("%s: %s has no heading #%s", page, to, anchor)
			}
		}
	}
	if len(tried) < 40 {
		t.Errorf("only %d commands were found", len(tried))
	}
}

// begins reports whether a test's name begins so: pages name some by a pattern for -run.
func begins(tests map[string]bool, start string) bool {
	for name := range tests {
		if strings.HasPrefix(name, start) {
			return true
		}
	}
	return false
}

func testNames(t *testing.T) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
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
	return tests
}

// anchors are the headings of a page as links name them.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(name, " ", "-")] = true
	}
	return out
}

// commandLines are a page's unitgate commands: lines of code blocks, and code within sentences.
func commandLines(text string) []string {
	var lines []string
	for i, part := range strings.Split(text, "```") {
		pattern := "`unitgate ([a-z-]+(?: [^`\n]*)?)`"
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
