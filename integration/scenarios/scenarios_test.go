package scenarios

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write down what the stories lead to now")

// TestScenarios plays every story. A line is followed by what it printed, indented; # begins a remark.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d stories, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(string(text))
			if got == string(text) {
				return
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s: %s", file, difference(string(text), got))
		})
	}
}

const indent = "    "

// play gives the story with what its lines print now.
func play(text string) string {
	s := newStage()
	var b strings.Builder
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		switch {
		case strings.HasPrefix(l, indent): // what it printed before
		case strings.TrimSpace(l) == "", strings.HasPrefix(l, "#"):
			b.WriteString(l + "\n")
		default:
			b.WriteString(l + "\n")
			for _, said := range s.do(l) {
				b.WriteString(indent + said + "\n")
			}
		}
	}
	return b.String()
}

// difference shows where two texts part.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return "line " + strings.Join([]string{w[max(0, i-1)], "want " + w[i], "got  " + g[i]}, "\n")
		}
	}
	return "one of the two is longer"
}

// TestReadmeNamesEveryVerb: each verb stands in the README, and nothing else does.
func TestReadmeNamesEveryVerb(t *testing.T) {
	readme, err := os.ReadFile("testdata/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(readme)) {
		verb, ok := strings.CutPrefix(l, "| `")
		if !ok {
			continue
		}
		verb, _, _ = strings.Cut(verb, "`")
		verb, _, _ = strings.Cut(verb, " ")
		if verb == "try" {
			verb = "try pause"
		}
		s := newStage()
		s.boot("d1")
		if said := s.do(verb + " d1"); len(said) > 0 && strings.HasPrefix(said[0], "there is no verb") {
			t.Errorf("the README shows %q: %s", verb, said[0])
		}
	}
}
