package roles_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/unitgate/unitgate/integration/harness"
)

const (
	deployed  = "../../deployments/nats/"
	namespace = "shop" // of accounts.conf
)

// role is a user of accounts.conf and what it may say and hear.
type role struct {
	name    string   // of its key: "edge-center"
	account string   // "EDGES"
	unit    string   // of an edge's role
	edge    string   // of a role that is one edge's alone
	may     []string // patterns of what it may publish
	deny    []string
	inbox   string // prefix of the inboxes that it may listen on
}

var keyVariable = regexp.MustCompile(`\$UNITGATE_NKEY_([A-Z0-9_]+)`)

// readRoles reads the shipped files as nats-server does, and makes keys for all users.
func readRoles(t testing.TB, units []string, edges map[string]string) (*harness.Keys, []role) {
	t.Helper()
	text, err := os.ReadFile(deployed + "accounts.conf")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range keyVariable.FindAllStringSubmatch(string(text), -1) {
		names = append(names, strings.ToLower(strings.ReplaceAll(m[1], "_", "-")))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	keys := harness.NewKeys(t, names...)
	env := append([]string{"NATS_SERVER_NAME=n1", "NATS_STORE_DIR=" + t.TempDir(), "NATS_ROUTES=[]"}, keys.Env...)
	byKey := map[string]string{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value) // the parser reads this process's environment
		byKey[value] = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "UNITGATE_NKEY_"), "_", "-"))
	}
	file, err := filepath.Abs(deployed + "single.conf")
	if err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var roles []role
	for _, u := range opts.Nkeys {
		if u.Account.Name == "CONTROL" { // it is whom the others speak to
			continue
		}
		r := role{name: byKey[u.Nkey], account: u.Account.Name, inbox: "_INBOX"}
		if u.Permissions == nil || u.Permissions.Publish == nil || len(u.Permissions.Publish.Allow) == 0 {
			t.Fatalf("%s may say everything", r.name)
		}
		r.may, r.deny = u.Permissions.Publish.Allow, u.Permissions.Publish.Deny
		for _, s := range u.Permissions.Subscribe.Allow {
			if prefix, ok := strings.CutSuffix(s, ".>"); ok && strings.HasPrefix(s, "_INBOX") {
				r.inbox = prefix
			}
		}
		if about, ok := strings.CutPrefix(r.name, "edge-"); ok {
			r.edge, r.unit = about, edges[about]
			if r.unit == "" {
				r.edge, r.unit = "", about
			}
			if !slices.Contains(units, r.unit) {
				t.Fatalf("%s is of no unit", r.name)
			}
		}
		roles = append(roles, r)
	}
	slices.SortFunc(roles, func(a, b role) int { return strings.Compare(a.name, b.name) })
	return keys, roles
}

// vocabulary is what stands in place of a wildcard.
type vocabulary struct {
	units, edges []string
	commands     [][2]string // entity, verb
}

// questions are what an edge is asked, and says.
var questions = []string{"report", "lease", "join", "leave", "status", "sessions", "evict", "probe", "handshake", "cutover", "nonsense"}

var streams = []string{"UNITGATE_shop", "KV_UNITGATE_SNAPSHOTS", "KV_UNITGATE_OFFICE", "UNITGATE_CMD", "UNITGATE_OUTCOME", "UNITGATE_other"}

// subject is one of those that a pattern stands for.
func (v *vocabulary) subject(r *rand.Rand, pattern string) string {
	tokens := strings.Split(pattern, ".")
	if strings.HasPrefix(pattern, "unitgate.api.") || strings.HasPrefix(pattern, "unitgate.cmd.") {
		c := pick(r, v.commands)
		for i, token := range c {
			if len(tokens) == 5 && tokens[3+i] == "*" {
				tokens[3+i] = token
			}
		}
	}
	for i, token := range tokens {
		switch token {
		case ">":
			tokens[i] = v.rest(r, tokens[:i])
		case "*":
			tokens[i] = v.token(r, tokens[:i])
		}
	}
	return strings.Join(tokens, ".")
}

// oddTokens may stand for every wildcard.
var oddTokens = []string{"zz-no-such", strings.Repeat("x", 200), "ünïcode", "%", "$", "-", "_INBOX", "0", "shop"}

// token is one that may stand behind these.
func (v *vocabulary) token(r *rand.Rand, before []string) string {
	if r.IntN(20) == 0 {
		return pick(r, oddTokens)
	}
	switch head, n := before[0]+"."+before[1], len(before); {
	case head == "unitgate.edge" && n >= 3 && n <= 5:
		return pick(r, [][]string{v.units, v.edges, questions}[n-3])
	case head == "$JS.API" && slices.Contains(streams, before[n-1]): // a consumer's name
		return "fuzz-" + strconv.Itoa(r.IntN(10_000))
	case head == "$JS.API" && r.IntN(2) == 0:
		return streams[0]
	case head == "$JS.API":
		return pick(r, streams)
	}
	return pick(r, oddTokens)
}

// rest is what may stand behind these, one token or more.
func (v *vocabulary) rest(r *rand.Rand, before []string) string {
	if strings.Join(before, ".") == "$JS.API.DIRECT.GET" {
		return pick(r, []string{
			"UNITGATE_shop", "UNITGATE_shop.unitgate.evt.shop.config.applied.x", "KV_UNITGATE_SNAPSHOTS.$KV.UNITGATE_SNAPSHOTS.shop.manifest",
			"KV_UNITGATE_SNAPSHOTS", "KV_UNITGATE_OFFICE.$KV.UNITGATE_OFFICE.shop",
		})
	}
	return pick(r, []string{"a", "a.b.c", "UNITGATE_shop", "shop"})
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }
