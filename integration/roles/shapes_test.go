package roles_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// What a role may say and nobody would refuse, as it should be: the fuzzer changes it
// from there. Where a role may change something by right (an operator retires an edge, an
// edge leaves), what is said here names what does not exist, so that every change of it
// does as well: "zz-…".

type object = map[string]any

// shape makes the body for a subject, nil if there is none.
func (s *speaker) shape(subject string) []byte {
	tokens := strings.Split(subject, ".")
	var v any
	switch {
	case strings.HasPrefix(subject, "unitgate.edge.") && len(tokens) == 6:
		v = s.edgeShape(tokens[3], tokens[4], tokens[5])
	case (tokens[1] == "api" || tokens[1] == "cmd") && tokens[0] == "unitgate" && len(tokens) == 5:
		v = s.envelope(s.command(tokens[3], tokens[4]))
	case strings.HasPrefix(subject, "unitgate.journal."):
		v = s.reading()
	case subject == "unitgate.namespaces":
		v = object{}
	case strings.HasPrefix(subject, "$JS.API."):
		v = s.api(subject, tokens[2:])
	}
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it is made of maps and strings
	}
	return b
}

// envelope is a command with its circumstances.
func (s *speaker) envelope(data object) object {
	e := object{"data": data}
	if s.rng.IntN(2) == 0 {
		e["id"] = s.uuid()
	}
	if s.rng.IntN(3) == 0 { // an id that was there before
		e["id"] = s.usual
	}
	e["actor"] = pick(s.rng, []string{"fuzz", "driver", "", "a\u202eb", "ops@host", strings.Repeat("x", 300)})
	return e
}

func (s *speaker) uuid() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(s.rng.IntN(256))
	}
	return uuid.UUID(b).String()
}

// command is the data of a command that is refused, or of a question.
func (s *speaker) command(entity, verb string) object {
	const none = "zz-no-such-name"
	cutover := object{"cutover": none}
	switch entity + "." + verb {
	case "cutover.show":
		return object{"cutover": pick(s.rng, []string{"c1", "c2", none})}
	case "cutover.preview":
		return pick(s.rng, []object{
			{"unitType": none, "drain": "unbj"}, {"drain": none}, {"ranges": object{"center": []string{"0-9999"}, none: []string{"0-1"}}},
			{"exact": object{none: []string{"1"}}}, {"ranges": object{"center": []string{"0-5"}}, "waves": 1 << 30}, {},
		})
	case "cutover.skip", "cutover.retry":
		return object{"cutover": none, "check": "edges-at-head", "reason": "fuzz"}
	case "config.apply":
		return object{"base": 999999999, "config": object{"namespace": namespace}}
	case "namespace.create":
		return object{"policy": object{"hold": "5s"}}
	case "rules.init":
		return object{"unitType": none, "ranges": object{"center": []string{"0-9999"}}}
	case "unit.put":
		return object{"id": "ZZ no id", "name": "fuzz"}
	case "cluster.put":
		return object{"id": "zz", "unit": none, "protocol": "websocket"}
	case "loadbalancer.put":
		return object{"id": "ZZ no id", "cluster": none}
	case "domain.put":
		return object{"host": "zz.example.com", "unitType": none}
	case "domain.activate", "domain.deactivate", "domain.remove":
		return object{"host": "zz-no-such.example.com", "force": true, "reason": "fuzz"}
	case "edge.retire":
		return object{"id": none, "reason": "fuzz"}
	case "edge.join":
		return s.join(s.foreign())
	case "edge.leave":
		return s.leave(s.foreign())
	case "driver.takeoffice":
		return object{"term": 99, "holder": s.uuid(), "key": strings.Repeat("ab", 32)}
	case "wave.fence", "wave.commit":
		return object{"cutover": "c1", "wave": 0, "term": 1}
	}
	if entity == "cutover" {
		return cutover
	}
	return object{"id": none}
}

// foreign is an edge that the role does not speak for.
func (s *speaker) foreign() string {
	for {
		if id := pick(s.rng, s.lab.words.edges); id != s.stolen {
			return id
		}
	}
}

// join is what an edge says when it joins: in the place of one that is there, with a key
// of its own, or as one that nobody knows, in a unit that is not the role's.
func (s *speaker) join(id string) object {
	unit := s.lab.unitOf(id)
	if unit == "" {
		if unit = pick(s.rng, s.lab.words.units); unit == s.role.unit {
			unit = "zz-no-such-unit"
		}
	}
	return object{
		"id": id, "directory": s.uuid(), "unit": unit, "cluster": "ws-" + unit, "address": fmt.Sprintf("127.0.0.1:%d", 1024+s.rng.IntN(60000)),
		"key": fmt.Sprintf("%064x", s.rng.Uint64()),
	}
}

func (s *speaker) leave(id string) object {
	return object{"id": id, "directory": s.uuid()}
}

// edgeShape is what an edge says, and what it is asked.
func (s *speaker) edgeShape(unit, id, what string) any {
	switch what {
	case "join":
		o := s.join(id)
		if s.rng.IntN(2) == 0 {
			o["unit"], o["cluster"] = unit, "ws-"+unit
		}
		return o
	case "leave":
		return s.leave(id)
	case "report", "lease":
		return s.report(unit, id)
	case "sessions":
		return pick(s.rng, []object{
			{"unitType": "unit_type", "slots": []string{"0-9999"}}, {"routerId": "6249"}, {"domains": []string{domain}}, {},
			{"unitType": "unit_type", "slots": slices.Repeat([]string{"0-9999"}, 1+s.rng.IntN(200))},
		})
	case "read":
		return s.reading()
	case "evict":
		return object{"routerId": "zz-no-such-user", "actor": "fuzz", "reason": "fuzz"}
	case "probe":
		return object{"origins": []string{"127.0.0.1:1"}}
	case "handshake":
		return object{"services": []object{{"host": domain, "path": "/"}}}
	case "cutover":
		return object{"cutover": "c1"}
	}
	return object{}
}

// reading is a question about the journal.
func (s *speaker) reading() object {
	return pick(s.rng, []object{
		{}, {"after": 0}, {"after": s.rng.IntN(60)}, {"after": uint64(1) << 63}, {"outcome": s.uuid()}, {"outcome": "*.>"},
		{"find": object{"entity": "unit", "verb": "put", "id": s.uuid()}}, {"find": object{"entity": "*", "verb": ">", "id": "*"}},
		{"after": 1, "find": object{}, "outcome": s.usual},
	})
}

// report says that all is drained, in the words of the newest report of that edge if one
// was heard.
func (s *speaker) report(unit, id string) object {
	r := object{
		"namespace": namespace, "edge": id, "unit": unit, "cluster": "ws-" + unit, "directory": s.uuid(), "incarnation": s.uuid(), "applied": 1 << 40, "stateHash": strings.Repeat("0", 64),
		"fences": []object{}, "sessions": object{}, "moved": []object{}, "nonce": s.rng.IntN(1 << 30), "held": "30s",
	}
	if heard, ok := s.lab.tap.newest(id); ok {
		_ = json.Unmarshal(heard.body, &r)
	}
	if fences, ok := r["fences"].([]any); ok {
		for _, f := range fences {
			if f, ok := f.(object); ok {
				f["drained"] = true
			}
		}
	}
	for _, claim := range []struct {
		name  string
		value any
	}{{"serial", 1 << 50}, {"applied", 1 << 40}, {"incarnation", s.uuid()}, {"nonce", 1 << 50}, {"edge", s.foreign()}} {
		if s.rng.IntN(4) == 0 {
			r[claim.name] = claim.value
		}
	}
	return r
}

// api is a call of JetStream.
func (s *speaker) api(subject string, call []string) any {
	switch strings.Join(call[:min(2, len(call))], ".") {
	case "STREAM.INFO":
		return pick(s.rng, []object{{}, {"subjects_filter": ">"}, {"deleted_details": true, "subjects_filter": ">", "offset": s.rng.IntN(1000)}})
	case "STREAM.LIST", "STREAM.NAMES", "STREAM.MSG":
		return pick(s.rng, []object{{"seq": s.rng.IntN(60)}, {"last_by_subj": "unitgate.evt.shop.>"}, {"seq": 1, "next_by_subj": ">"}, {"offset": 1 << 30}, {"subject": ">"}})
	case "DIRECT.GET":
		return pick(s.rng, []object{{"seq": 1, "batch": 1000, "next_by_subj": ">"}, {"last_by_subj": "x"}, {"multi_last": []string{">"}, "batch": 1 << 20}, {"seq": s.rng.IntN(60)}, {"batch": -1}})
	case "CONSUMER.CREATE":
		return s.consumer(call[len(call)-1])
	case "CONSUMER.MSG":
		return pick(s.rng, []object{{"batch": 1 + s.rng.IntN(200), "expires": int64(s.rng.IntN(3)) * 1e9, "idle_heartbeat": 1e8}, {"batch": 1 << 30, "expires": int64(1e18)}, {"no_wait": true, "batch": 1000, "max_bytes": 1}})
	case "CONSUMER.INFO", "CONSUMER.DELETE", "INFO":
		return object{}
	}
	if strings.HasPrefix(subject, "$JS.API.") {
		return object{}
	}
	return nil
}

// consumer is one of those that a role may wish for, most of them not what it should
// have.
func (s *speaker) consumer(name string) object {
	c := object{"name": name, "ack_policy": "none", "deliver_policy": "all", "inactive_threshold": 5e9, "mem_storage": true, "num_replicas": 1}
	for range s.rng.IntN(3) {
		odd := pick(s.rng, []object{
			{"durable_name": name}, {"inactive_threshold": int64(1 << 60)}, {"inactive_threshold": 0}, {"deliver_subject": pick(s.rng, s.sensitive())},
			{"deliver_subject": s.role.inbox + ".zz", "idle_heartbeat": 1e8, "flow_control": true}, {"filter_subject": ">"}, {"filter_subjects": slices.Repeat([]string{"unitgate.evt.>"}, 2000)},
			{"ack_policy": "explicit", "max_ack_pending": -1, "max_deliver": -1}, {"max_waiting": 1 << 30}, {"replay_policy": "original"}, {"mem_storage": false, "num_replicas": 5},
			{"metadata": object{"x": strings.Repeat("m", 100000)}}, {"deliver_policy": "by_start_sequence", "opt_start_seq": 1 << 40}, {"rate_limit_bps": 1}, {"headers_only": true}, {"max_batch": 1 << 30},
		})
		for k, v := range odd {
			c[k] = v
		}
	}
	return object{"stream_name": "UNITGATE_shop", "action": pick(s.rng, []string{"", "create", "update"}), "config": c}
}

// sensitive are subjects at which no role may write, by whatever way. Replies to a role
// are sent there in its name.
func (s *speaker) sensitive() []string {
	return []string{
		"unitgate.evt.shop.unit.put." + s.uuid(), "unitgate.outcome.shop." + s.uuid(), "unitgate.cmd.shop.unit.put", "unitgate.api.shop.cutover.start", "unitgate.beacon.shop",
		"unitgate.edge.shop.unbj.unbj-1.report", "unitgate.edge.shop.center.center-1.evict", "unitgate.edge.shop.center.center-1.lease", "$KV.UNITGATE_OFFICE.shop", "$KV.UNITGATE_SNAPSHOTS.shop.manifest",
		"$JS.API.STREAM.DELETE.UNITGATE_CMD", "$JS.API.STREAM.PURGE.UNITGATE_shop", "$JS.ACK.UNITGATE_CMD.x.1.1.1.1.1", "$SYS.REQ.SERVER.PING", "_INBOX.someone.else", "unitgate.live.shop.x",
	}
}

// newRand is a stream of numbers for one role.
func newRand(seed uint64, name string) *rand.Rand {
	h := uint64(14695981039346656037)
	for _, b := range []byte(name) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed, h))
}
