package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// former is the last commit whose edges and controllers did not sign what they say.
const former = "1cc68c5"

// formerBinary is built once for all tests, in formerDir, which TestMain removes after the last.
var formerBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "unitgate-former")
	if err != nil {
		return "", err
	}
	formerDir = dir
	script := `set -e; git archive ` + former + ` | tar -x -C "$1"; cd "$1"; go build -buildvcs=false -o unitgate ./services/unitgate`
	cmd := exec.Command("sh", "-c", script, "sh", dir)
	cmd.Dir = ".." // an archive of a part of the tree would be one of that part
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), err
	}
	return filepath.Join(dir, "unitgate"), nil
})

var formerDir string

// upgrading is a namespace whose processes are replaced one after the other.
type upgrading struct {
	*harness.System
	t        *testing.T
	old      string // program of the former version
	config   harness.Config
	controls [2]*harness.Process
	dirs     map[string]string // state directories by unit
	edges    map[string]*harness.Process
	stays    []*harness.Client // whom no cutover moves, on unbj
	border   int
}

func (u *upgrading) program(isNew bool) string {
	if isNew {
		return harness.Binary(u.t)
	}
	return u.old
}

func (u *upgrading) startControl(i int, isNew bool) {
	u.t.Helper()
	if p := u.controls[i]; p != nil {
		p.Stop(u.t)
	}
	u.controls[i] = harness.StartProgram(u.t, "", u.program(isNew), "control", "--nats", u.NATS, "--admin", "127.0.0.1:0")
	p := u.controls[i]
	harness.Eventually(u.t, recovers, "the controller serves", func() bool { return strings.Contains(p.Stderr.String(), "control plane serves") })
}

// startEdge starts a unit's edge, with the state directory of the one before it.
func (u *upgrading) startEdge(unit harness.Unit, id string, isNew bool, flags ...string) {
	u.t.Helper()
	args := append([]string{
		"edge", "--nats", u.NATS, "-n", u.Namespace, "--unit", unit.ID, "--cluster", unit.Cluster(), "--listen", unit.Location, "--id", id, "--state-dir", u.dirs[unit.ID], "--admin", "127.0.0.1:0",
	}, flags...)
	u.edges[id] = harness.StartProgram(u.t, "", u.program(isNew), args...)
	harness.Eventually(u.t, 2*recovers, "edge "+id+" serves", func() bool {
		if !u.edges[id].Running() {
			u.t.Fatalf("edge %s has ended: %s", id, u.edges[id].Stderr)
		}
		for _, e := range u.Edges(u.t) {
			left, _ := strconv.ParseFloat(e.Lease, 64)
			if e.ID == id && e.Live && (u.config.Policy == "" || left > 0) {
				return true
			}
		}
		return false
	})
}

// cutover moves the border to and fro, and looks at who was moved and who was not.
func (u *upgrading) cutover(when string) {
	u.t.Helper()
	from := u.config.Units[1]
	u.border = 12379 - u.border // 5998 and 6381
	if u.border == 5998 {
		from = u.config.Units[0]
	}
	mover := harness.MustDial(u.t, harness.Handshake{Addr: from.Location, Host: u.Domain, RouterID: "6249"})
	id := u.Cutover(u.t, "preview", "--range", "center=0-"+strconv.Itoa(u.border-1), "--range", "unbj="+strconv.Itoa(u.border)+"-9999").ID
	if c := u.Cutover(u.t, "start", id, "--wait"); c.State != "completed" {
		u.t.Fatalf("%s: the cutover ended as %s: %+v", when, c.State, c)
	}
	if _, err := readToEnd(mover); err == nil || !strings.Contains(err.Error(), "moved to") {
		u.t.Errorf("%s: the moved session ends with %v", when, err)
	}
	for i, c := range u.stays {
		if err := c.Send("still here"); err != nil {
			u.t.Fatalf("%s: session %d was touched: %v", when, i, err)
		}
		if _, err := c.Read(recovers); err != nil {
			u.t.Fatalf("%s: session %d was touched: %v", when, i, err)
		}
	}
}

// TestUpgrade replaces controllers and edges of the version before signatures by this one's,
// in both orders, with a cutover at each step, in which the two versions work side by side.
// Sessions that no cutover moves live through all of it.
func TestUpgrade(t *testing.T) {
	harness.Long(t, "the former version is built")
	t.Parallel()
	old, err := formerBinary()
	if err != nil {
		harness.Missing(t, "the commit "+former+" cannot be built, which needs git and the history: "+err.Error()+"\n"+old)
	}
	for _, policy := range []string{"", "ownership: exclusive, lease: 15s"} {
		for _, order := range []string{"controllers first", "edges first"} {
			t.Run(order+" "+policy, func(t *testing.T) {
				u := &upgrading{t: t, old: old, dirs: map[string]string{}, edges: map[string]*harness.Process{}, border: 5998}
				seen := harness.NewRegister()
				u.config = twoUnits(t, seen)
				u.config.Namespace, u.config.Policy = "upgrade", policy
				for i := range u.config.Units {
					u.config.Units[i].Location = freeAddr(t)
					u.dirs[u.config.Units[i].ID] = t.TempDir()
				}
				center, unbj := u.config.Units[0], u.config.Units[1]
				u.System = &harness.System{API: harness.API{NATS: harness.StartNATS(t), Namespace: "upgrade"}, Domain: u.config.Domain}
				for i := range u.controls {
					u.startControl(i, false)
				}
				file := u.config.File(t)
				harness.Eventually(t, recovers, "the config is applied", func() bool { return u.Run(t, "apply", "-f", file, "--yes").Code == 0 })
				u.startEdge(center, "center-1", false)
				u.startEdge(unbj, "unbj-1", false)
				u.stay(unbj)
				u.cutover("all of the former version")

				controllers := func() {
					u.startControl(0, true)
					u.cutover("a controller of each version")
					u.startControl(1, true)
					u.cutover("new controllers")
				}
				edges := func() {
					u.startEdge(unbj, "unbj-2", true, "--take-over")
					u.stay(unbj)
					u.cutover("a new edge, and the former one that serves its sessions")
					u.edges["center-1"].Stop(t)
					u.startEdge(center, "center-1", true) // the same id and directory
					u.cutover("no former edge accepts")
				}
				if order == "edges first" {
					edges()
					controllers()
				} else {
					controllers()
					edges()
				}

				for _, program := range []string{u.old, harness.Binary(t)} { // G4: both read the same
					out, err := exec.Command(program, "journal", "verify", "--nats", u.NATS, "-n", "upgrade").CombinedOutput()
					if err != nil {
						t.Errorf("%s: %v\n%s", program, err, out)
					}
				}
				for _, c := range u.stays[:2] {
					c.Drop()
				}
				harness.Eventually(t, 2*recovers, "the former edge leaves with its last session", func() bool { return !u.edges["unbj-1"].Running() })
				if o := seen.Overlaps(); len(o) > 0 {
					t.Errorf("served by two units: %v", o)
				}
			})
		}
	}
}

// stay opens two sessions that no cutover moves.
func (u *upgrading) stay(unit harness.Unit) {
	u.t.Helper()
	for range 2 {
		id := strconv.Itoa(9000 + len(u.stays))
		u.stays = append(u.stays, harness.MustDial(u.t, harness.Handshake{Addr: unit.Location, Host: u.Domain, RouterID: id}))
	}
}
