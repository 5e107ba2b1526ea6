package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/unitgate/unitgate/"

// goPackage is what the rules look at: the non-test part of one package of ours.
type goPackage struct {
	ImportPath string
	Name       string
	Dir        string
	Imports    []string
	GoFiles    []string
}

// place is where the package stands in the repository: "edge/relay".
func (p goPackage) place() string { return strings.TrimPrefix(p.ImportPath, module) }

// An onlyRule lists all that some packages may import besides the standard library.
type onlyRule struct {
	packages []string
	allowed  []string
	reason   string
}

// A confinedRule names the only packages that may import something.
type confinedRule struct {
	imports []string
	to      []string
	reason  string
}

// A neverRule forbids imports from one part of the tree to another.
type neverRule struct {
	from, except []string
	imports      []string
	reason       string
}

// Patterns name a package, or with a trailing /... a package and all below it.
// Packages of ours are written without the module path.
var (
	onlyRules = []onlyRule{
		{[]string{"events/routing"}, []string{"golang.org/x/text/unicode/norm"},
			"rule tables are proved and replayed anywhere, so they depend on nothing that can change under them"},
		{[]string{"events"}, []string{"events/routing"},
			"the core is a pure fold: the same code runs in controllers, edges, the CLI's time travel and simulation"},
		{[]string{"edge/handshake"}, []string{"events", "events/routing"},
			"a verdict is a function of request and table, so that it can be fuzzed and agrees under any split"},
		{[]string{"edge/origin"}, nil,
			"which origin a session goes to follows from reports and times that come in, so that every history can be tested"},
		{[]string{"edge/session"}, []string{"edge/handshake", "events", "events/routing"},
			"the registry plans evictions and touches no socket, so that its owner can be any poller"},
	}
	confinedRules = []confinedRule{
		{[]string{"github.com/lesismal/nbio/..."}, []string{"edge/relay", "integration/bench/..."},
			"its traps (see decision record 0002) are worked around in one place"},
		{[]string{"github.com/nats-io/..."},
			[]string{"events/bus", "events/journal/...", "services/command", "services/cutover", "services/projector", "services/reading", "services/unitgate/...", "edge/agent", "integration/...", "deployments/keys"},
			"the bus is an edge of the system: the rest speaks commands and events"},
		{[]string{"github.com/pires/go-proxyproto/..."}, []string{"edge/front"},
			"who is believed about a client's address is decided in one place"},
		{[]string{"golang.org/x/time/..."}, []string{"edge/limit", "services/command"},
			"limits are counted in one place of each program: clients', which the pollers share, and edges' commands"},
		{[]string{"github.com/libdns/...", "github.com/miekg/dns"}, []string{"services/dns"},
			"who publishes names is one package's affair, behind interfaces that every provider has"},
		{[]string{"github.com/choria-io/fisk/..."}, []string{"services/unitgate/..."},
			"only the main has a command line"},
		{[]string{"github.com/prometheus/..."}, []string{"services/telemetry/...", "integration/..."},
			"everyone may measure by OpenTelemetry's API, one place decides who is shown what"},
		{[]string{"go.opentelemetry.io/otel/sdk/...", "go.opentelemetry.io/otel/exporters/...", "go.opentelemetry.io/contrib/...", "go.opentelemetry.io/proto/..."}, []string{"services/telemetry/...", "integration/..."},
			"everyone may emit by the API, one place decides where it goes"},
		{[]string{"go.opentelemetry.io/otel"}, []string{"services/telemetry"},
			"it is nothing but global providers: code that emits is handed one by its configuration"},
		{[]string{"github.com/go-logr/logr/..."}, []string{"services/telemetry"},
			"logs are slog's: logr is what OpenTelemetry's SDK writes its own to"},
		{[]string{"github.com/coder/websocket/..."}, []string{"services/unitgate/...", "integration/..."},
			"the data path is a tunnel of bytes: only a client or an origin speaks WebSocket"},
		{[]string{"testing", "testing/..."}, []string{"integration/...", "events/journal/journaltest", "edge/certs/certstest"},
			"the product does not carry its tests"},
	}
	neverRules = []neverRule{
		{from: []string{"edge/..."}, imports: []string{"services/..."},
			reason: "edge and services are two programs that share only events; the main assembles both"},
		{from: []string{"services/..."}, except: []string{"services/unitgate/..."}, imports: []string{"edge/..."},
			reason: "edge and services are two programs that share only events; the main assembles both"},
		{from: []string{"events/..."}, imports: []string{"edge/...", "services/..."},
			reason: "the core knows nobody who uses it"},
		{from: []string{"events/...", "edge/...", "services/..."}, imports: []string{"integration/..."},
			reason: "tests look at the product from outside, it does not look back"},
		{from: purePackages,
			imports: []string{"os/...", "syscall", "math/rand/...", "crypto/rand", "log/...", "golang.org/x/sys/...", "golang.org/x/net/...", "golang.org/x/time/..."},
			reason:  pureReason},
		{from: []string{"events"}, imports: []string{"sync/..."},
			reason: "it starts no goroutine and shares nothing that changes: CI runs it without the race detector"},
	}
	purePackages = []string{"events", "events/routing", "edge/handshake", "edge/session"}
	// pureNames are all that pure packages may take from packages that also do input and output.
	pureNames = map[string]*regexp.Regexp{
		"net":      regexp.MustCompile(`^(SplitHostPort|JoinHostPort|Parse\w+|IP\w*|CIDRMask)$`),
		"net/http": regexp.MustCompile(`^(Status\w+|Method\w+|Header|CanonicalHeaderKey)$`),
		"time":     regexp.MustCompile(`^(Duration|Time|Month|Weekday|(Nano|Micro|Milli)?[Ss]econd|Minute|Hour|RFC\w+|Parse\w*|Unix\w*|Date|UTC)$`),
	}
	vagueNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "lib"}
)

const (
	maxLines   = 500
	pureReason = "no input or output, no clock, no randomness: what happens depends on the arguments alone"
)

func TestLayout(t *testing.T) {
	packages := listPackages(t)
	if len(packages) < 5 {
		t.Fatalf("go list found %d packages only, so this test would prove nothing", len(packages))
	}
	for _, p := range packages {
		for _, complaint := range complaints(p) {
			t.Error(complaint)
		}
		for _, file := range p.GoFiles {
			if matches(purePackages, p.place()) {
				for _, name := range impureNames(t, filepath.Join(p.Dir, file), nil) {
					t.Errorf("%s/%s uses %s: %s", p.place(), file, name, pureReason)
				}
			}
			if n := handWrittenLines(t, filepath.Join(p.Dir, file)); n > maxLines {
				t.Errorf("%s/%s has %d lines, more than %d: split it by what its parts own", p.place(), file, n, maxLines)
			}
		}
	}
}

// TestLayoutRulesBite plants one violation for each rule: a rule that cannot fail proves nothing.
func TestLayoutRulesBite(t *testing.T) {
	planted := []struct{ pkg, imports, want string }{
		{"events/routing", "github.com/google/uuid", "rule tables"},
		{"events/routing", module + "events", "rule tables"},
		{"events", module + "events/journal", "pure fold"},
		{"events", "os", "no input or output"},
		{"events", "sync", "without the race detector"},
		{"events", "sync/atomic", "without the race detector"},
		{"edge/handshake", module + "edge/session", "a function of request and table"},
		{"edge/session", "golang.org/x/sys/unix", "no input or output"},
		{"edge/agent", "github.com/lesismal/nbio", "worked around in one place"},
		{"edge/relay", "github.com/nats-io/nats.go", "the bus"},
		{"edge/relay", "github.com/pires/go-proxyproto", "who is believed"},
		{"edge/relay", "golang.org/x/time/rate", "limits are counted"},
		{"services/console", "github.com/choria-io/fisk", "command line"},
		{"edge/relay", "go.opentelemetry.io/otel/sdk/trace", "the API"},
		{"edge", "github.com/prometheus/client_golang/prometheus", "who is shown what"},
		{"services/unitgate/cli", "go.opentelemetry.io/otel", "global providers"},
		{"edge/relay", "github.com/coder/websocket", "a tunnel"},
		{"edge/relay", "testing", "does not carry its tests"},
		{"edge/agent", module + "services/command", "two programs"},
		{"edge", module + "services/unitgate", "two programs"},
		{"services/cutover", module + "edge/agent", "two programs"},
		{"events/journal", module + "edge", "knows nobody"},
		{"edge/session", "math/rand/v2", "no input or output"},
		{"services/command", module + "integration/harness", "from outside"},
		{"edge/common", "fmt", "says nothing"},
	}
	for _, v := range planted {
		p := goPackage{ImportPath: module + v.pkg, Name: filepath.Base(v.pkg), Imports: []string{v.imports}}
		if got := strings.Join(complaints(p), "\n"); !strings.Contains(got, v.want) {
			t.Errorf("%s importing %s: complaints %q do not mention %q", v.pkg, v.imports, got, v.want)
		}
	}
	fine := goPackage{ImportPath: module + "services/unitgate", Name: "main",
		Imports: []string{"os", module + "edge", module + "services/command", "github.com/nats-io/nats.go", "github.com/choria-io/fisk"}}
	if got := complaints(fine); len(got) > 0 {
		t.Errorf("the main may assemble both sides, but: %q", got)
	}
}

func TestPureNamesBite(t *testing.T) {
	source := `package p
import ("net"; h "net/http"; "time")
var a, b, c, d, e = net.JoinHostPort, h.StatusOK, time.Second, time.Now, net.Dial
func f() { h.Get("") }
`
	got := impureNames(t, "p.go", source)
	if want := []string{"time.Now", "net.Dial", "net/http.Get"}; !slices.Equal(got, want) {
		t.Errorf("impure names %q, want %q", got, want)
	}
}

// complaints says which rules a package breaks, each with its reason.
func complaints(p goPackage) []string {
	var out []string
	complain := func(imported, reason string) {
		out = append(out, fmt.Sprintf("%s imports %s: %s", p.place(), imported, reason))
	}
	for _, imported := range p.Imports {
		target := strings.TrimPrefix(imported, module)
		for _, r := range onlyRules {
			if matches(r.packages, p.place()) && !isStandard(imported) && !matches(r.allowed, target) {
				complain(target, r.reason)
			}
		}
		for _, r := range confinedRules {
			if matches(r.imports, target) && !matches(r.to, p.place()) {
				complain(target, r.reason)
			}
		}
		for _, r := range neverRules {
			if matches(r.from, p.place()) && !matches(r.except, p.place()) && matches(r.imports, target) {
				complain(target, r.reason)
			}
		}
	}
	if slices.Contains(vagueNames, p.Name) {
		out = append(out, fmt.Sprintf("package %s: the name %s says nothing of what it owns", p.place(), p.Name))
	}
	return out
}

// impureNames lists what a file takes from the packages of pureNames beyond the names allowed there.
// source is what parser.ParseFile takes.
func impureNames(t *testing.T, file string, source any) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	imported := map[string]string{} // local name to import path
	for _, spec := range parsed.Imports {
		importPath := strings.Trim(spec.Path.Value, `"`)
		local := path.Base(importPath)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		imported[local] = importPath
	}
	var out []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := selector.X.(*ast.Ident); ok {
			importPath := imported[x.Name]
			if allowed := pureNames[importPath]; allowed != nil && !allowed.MatchString(selector.Sel.Name) {
				out = append(out, importPath+"."+selector.Sel.Name)
			}
		}
		return true
	})
	return out
}

func matches(patterns []string, place string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
			return place == tree || strings.HasPrefix(place, tree+"/")
		}
		return place == pattern
	})
}

// isStandard tells by the first path element, which has a dot in every module's path.
func isStandard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Dir,Imports,GoFiles", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list's answer: %v", err)
		}
		packages = append(packages, p)
	}
}

// generated is the marker that the go command itself goes by (go help generate).
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// handWrittenLines counts a file's lines, 0 for a generated one.
func handWrittenLines(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if generated.Match(text) {
		return 0
	}
	return bytes.Count(text, []byte("\n"))
}
