package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

const deployments = "../../../deployments/"

// commandLine is one of unitgate's in a file of deployments, without the program's name.
type commandLine struct {
	where string
	args  []string
}

// value is what a flag is given, "" if it is not.
func (l commandLine) value(flag string) string {
	for i, a := range l.args {
		if v, ok := strings.CutPrefix(a, flag+"="); ok {
			return v
		}
		if a == flag && i+1 < len(l.args) {
			return l.args[i+1]
		}
	}
	return ""
}

// TestDeployments parses every command line that the files of deployments give to unitgate, so that no flag is renamed
// behind their back, and holds what edges are told against the rules for ids and addresses.
func TestDeployments(t *testing.T) {
	lines := slices.Concat(composeLines(t), kubernetesLines(t), systemdLines(t))
	commands := map[string]int{}
	for _, l := range lines {
		c := &cli{out: new(bytes.Buffer), err: new(bytes.Buffer)}
		if _, err := c.parse(l.args); err != nil {
			t.Errorf("%s: %q: %v", l.where, l.args, err)
			continue
		}
		commands[l.args[0]]++
		if l.args[0] != "edge" {
			continue
		}
		for _, flag := range []string{"--unit", "--cluster", "--namespace", "-n", "--id"} {
			if v := l.value(flag); v != "" && events.CheckID(v, flag) != nil {
				t.Errorf("%s: %s %q: %v", l.where, flag, v, events.CheckID(v, flag))
			}
		}
		if err := events.CheckAddress(l.value("--advertise"), "advertise"); err != nil {
			t.Errorf("%s: %v", l.where, err)
		}
		sessions, err1 := strconv.Atoi(l.value("--capacity"))
		connections, err2 := strconv.Atoi(l.value("--max-connections"))
		if err1 != nil || err2 != nil || sessions < 1 || connections <= sessions {
			t.Errorf("%s: want --capacity, and --max-connections with room for handshakes beyond: %v %v", l.where, l.value("--capacity"), l.value("--max-connections"))
		}
		for _, flag := range []string{"--listen", "--admin"} {
			if err := checkListen(flag, l.value(flag)); err != nil {
				t.Errorf("%s: %v", l.where, err)
			}
		}
	}
	for command, n := range map[string]int{"control": 3, "edge": 8, "apply": 1, "ready": 5, "demo-origin": 2} {
		if commands[command] != n {
			t.Errorf("%d command lines of %s were found, want %d: this test does not see what it is for", commands[command], command, n)
		}
	}
}

// TestComposeConfig: the file that compose applies is valid, and its units and clusters are those of the edges there.
func TestComposeConfig(t *testing.T) {
	text := read(t, "compose/shop.yaml")
	file, err := configfile.Parse("shop.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	s := events.NewState()
	s.Namespace = file.Config.Namespace
	if _, err := events.PlanConfig(s, file.Config, events.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, l := range composeLines(t) {
		if l.args[0] != "edge" {
			continue
		}
		known := slices.ContainsFunc(file.Config.Clusters, func(c events.Cluster) bool {
			return c.ID == l.value("--cluster") && c.Unit == l.value("--unit")
		})
		if !known || l.value("-n") != file.Config.Namespace {
			t.Errorf("%s joins a cluster that shop.yaml does not know: %q", l.where, l.args)
		}
	}
}

// TestDeploymentsReadme parses what its README tells people to type.
func TestDeploymentsReadme(t *testing.T) {
	text := string(read(t, "README.md"))
	lines := regexp.MustCompile("(?m)(?:^|`|/)unitgate ([a-z-]+ [^`#\n]*)").FindAllStringSubmatch(text, -1)
	if len(lines) < 8 {
		t.Fatalf("%d command lines: %q", len(lines), lines)
	}
	for _, l := range lines {
		c := &cli{out: new(bytes.Buffer), err: new(bytes.Buffer)}
		if _, err := c.parse(strings.Fields(l[1])); err != nil {
			t.Errorf("unitgate %s: %v", l[1], err)
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(deployments + file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func composeLines(t *testing.T) []commandLine {
	t.Helper()
	var file struct {
		Services map[string]struct {
			Image       string
			Command     []string
			HealthCheck struct{ Test []string }
		}
	}
	if err := yaml.Unmarshal(read(t, "compose/compose.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	var lines []commandLine
	for name, s := range file.Services {
		if s.Image != "unitgate" {
			continue
		}
		lines = append(lines, commandLine{"compose.yaml, " + name, s.Command})
		if test := s.HealthCheck.Test; len(test) > 0 {
			if len(test) < 3 || test[0] != "CMD" || test[1] != "/unitgate" {
				t.Errorf("compose.yaml, %s: health check %q needs what the image lacks", name, test)
				continue
			}
			lines = append(lines, commandLine{"compose.yaml, health of " + name, test[2:]})
		}
	}
	return lines
}

func kubernetesLines(t *testing.T) []commandLine {
	t.Helper()
	files, err := filepath.Glob(deployments + "kubernetes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var lines []commandLine
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var doc struct {
				Metadata struct{ Name string }
				Spec     struct {
					Template struct {
						Spec struct {
							Containers []struct {
								Image string
								Args  []string
							}
						}
					}
				}
			}
			if dec.Decode(&doc) != nil {
				break
			}
			for _, c := range doc.Spec.Template.Spec.Containers {
				if !strings.Contains(c.Image, "/unitgate:") {
					continue
				}
				l := commandLine{where: filepath.Base(file)}
				for _, a := range c.Args {
					l.args = append(l.args, strings.ReplaceAll(a, "$(POD_NAME)", doc.Metadata.Name+"-0"))
				}
				lines = append(lines, l)
			}
		}
	}
	return lines
}

// systemdLines are the units' ExecStart as systemd reads them: lines joined, specifiers and variables put in.
func systemdLines(t *testing.T) []commandLine {
	t.Helper()
	var lines []commandLine
	for unit, env := range map[string]string{"unitgate-control.service": "control.env", "unitgate-edge@.service": "edge.env"} {
		vars := map[string]string{}
		for _, m := range regexp.MustCompile(`(?m)^([A-Z_]+)=(.*)$`).FindAllStringSubmatch(string(read(t, "systemd/"+env)), -1) {
			vars[m[1]] = m[2]
		}
		text := strings.ReplaceAll(string(read(t, "systemd/"+unit)), "\\\n", " ")
		start := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/unitgate (.*)$`).FindStringSubmatch(text)
		if start == nil {
			t.Fatalf("%s starts no unitgate", unit)
		}
		l := commandLine{where: unit}
		for _, word := range strings.Fields(start[1]) {
			word = strings.NewReplacer("%d", "/run/credentials/x", "%S", "/var/lib", "%i", "a").Replace(word)
			if name, split := strings.CutPrefix(word, "$"); split && !strings.HasPrefix(name, "{") {
				l.args = append(l.args, strings.Fields(vars[name])...)
				continue
			}
			l.args = append(l.args, os.Expand(word, func(name string) string {
				if vars[name] == "" {
					t.Errorf("%s: %s is not in %s", unit, name, env)
				}
				return vars[name]
			}))
		}
		lines = append(lines, l)
		// What edge.env proposes as more flags.
		if more := regexp.MustCompile(`(?m)^# UNITGATE_FLAGS=(.*)$`).FindStringSubmatch(string(read(t, "systemd/"+env))); more != nil {
			lines = append(lines, commandLine{unit + " with UNITGATE_FLAGS", slices.Concat(l.args, strings.Fields(more[1]))})
		}
	}
	return lines
}
