package cli

import (
	"math"

	"github.com/choria-io/fisk"
	"github.com/choria-io/fisk/units"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/edge/relay"
)

// byDefault is a limit that was not given, and that there is all the same.
const byDefault = math.MinInt

// frontFlags are the flags for who may connect, and what of it reaches origins.
type frontFlags struct {
	proxies    string
	head       units.Base2Bytes
	drop, pass []string // names of header fields
}

func (f *frontFlags) add(cmd *fisk.CmdClause, e *edge.Config) {
	cmd.Flag("proxy-protocol", "addresses of load balancers, whose connections have to begin with a PROXY header (version 1 or 2); nobody else may send one").PlaceHolder("CIDR,…").StringVar(&f.proxies)
	addNumber(cmd, "max-connections", "most connections of clients, whatever becomes of them; more are answered with 503; not limited if not given", &e.Limits.Connections)
	addNumber(cmd, "max-connections-per-address", "most of them from one address (IPv6: one /64); more are answered with 429; not limited if not given", &e.Limits.PerAddress)
	e.Limits.HandshakesPerAddress = byDefault
	addNumber(cmd, "max-handshakes-per-address", "most connections of one address (IPv6: one /64) that are no sessions: in their handshake, or answered and not closed; more are answered with 429; if not given, a twentieth of the descriptors that the process may have, from 500 to 5000", &e.Limits.HandshakesPerAddress)
	addNumber(cmd, "max-rate", "most new connections in a second, as many of which may come at once; more are answered with 429; not limited if not given", &e.Limits.Rate)
	addNumber(cmd, "max-rate-per-address", "the same for one address (IPv6: one /64)", &e.Limits.RatePerAddress)
	cmd.Flag("max-head", "longest head of a request, from 8KiB to 256KiB; longer ones are answered with 431").Default("32KiB").PlaceHolder("SIZE").BytesVar(&f.head)
	cmd.Flag("drop-header", "a field of clients that no origin gets, as none gets X-Real-IP and others that say where a request came from; NAME-* stands for all that begin so; repeatable").PlaceHolder("NAME").StringsVar(&f.drop)
	cmd.Flag("pass-header", "one of those fields that origins get all the same, because a proxy in front of this edge sets it; repeatable").PlaceHolder("NAME").StringsVar(&f.pass)
}

func (f *frontFlags) check(e *edge.Config) error {
	if e.Limits.HandshakesPerAddress == byDefault {
		e.Limits.HandshakesPerAddress = limit.DefaultHandshakes(relay.Descriptors())
	}
	for _, n := range []struct {
		flag  string
		value int
	}{
		{"--max-connections", e.Limits.Connections}, {"--max-connections-per-address", e.Limits.PerAddress},
		{"--max-handshakes-per-address", e.Limits.HandshakesPerAddress},
		{"--max-rate", e.Limits.Rate}, {"--max-rate-per-address", e.Limits.RatePerAddress},
	} {
		if n.value < 0 {
			return usage("%s %d: want 1 or more, or 0 for no limit", n.flag, n.value)
		}
	}
	if f.head < handshake.SmallestHead || f.head > handshake.LargestHead {
		return usage("--max-head %s: want 8KiB to 256KiB", f.head)
	}
	e.MaxHead = int(f.head)
	var err error
	if e.Fields, err = handshake.NewFields(f.drop, f.pass); err != nil {
		return usage("--drop-header, --pass-header: %v", err)
	}
	if f.proxies == "" {
		return nil
	}
	if e.ProxyProtocol, err = front.ParseTrusted(f.proxies); err != nil {
		return usage("--proxy-protocol: %v", err)
	}
	return nil
}
