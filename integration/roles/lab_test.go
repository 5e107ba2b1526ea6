package roles_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/integration/harness"
)

const domain = "shop.example.com"

// lab is what all speakers know.
type lab struct {
	keys    *harness.Keys
	roles   []role
	members map[string]string // unit by id of the edges that there are
	words   vocabulary
	tap     *tap
	bombs   [][]byte
	seeds   map[string]ed25519.PrivateKey // by edge, of its state directory
}

var units = []string{"center", "unbj"}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{members: map[string]string{}, tap: &tap{}, bombs: bombs(), seeds: map[string]ed25519.PrivateKey{}}
	for _, u := range units {
		l.members[u+"-1"], l.members[u+"-2"] = u, u
	}
	l.words.units = append([]string{"zz-no-such-unit"}, units...)
	l.words.edges = append([]string{"center-9", "unbj-9", "zz-ghost"}, slices.Sorted(maps.Keys(l.members))...)
	for _, n := range events.Names() {
		l.words.commands = append(l.words.commands, [2]string{n.Entity, n.Verb})
	}
	l.words.commands = append(l.words.commands, [][2]string{
		{"cutover", "show"}, {"dns", "show"}, {"driver", "takeoffice"}, {"wave", "fence"}, {"wave", "commit"}, {"cutover", "complete"}, {"ownership", "establish"}, {"zz", "zz"},
	}...)
	l.keys, l.roles = readRoles(t, units, l.members)
	return l
}

// unitOf is the unit that an edge's id names, "" if it names none.
func (l *lab) unitOf(id string) string {
	unit, _, _ := strings.Cut(id, "-")
	if slices.Contains(units, unit) {
		return unit
	}
	return ""
}

// steal reads the seed of an edge's keys, as who has broken into its machine does.
func (l *lab) steal(t testing.TB, id, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "seed"))
	if direct := filepath.Join(dir, "seed"); err == nil && len(files) == 0 {
		files = []string{direct}
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if l.seeds[id], _, err = events.DeriveKeys(seed); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) signer(id string) ed25519.PrivateKey { return l.seeds[id] }

// edgeRole is the name of the key with which an edge signs in: its own, or its unit's.
func (l *lab) edgeRole(id string) string {
	if name := "edge-" + id; l.keys.Seed(name) != "" {
		return name
	}
	return "edge-" + l.members[id]
}

// tap hears what edges and operators say to the control plane, so that it can be said
// again.
type tap struct {
	mu    sync.Mutex
	heard []message
	last  map[string]message // the newest report by edge
}

const tapped = 512 // messages that are kept

// listen begins to hear, as the control plane does.
func (p *tap) listen(nc *nats.Conn) error {
	p.last = map[string]message{}
	for _, subject := range []string{"unitgate.api.shop.*.*", "unitgate.edge.shop.*.*.report", "unitgate.edge.shop.*.*.lease", "unitgate.edge.shop.*.*.join", "unitgate.edge.shop.*.*.leave"} {
		if _, err := nc.Subscribe(subject, p.hear); err != nil {
			return err
		}
	}
	return nc.Flush()
}

// hear keeps what comes from who has a right to it: the fuzzer's own words are not news.
func (p *tap) hear(m *nats.Msg) {
	if m.Reply == "" && !strings.HasSuffix(m.Subject, ".report") || len(m.Data) > 64<<10 || m.Header.Get(fuzzed) != "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	said := message{subject: m.Subject, header: m.Header, body: m.Data}
	if len(p.heard) == tapped {
		p.heard = p.heard[1:]
	}
	p.heard = append(p.heard, said)
	if tokens := strings.Split(m.Subject, "."); tokens[1] == "edge" && tokens[5] == "report" {
		p.last[tokens[4]] = said
	}
}

// some is something that was said, of what a role may say.
func (p *tap) some(r *rand.Rand, as role) (message, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range 20 {
		if len(p.heard) == 0 {
			break
		}
		m := pick(r, p.heard)
		if slices.ContainsFunc(as.may, func(pattern string) bool { return server.SubjectMatchesFilter(m.subject, pattern) }) {
			return m, true
		}
	}
	return message{}, false
}

// newest is an edge's newest report.
func (p *tap) newest(edge string) (message, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.last[edge]
	return m, ok
}
