package roles_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// recovers is generous: two cores may be busy with other tests.
const recovers = time.Minute

// system is what deployments/nats describes, in processes: a server, two controllers, two
// units with two edges each.
type system struct {
	*harness.System
	lab      *lab
	nats     *harness.Cluster
	units    []harness.Unit
	controls []*process
	edges    []*process
	seen     *harness.Register
}

// process is one with an admin listener.
type process struct {
	*harness.Process
	id, addr, admin string
}

var adminLine = regexp.MustCompile(`msg="admin listener" addr=(\S+)`)

// startSystem starts it with a policy ("ownership: available").
func startSystem(t *testing.T, l *lab, policy string) *system {
	t.Helper()
	config, err := filepath.Abs(deployed + "single.conf")
	if err != nil {
		t.Fatal(err)
	}
	s := &system{lab: l, nats: harness.StartDeployed(t, config, 1, l.keys), seen: harness.NewRegister()}
	s.System = &harness.System{API: s.as("operator"), Domain: domain}
	for range 2 {
		admin := "127.0.0.1:" + strconv.Itoa(harness.FreePort(t))
		p := harness.Start(t, "control", "--nats", s.NATS, "--nkey", l.keys.Seed("control"), "--admin", admin)
		s.controls = append(s.controls, &process{Process: p, id: "control " + admin, admin: admin})
	}
	for i, unit := range units {
		s.units = append(s.units, harness.Unit{
			ID: unit, Range: []string{"0-5997", "5998-9999"}[i], Origins: []string{harness.StartOrigin(t, unit, s.seen, 0).Addr},
			Location: "127.0.0.1:" + strconv.Itoa(harness.FreePort(t)),
		})
	}
	s.apply(t, policy)
	for _, u := range s.units {
		for n := range 2 {
			addr := u.Location
			if n > 0 {
				addr = "127.0.0.1:" + strconv.Itoa(harness.FreePort(t))
			}
			id := u.ID + "-" + strconv.Itoa(n+1)
			e := s.StartEdge(t, id, u, addr, "--nkey", l.keys.Seed(l.edgeRole(id)))
			m := adminLine.FindStringSubmatch(e.Stderr.String())
			if m == nil {
				t.Fatalf("no admin listener in %s", e.Stderr)
			}
			s.edges = append(s.edges, &process{Process: e.Process, id: id, addr: addr, admin: m[1]})
			l.steal(t, id, e.StateDir())
			harness.Eventually(t, recovers, id+" admits", func() bool { // it may need a lease first
				c, _, err := harness.Dial(harness.Handshake{Addr: addr, Host: domain, RouterID: strings.Split(u.Range, "-")[0]})
				if c != nil {
					c.Drop()
				}
				return err == nil && c != nil
			})
		}
	}
	return s
}

// as is the command line as a role has it.
func (s *system) as(role string) harness.API {
	return harness.API{NATS: s.nats.URL, Namespace: namespace, Flags: []string{"--nkey", s.lab.keys.Seed(role)}}
}

// apply gives the namespace a policy, and the first time all the rest.
func (s *system) apply(t *testing.T, policy string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shop.yaml")
	text := "namespace: " + namespace + "\npolicy: {" + policy + "}\n"
	if len(s.edges) == 0 {
		text = harness.Config{Namespace: namespace, Domain: domain, Policy: policy, Units: s.units}.YAML()
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.try(t, "apply", "-f", file, "--yes")
}

// try gives a command until it is taken: a control plane that is asked too much may turn
// an operator away, but not for long.
func (s *system) try(t *testing.T, args ...string) harness.Result {
	t.Helper()
	var r harness.Result
	said := ""
	if !harness.Poll(recovers, func() bool {
		if r = s.Run(t, args...); r.Code != 0 && r.Stderr != said {
			said = r.Stderr
			t.Logf("%v: exit code %d: %s", args, r.Code, r.Stderr)
		}
		return r.Code == 0
	}) {
		t.Fatalf("%v: %s", args, r.Stderr)
	}
	return r
}

// event is one of the journal.
type event struct {
	Seq   uint64
	Type  string
	Actor string
	Data  json.RawMessage
}

// journal is all of it.
func (s *system) journal(t *testing.T) []event {
	t.Helper()
	var all []event
	r := s.as("observer").Run(t, "log").OK(t)
	for dec := json.NewDecoder(strings.NewReader(r.Stdout)); ; {
		var e event
		err := dec.Decode(&e)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
}

// get reads a page of an admin listener.
func (p *process) get(path string) (string, error) {
	response, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + p.admin + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return string(b), err
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak is the most memory that a process ever had, in bytes.
func (p *process) peak() (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/status")
	if err != nil {
		return 0, err
	}
	m := peakLine.FindStringSubmatch(string(text))
	if m == nil {
		return 0, os.ErrNotExist
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	return n << 10, err
}
