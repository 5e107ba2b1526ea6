package events

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// Duration is a time.Duration whose JSON form is text: "30s".
type Duration time.Duration

// MarshalText writes "30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Policy is what a namespace decides for all its edges.
type Policy struct {
	Ownership string   `json:"ownership"` // "available" or "exclusive"
	Lease     Duration `json:"lease"`     // L of the lease protocol; used under "exclusive"
	Hold      Duration `json:"hold"`      // longest time a handshake of a fenced key waits
	CloseCode int      `json:"closeCode"` // close code of evictions, RFC 6455 section 7.4
	EvictRate int      `json:"evictRate"` // evictions a second and edge, unless the cutover says otherwise; 0: no limit
	Gate      Gate     `json:"gate,omitzero"`
}

// DefaultPolicy is what a namespace has before it says otherwise.
func DefaultPolicy() Policy {
	return Policy{Ownership: "available", Lease: Duration(30 * time.Second), Hold: Duration(5 * time.Second), CloseCode: 1012, EvictRate: 1000}
}

// UnitType is a way to split users: its own slots and rules.
type UnitType struct {
	Name  string `json:"name"`  // wire name in the unitType header
	Slots uint32 `json:"slots"` // number of slots, fixed once rules exist
	// Substring is the part of a routerId that counts for its slot, fixed once rules exist; exact IDs are whole ones.
	Substring routing.Part `json:"substring,omitzero"`
	RouterID  []string     `json:"routerId,omitempty"` // sources in order: "header:NAME", "cookie:NAME", "query:NAME", "path:N", "subprotocol"
	Unmarked  string       `json:"unmarked,omitempty"` // "local", "reject" or "split"
	Form      string       `json:"form,omitempty"`     // of routerIds: "normal", all spellings are one key, or "as-sent"; "": what is in force, for a new type "normal"
	Fold      string       `json:"fold,omitempty"`     // "lower": upper and lower case are the same, in normal form; "none"; "": what is in force
}

// Slotting is how the type's routerIds are dealt out to its slots.
func (t UnitType) Slotting() routing.Slotting {
	return routing.Slotting{Slots: t.Slots, Part: t.Substring}
}

// Unit is a region.
type Unit struct {
	ID     string `json:"id"`
	Name   string `json:"name,omitempty"`
	Center bool   `json:"center,omitempty"` // at most one unit is the center
}

// Cluster is a group of edges of one unit.
type Cluster struct {
	ID        string   `json:"id"`
	Unit      string   `json:"unit"`
	Protocol  string   `json:"protocol"`            // "websocket"
	Instances []string `json:"instances,omitempty"` // edge ids that may join; empty: any
}

// LoadBalancer is an address in front of a cluster.
type LoadBalancer struct {
	ID      string `json:"id"`
	Cluster string `json:"cluster"`
	Address string `json:"address"` // IP address or host name
}

// Domain is a host name that clients connect to, with everything that serves it.
type Domain struct {
	Host       string                `json:"host"`
	UnitType   string                `json:"unitType,omitempty"` // for clients that name none; "": the first
	Protocol   string                `json:"protocol"`           // "websocket"
	Scheme     string                `json:"scheme,omitempty"`   // of Location: auto, http, https, ws, wss, protocol-relative
	Correction string                `json:"correction,omitempty"`
	DNS        DNS                   `json:"dns"`
	Units      map[string]DomainUnit `json:"units"` // by unit id
	URIs       []URI                 `json:"uris"`
}

// DNS says who publishes the domain's names and its units' sub-domains, and where they lead.
type DNS struct {
	Provider  string `json:"provider,omitempty"`  // "none", "rfc2136" or "alidns"
	Zone      string `json:"zone,omitempty"`      // with a provider: the zone that holds all the names, without the root's dot
	MultiUnit bool   `json:"multiUnit,omitempty"` // the domain's own name leads to every unit, not only to the center
}

// DomainUnit is a domain's presence in one unit.
type DomainUnit struct {
	Subdomain string `json:"subdomain,omitempty"` // HOST or HOST:PORT; "": <unit>.<host>
	Cluster   string `json:"cluster"`             // the effective cluster
}

// URI gives a path prefix its origins.
type URI struct {
	Path           string             `json:"path"`                     // prefix on segment borders; the longest wins
	Origins        map[string]Origins `json:"origins"`                  // by unit id
	ConnectTimeout Duration           `json:"connectTimeout,omitempty"` // for one origin to accept; 0: as the edges are set
	ReplyTimeout   Duration           `json:"replyTimeout,omitempty"`   // for one to answer a handshake; 0: as the edges are set
	Health         *Health            `json:"health,omitempty"`         // nil: the origins are not probed
}

// Health is how every edge probes the origins of a URI in its unit, beside what the sessions' own handshakes tell. With
// Probe "none" the other fields are empty; else all that apply to it are set.
type Health struct {
	Probe    string   `json:"probe"`              // none, tcp: connect, or http: GET Path
	Path     string   `json:"path,omitempty"`     // of http; may have a query
	Host     string   `json:"host,omitempty"`     // of http: HOST or HOST:PORT that its Host field names; "": the domain's own name
	Expect   string   `json:"expect,omitempty"`   // status that http takes for healthy: 2xx-3xx, 2xx or any
	Interval Duration `json:"interval,omitempty"` // from one probe to the next
	Timeout  Duration `json:"timeout,omitempty"`  // of one probe
	Rise     int      `json:"rise,omitempty"`     // successes in a row that bring an origin up again
	Fall     int      `json:"fall,omitempty"`     // failures in a row that take it down
}

// Origins are HOST:PORT addresses; the JSON form is one string with commas between them.
type Origins []string

// MarshalText writes "10.0.0.1:9000,10.0.0.2:9000".
func (o Origins) MarshalText() ([]byte, error) { return []byte(strings.Join(o, ",")), nil }

// UnmarshalText splits at commas and drops spaces around them.
func (o *Origins) UnmarshalText(b []byte) error {
	*o = make(Origins, 0, bytes.Count(b, []byte(","))+1)
	for s := range strings.SplitSeq(string(b), ",") {
		*o = append(*o, strings.TrimSpace(s))
	}
	return nil
}

// RulesConfig is a rule set as the config file and the commands write it.
type RulesConfig struct {
	Ranges     map[string][]routing.Range `json:"ranges"`               // by unit id; together they cover every slot once
	Exact      map[string][]string        `json:"exact,omitempty"`      // by unit id; wins over ranges
	ExactDelta map[string]routing.Packed  `json:"exactDelta,omitempty"` // more of Exact, in the packed form that long lists travel in
}

// Config is the whole of a namespace as the config file describes it. Absent parts are left alone; an empty list is
// there, and under prune removes what it does not name.
type Config struct {
	Namespace     string                 `json:"namespace"`
	Policy        *PolicyPatch           `json:"policy,omitempty"`
	UnitTypes     []UnitType             `json:"unitTypes,omitzero"`
	Units         []Unit                 `json:"units,omitzero"`
	Clusters      []Cluster              `json:"clusters,omitzero"`
	LoadBalancers []LoadBalancer         `json:"loadBalancers,omitzero"`
	Domains       []Domain               `json:"domains,omitzero"`
	Hooks         *[]Hook                `json:"hooks,omitempty"` // the whole list; an empty one removes them all
	Rules         map[string]RulesConfig `json:"rules,omitempty"`
}

// PolicyPatch is a policy of which absent parts keep their value.
type PolicyPatch struct {
	Ownership *string   `json:"ownership,omitempty"`
	Lease     *Duration `json:"lease,omitempty"`
	Hold      *Duration `json:"hold,omitempty"`
	CloseCode *int      `json:"closeCode,omitempty"`
	EvictRate *int      `json:"evictRate,omitempty"`
	Gate      *Gate     `json:"gate,omitempty"` // replaced as a whole
}

// Over is p laid over the policy in force.
func (p *PolicyPatch) Over(in Policy) Policy {
	if p == nil {
		return in
	}
	b, err := json.Marshal(p)
	if err == nil {
		err = json.Unmarshal(b, &in) // absent keys leave in alone
	}
	if err != nil {
		panic(err) // both types are ours and have the same keys
	}
	return in
}
