package check

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
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
				kept := slices.Contains([]string{"/var/lib/unitgate/", "/tmp/", "/data/"}, c.DestPath)
				if (c.Chown != "") != kept {
					t.Errorf("stage %q: %s belongs to %q; programs are root's, what they keep is not", s.Name, c.DestPath, c.Chown)
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

// TestDockerignore builds both programs from what .dockerignore lets into a build, as BuildKit reads it: all that they need
// is there, and neither tests nor keys nor other files of this machine.
func TestDockerignore(t *testing.T) {
	file, err := os.Open("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	patterns, err := ignorefile.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	root, context := os.DirFS("../.."), t.TempDir()
	let := 0
	err = fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && (d.Name() == ".git" || d.Name() == "node_modules") {
				return fs.SkipDir
			}
			return err
		}
		if out, err := ignored.MatchesOrParentMatches(path); err != nil || out {
			return err
		}
		if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".nk") {
			t.Errorf("%s goes into the build", path)
		}
		text, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		to := filepath.Join(context, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		let++
		return os.WriteFile(to, text, 0o600)
	})
	if err != nil || let < 100 {
		t.Fatalf("%d files, %v", let, err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", t.TempDir(), "./services/unitgate", "./deployments/keys")
	cmd.Dir, cmd.Env = context, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for path, out := range map[string]bool{"events/state_test.go": true, "deployments/keys/keys/control.nk": true, "keys/nats.env": true, ".git/config": true, "services/unitgate/main.go": false} {
		if got, err := ignored.MatchesOrParentMatches(path); err != nil || got != out {
			t.Errorf("%s is left out: %v, %v", path, got, err)
		}
	}
}
