package check

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func stages(text []byte) ([]instructions.Stage, error) {
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	all, _, err := instructions.Parse(ast.AST, nil)
	return all, err
}

// TestDockerfile reads the Dockerfile as BuildKit does. No daemon builds it here: that its commands do what the image
// needs is shown by TestImage in integration, which makes the image's root by hand and runs in it.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	all, err := stages(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 || all[0].Name != "build" || all[1].Name != "keys" {
		t.Fatalf("%d stages", len(all))
	}
	numeric := regexp.MustCompile(`^[1-9][0-9]*:[1-9][0-9]*$`) // Kubernetes cannot see of a name that it is not root's
	for _, s := range all[1:] {
		if s.BaseName != "scratch" {
			t.Errorf("stage %q is from %q", s.Name, s.BaseName)
		}
		user, entry := "", false
		for _, c := range s.Commands {
			switch c := c.(type) {
			case *instructions.UserCommand:
				user = c.User
			case *instructions.EntrypointCommand:
				entry = !c.PrependShell
			case *instructions.RunCommand:
				t.Errorf("stage %q has no shell to run %q", s.Name, c.CmdLine)
			case *instructions.CopyCommand:
				if c.From != "build" {
					t.Errorf("stage %q copies from %q", s.Name, c.From)
				}
			}
		}
		if !numeric.MatchString(user) || !entry {
			t.Errorf("stage %q: user %q, entry point as a list: %v", s.Name, user, entry)
		}
	}
	for _, wrong := range []string{"COPY --chmwon=1 a b", "FORM scratch", "HEALTHCHECK --interval=soon CMD a"} {
		if _, err := stages([]byte("FROM scratch\n" + wrong + "\n")); err == nil {
			t.Errorf("%q passes", wrong)
		}
	}
}

// TestDockerignore: the build gets what it compiles, and neither keys nor this machine's files.
func TestDockerignore(t *testing.T) {
	text, err := os.ReadFile("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if lines[1] != "*" {
		t.Errorf("the first rule is %q: want everything left out that is not named", lines[1])
	}
	for _, line := range lines[2:] {
		if dir, named := strings.CutPrefix(line, "!"); named {
			if _, err := os.Stat("../../" + dir); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}
