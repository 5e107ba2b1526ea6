package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/integration/harness"
)

// backup is what `nats stream backup` keeps of a stream.
type backup struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
	chunks [][]byte
}

// takeBackup does what `nats stream backup` does.
func takeBackup(nc *nats.Conn, stream string) (b backup, err error) {
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return b, err
	}
	m, err := nc.Request("$JS.API.STREAM.SNAPSHOT."+stream, fmt.Appendf(nil, `{"deliver_subject":%q,"no_consumers":true,"chunk_size":65536}`, sub.Subject), recovers)
	if err == nil {
		err = answer(m, &b)
	}
	for err == nil {
		if m, err = sub.NextMsg(recovers); err != nil || len(m.Data) == 0 {
			break
		}
		if b.chunks = append(b.chunks, m.Data); m.Reply != "" { // now and then, so that a slow reader is not flooded
			err = m.Respond(nil)
		}
	}
	return b, err
}

// restore does what `nats stream restore` does.
func (b backup) restore(nc *nats.Conn, stream string) error {
	m, err := nc.Request("$JS.API.STREAM.RESTORE."+stream, fmt.Appendf(nil, `{"config":%s,"state":%s}`, b.Config, b.State), recovers)
	if err != nil {
		return err
	}
	var to struct {
		Subject string `json:"deliver_subject"`
	}
	if err := answer(m, &to); err != nil {
		return err
	}
	for _, chunk := range append(b.chunks, nil) {
		if m, err = nc.Request(to.Subject, chunk, recovers); err != nil {
			return err
		}
	}
	return answer(m, &struct{}{})
}

func answer(m *nats.Msg, into any) error {
	var failed struct {
		Error *struct{ Description string } `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &failed); err != nil {
		return err
	}
	if failed.Error != nil {
		return errors.New(failed.Error.Description)
	}
	return json.Unmarshal(m.Data, into)
}

// TestDeployedBackup loses every server of the single-node config and comes back from a backup that the admin's user took:
// the journal is the same one, with every record, and an edge goes on from its own directory as the edge that it was.
func TestDeployedBackup(t *testing.T) {
	t.Parallel()
	d := startDeployed(t, "single.conf", 1, 0)
	admin, addr, state := freeAddr(t), freeAddr(t), t.TempDir()
	edge := func(url string) *harness.Process {
		return harness.Start(t, "edge", "--nats", url, "--nkey", d.keys.Seed("edge-center"), "-n", "shop", "--unit", "center", "--cluster", "ws-center",
			"--listen", addr, "--state-dir", state, "--admin", admin, "--drain-time", "0s")
	}
	alive := func(api harness.API, before []harness.Edge) (edges []harness.Edge) {
		t.Helper()
		harness.Eventually(t, recovers, "the edge serves at the head", func() bool {
			edges = nil
			r := api.Run(t, "get", "edges")
			return r.Code == 0 && json.Unmarshal([]byte(r.Stdout), &edges) == nil && len(edges) == 1 && edges[0].Live && edges[0].Applied == edges[0].Head &&
				(before == nil || edges[0].ID == before[0].ID && edges[0].Applied > before[0].Applied)
		})
		return edges
	}
	running := edge(d.NATS)
	before := alive(d.API, nil)
	records := d.head(t)
	saved, err := takeBackup(d.connect(t, "admin", nil), "UNITGATE_shop")
	if err != nil {
		t.Fatal(err)
	}

	running.Stop(t)
	for _, c := range d.controls {
		c.Kill()
	}
	d.nats.Server("n1").Kill()
	config, err := filepath.Abs("../deployments/nats/single.conf")
	if err != nil {
		t.Fatal(err)
	}
	d.nats = harness.StartDeployed(t, config, 1, d.keys) // with an empty directory
	d.System.API = d.as("operator")
	if err := saved.restore(d.connect(t, "admin", nil), "UNITGATE_shop"); err != nil {
		t.Fatal(err)
	}
	if head := d.head(t); head != records {
		t.Errorf("the journal is restored with %d of %d records", head, records)
	}
	harness.Start(t, "control", "--nats", d.NATS, "--nkey", d.keys.Seed("control"))
	edge(d.NATS)
	alive(d.API, before) // more than before: a driver took office
	d.as("observer").Run(t, "journal", "verify").OK(t)
	d.Run(t, "queue", "unit.put", `{"id":"unsh"}`, "--wait").OK(t)
}
