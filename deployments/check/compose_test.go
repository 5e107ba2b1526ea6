package check

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

// loadCompose reads the compose file as docker compose does; its schema refuses unknown keys.
func loadCompose(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"}, cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCompose(t *testing.T) {
	p := loadCompose(t)
	edges := 0
	for name, s := range p.Services {
		if s.Build == nil && (!strings.Contains(s.Image, ":") || strings.HasSuffix(s.Image, ":latest")) && s.Image != "unitgate" {
			t.Errorf("%s: image %q has no tag that stays", name, s.Image)
		}
		for _, port := range s.Ports {
			if ip, err := netip.ParseAddr(port.HostIP); err != nil || !ip.IsLoopback() {
				t.Errorf("%s: port %d is published on %q, not on loopback", name, port.Target, port.HostIP)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				if _, known := p.Volumes[v.Source]; !known {
					t.Errorf("%s: volume %q is not declared", name, v.Source)
				}
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
			if !v.ReadOnly {
				t.Errorf("%s may write to %s of this machine", name, v.Source)
			}
		}
		for on := range s.DependsOn {
			if _, known := p.Services[on]; !known {
				t.Errorf("%s depends on %q, which is no service", name, on)
			}
		}
		if len(s.Command) > 0 && s.Command[0] == "edge" {
			edges++
			if s.StopGracePeriod == nil || s.HealthCheck == nil {
				t.Errorf("%s: no grace period or no health check", name)
			}
		}
	}
	if edges != 4 {
		t.Errorf("%d edges, want two for each of two units", edges)
	}
}

// TestComposeIsScraped: Prometheus' targets are the services that have metrics, at the address of their --admin.
func TestComposeIsScraped(t *testing.T) {
	text, err := os.ReadFile("../observability/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Jobs []struct {
			Static []struct {
				Targets []string `json:"targets"`
			} `json:"static_configs"`
		} `json:"scrape_configs"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, job := range config.Jobs {
		for _, s := range job.Static {
			for _, target := range s.Targets {
				targets[target] = true
			}
		}
	}
	for name, s := range loadCompose(t).Services {
		for i, arg := range s.Command {
			if arg == "--admin" {
				target := name + s.Command[i+1][strings.LastIndexByte(s.Command[i+1], ':'):]
				if !targets[target] {
					t.Errorf("%s is not scraped", target)
				}
				delete(targets, target)
			}
		}
	}
	if len(targets) > 0 {
		t.Errorf("nobody is at %v", targets)
	}
}

// TestComposeIsStrict: what the parser lets pass would prove nothing.
func TestComposeIsStrict(t *testing.T) {
	text, err := os.ReadFile("../compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][2]string{
		{"restart: unless-stopped\n", "restrat: unless-stopped\n"},
		{"volumes:\n  keys:\n", "volumes:\n  keys:\n  keys:\n"},
		{"start_period: 30s", "start_period: [30s]"},
	} {
		file := t.TempDir() + "/compose.yaml"
		broken := strings.Replace(string(text), wrong[0], wrong[1], 1)
		if broken == string(text) {
			t.Fatalf("the file has no %q", wrong[0])
		}
		if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		options, err := cli.NewProjectOptions([]string{file})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := options.LoadProject(context.Background()); err == nil {
			t.Errorf("%q passes", wrong[1])
		}
	}
}
