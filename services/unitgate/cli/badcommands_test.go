package cli_test

import (
	"slices"
	"strings"

	"github.com/unitgate/unitgate/events"
)

const (
	goodDomain = `{"host":"a.example","unitType":"unit_type","protocol":"websocket","scheme":"auto","correction":"redirect","dns":{"provider":"none"},` +
		`"units":{"center":{"subdomain":"c.a.example","cluster":"ws-hz-2"},"unbj":{"subdomain":"b.a.example","cluster":"ws-bj-2"}},` +
		`"uris":[{"path":"/","origins":{"center":"10.0.0.1:80"},"connectTimeout":"2s","health":{"probe":"http"}}]}`
	goodJoin = `{"id":"new-1","directory":"00000000-0000-4000-8000-000000000001","unit":"center","cluster":"ws-hz-2","address":"10.0.0.1:7101","capacity":10}`
)

// badCommands has some for every command that may be sent from outside. The demo has a cutover c1, proposed, and c2, aborted.
func badCommands() []badCommand {
	out := particularCommands()
	// What holds for the data of every command, whatever it is.
	for _, n := range events.Names() {
		name := n.Entity + "." + n.Verb
		out = append(out,
			badCommand{name, `{"nonsense":1}`, refusal{code: "unknown_field", field: "nonsense", text: "unknown key, known are"}},
			badCommand{name, `[]`, refusal{code: "bad_type", text: "[] is not an object"}},
			badCommand{name, `null`, refusal{code: "bad_type", field: "data", text: "null is no value"}},
		)
	}
	return out
}

// particularCommands are bad in a way of their own.
func particularCommands() []badCommand {
	return slices.Concat(badConfigCommands(), badEdgeCommands(), badCutoverCommands())
}

func badConfigCommands() []badCommand {
	long := strings.Repeat("x", 257)
	domain := func(old, new string, want refusal) badCommand {
		if strings.Count(goodDomain, old) != 1 {
			panic(old + " is not in the domain exactly once")
		}
		return badCommand{"domain.put", strings.Replace(goodDomain, old, new, 1), want}
	}
	return []badCommand{
		{"namespace.create", `{}`, refusal{code: "namespace_exists", text: "exists"}},
		{"namespace.create", `{"policy":{"hold":5}}`, refusal{code: "bad_type", field: "policy.hold", text: "5 is not a string"}},
		{"namespace.create", `{"unitTypes":[{"name":"t","slots":"10"}]}`, refusal{code: "bad_type", field: "unitTypes[0].slots", text: "whole number"}},
		{"config.apply", `{}`, refusal{code: "bad_value", field: "config.namespace", text: `the config is for ""`}},
		{"config.apply", `{"base":0,"config":{"namespace":"demo"}}`, refusal{code: "stale_version", field: "base", text: "plan again"}},
		{"config.apply", `{"base":18446744073709551616,"config":{"namespace":"demo"}}`, refusal{code: "bad_type", field: "base", text: "range of uint64"}},
		{"config.apply", `{"base":-1,"config":{"namespace":"demo"}}`, refusal{code: "bad_type", field: "base", text: "range of uint64"}},
		{"config.apply", `{"base":1,"config":{"namespace":"demo"}}`, refusal{code: "nothing_changes", text: "already as"}},
		{"config.apply", `{"base":1,"config":{"namespace":"other"}}`, refusal{code: "bad_value", field: "config.namespace", text: `for "other"`}},
		{"config.apply", `{"base":1,"config":{"namespace":"demo","units":[{"id":"A"}]}}`, refusal{code: "bad_name", field: "units[0].id", text: "a-z"}},
		{"config.apply", `{"base":1,"prune":true,"config":{"namespace":"demo","units":[{"id":"center","center":true}]}}`, refusal{code: "in_use", field: "clusters[ws-bj-2].unit", text: "cannot go"}},
		{"config.apply", `{"base":1,"prune":"yes","config":{"namespace":"demo"}}`, refusal{code: "bad_type", field: "prune", text: "true or false"}},
		{"unit.put", `{}`, refusal{code: "missing_field", field: "id", text: "an id is required"}},
		{"unit.put", `{"id":""}`, refusal{code: "missing_field", field: "id", text: "an id is required"}},
		{"unit.put", `{"id":"A"}`, refusal{code: "bad_name", field: "id", text: "want 1 to 63 of a-z"}},
		{"unit.put", `{"id":"a.b"}`, refusal{code: "bad_name", field: "id", text: "want 1 to 63 of a-z"}},
		{"unit.put", `{"id":"a\n"}`, refusal{code: "bad_name", field: "id", text: "want 1 to 63 of a-z"}},
		{"unit.put", `{"id":7}`, refusal{code: "bad_type", field: "id", text: "7 is not a string"}},
		{"unit.put", `{"id":null}`, refusal{code: "bad_type", field: "id", text: "null is no value"}},
		{"unit.put", `{"id":"a","id":"b"}`, refusal{code: "duplicate_field", field: "id", text: "twice"}},
		{"unit.put", `{"ID":"a"}`, refusal{code: "unknown_field", field: "ID", text: "known are id, name, center"}},
		{"unit.put", `{"id":"a","name":"` + long + `"}`, refusal{code: "bad_value", field: "name", text: "257 bytes"}},
		{"unit.put", `{"id":"a","name":"\u0000"}`, refusal{code: "bad_value", field: "name", text: "control characters"}},
		{"unit.put", `{"id":"a","center":1}`, refusal{code: "bad_type", field: "center", text: "true or false"}},
		{"unit.put", `{"id":"a","center":true}`, refusal{code: "center", field: "units[center].center", text: "center"}},
		{"unit.put", `{"id":"a","name":` + strings.Repeat("[", 2_000) + strings.Repeat("]", 2_000) + `}`, refusal{code: "bad_command", field: "data", text: "nested deeper than"}},
		{"cluster.put", `{"id":"ws"}`, refusal{code: "missing_field", field: "unit", text: "belongs to a unit"}},
		{"cluster.put", `{"id":"ws","unit":"mars"}`, refusal{code: "unknown_unit", field: "clusters[ws].unit", text: "mars"}},
		{"cluster.put", `{"id":"ws","unit":"center","protocol":"mqtt"}`, refusal{code: "unsupported", field: "protocol", text: "only websocket"}},
		{"cluster.put", `{"id":"ws","unit":"center","instances":"a"}`, refusal{code: "bad_type", field: "instances", text: "is not a list"}},
		{"cluster.put", `{"id":"ws","unit":"center","instances":["a","B"]}`, refusal{code: "bad_name", field: "instances[1]", text: "a-z"}},
		{"cluster.put", `{"id":"ws-hz-2","unit":"unbj"}`, refusal{code: "in_use", field: "clusters[ws-hz-2]", text: "ws-hz-2"}},
		{"loadbalancer.put", `{"id":"lb"}`, refusal{code: "missing_field", field: "cluster", text: "before a cluster"}},
		{"loadbalancer.put", `{"id":"lb","cluster":"mars","address":"10.0.0.1"}`, refusal{code: "unknown_cluster", field: "loadBalancers[lb].cluster", text: "mars"}},
		{"loadbalancer.put", `{"id":"lb","cluster":"ws-hz-2"}`, refusal{code: "bad_value", field: "address", text: "no IP address or host name"}},
		{"loadbalancer.put", `{"id":"lb","cluster":"ws-hz-2","address":"http://a/"}`, refusal{code: "bad_value", field: "address", text: "no IP address or host name"}},
		domain(`"a.example"`, `"A.example"`, refusal{code: "bad_name", field: "host", text: "no host name in lower case"}),
		domain(`"a.example"`, `"`+strings.Repeat("a.", 127)+`aa"`, refusal{code: "bad_name", field: "host", text: "no host name in lower case"}),
		domain(`"unit_type"`, `"mars"`, refusal{code: "unknown_unit_type", field: "domains[a.example].unitType", text: "mars"}),
		domain(`"protocol":"websocket"`, `"protocol":"tcp"`, refusal{code: "unsupported", field: "protocol", text: "only websocket"}),
		domain(`"auto"`, `"ftp"`, refusal{code: "bad_value", field: "scheme", text: "want auto"}),
		domain(`"redirect"`, `"hope"`, refusal{code: "bad_value", field: "correction", text: "want redirect"}),
		domain(`"none"`, `"phone"`, refusal{code: "bad_value", field: "dns.provider", text: "want none"}),
		domain(`"none"`, `"alidns"`, refusal{code: "missing_field", field: "dns.zone", text: "in which zone"}),
		domain(`"none"`, `"none","zone":"a.example"`, refusal{code: "bad_value", field: "dns.zone", text: "nobody is to publish"}),
		domain(`"none"`, `"rfc2136","zone":"b.example"`, refusal{code: "bad_value", field: "dns.zone", text: "does not lie in zone"}),
		domain(`"cluster":"ws-bj-2"`, `"cluster":"mars"`, refusal{code: "unknown_cluster", field: "domains[a.example].units.unbj.cluster", text: "mars"}),
		domain(`"cluster":"ws-bj-2"`, `"cluster":"ws-hz-2"`, refusal{code: "unknown_cluster", field: "domains[a.example].units.unbj.cluster", text: "ws-hz-2"}),
		domain(`,"cluster":"ws-bj-2"`, ``, refusal{code: "missing_field", field: "units.unbj.cluster", text: "effective cluster"}),
		domain(`"b.a.example"`, `"c.a.example"`, refusal{code: "duplicate_name", field: "units.unbj.subdomain", text: "already"}),
		domain(`"b.a.example"`, `"a b"`, refusal{code: "bad_value", field: "units.unbj.subdomain", text: "no host name"}),
		domain(`"b.a.example"`, `"unbj.websocket.localhost"`, refusal{code: "duplicate_name", field: "domains[websocket.localhost]", text: "a.example already"}),
		domain(`"path":"/"`, `"path":"chat"`, refusal{code: "bad_value", field: "uris[0].path", text: "no absolute path"}),
		domain(`"path":"/"`, `"path":"/a?b"`, refusal{code: "bad_value", field: "uris[0].path", text: "no absolute path"}),
		domain(`"10.0.0.1:80"`, `"10.0.0.1"`, refusal{code: "bad_value", field: "uris[0].origins.center", text: "HOST:PORT"}),
		domain(`"10.0.0.1:80"`, `"10.0.0.1:99999"`, refusal{code: "bad_value", field: "uris[0].origins.center", text: "HOST:PORT"}),
		domain(`"10.0.0.1:80"`, `["10.0.0.1:80"]`, refusal{code: "bad_type", field: "uris[0].origins.center", text: "not a string"}),
		domain(`{"center":"10.0.0.1:80"}`, `{"mars":"10.0.0.1:80"}`, refusal{code: "unknown_unit", field: "uris[0].origins.mars", text: "mars"}),
		domain(`"2s"`, `"2h"`, refusal{code: "bad_value", field: "uris[0].connectTimeout", text: "10ms to 1m"}),
		domain(`"2s"`, `2`, refusal{code: "bad_type", field: "uris[0].connectTimeout", text: "2 is not a string"}),
		domain(`"http"}`, `"icmp"}`, refusal{code: "bad_value", field: "uris[0].health.probe", text: "want none, tcp or http"}),
		domain(`"http"}`, `"http","rise":101}`, refusal{code: "bad_value", field: "uris[0].health.rise", text: "1 to 100"}),
		{"domain.activate", `{}`, refusal{code: "unknown_domain", field: "host", text: "no draft"}},
		{"domain.activate", `{"host":"mars.example"}`, refusal{code: "unknown_domain", field: "host", text: "mars.example"}},
		{"domain.activate", `{"host":"websocket.localhost"}`, refusal{code: "unknown_domain", field: "host", text: "no draft"}},
		{"domain.remove", `{"host":"mars.example"}`, refusal{code: "unknown_domain", field: "host", text: "no domain"}},
		{"domain.remove", `{"host":["a"]}`, refusal{code: "bad_type", field: "host", text: "not a string"}},
		{"domain.activate", `{"host":"websocket.localhost","force":true}`, refusal{code: "unknown_field", field: "force", text: "known are host"}},
		{"domain.deactivate", `{}`, refusal{code: "unknown_domain", field: "host", text: "domain"}},
		{"domain.deactivate", `{"host":"mars.example"}`, refusal{code: "unknown_domain", field: "host", text: "mars.example"}},
		{"domain.deactivate", `{"host":"websocket.localhost","force":true}`, refusal{code: "reason_missing", field: "reason", text: "reason"}},
		{"domain.deactivate", `{"host":"websocket.localhost","force":"yes"}`, refusal{code: "bad_type", field: "force", text: "true or false"}},
		{"domain.remove", `{"host":"websocket.localhost","force":true}`, refusal{code: "reason_missing", field: "reason", text: "reason"}},
		{"domain.remove", `{"host":"websocket.localhost","counted":[]}`, refusal{code: "unknown_field", field: "counted", text: "unknown key"}},
		{"unit.remove", `{}`, refusal{code: "unknown_unit", field: "id", text: "no unit"}},
		{"unit.remove", `{"id":"mars"}`, refusal{code: "unknown_unit", field: "id", text: "mars"}},
		{"unit.remove", `{"id":"unbj"}`, refusal{code: "in_use", field: "clusters[ws-bj-2].unit", text: "cannot go"}},
		{"cluster.remove", `{"id":"mars"}`, refusal{code: "unknown_cluster", field: "id", text: "mars"}},
		{"cluster.remove", `{"id":"ws-bj-2"}`, refusal{code: "in_use", field: "loadBalancers[slb-bj-1].cluster", text: "cannot go"}},
		{"loadbalancer.remove", `{"id":"mars"}`, refusal{code: "unknown_load_balancer", field: "id", text: "mars"}},
		{"loadbalancer.remove", `{"id":true}`, refusal{code: "bad_type", field: "id", text: "not a string"}},
		{"rules.init", `{"ranges":{"center":["0-9999"]},"exactDelta":{"center":"no base64"}}`, refusal{code: "bad_value", field: "exactDelta.center", text: "base64"}},
		{"rules.init", `{"ranges":{"center":["0-9999"]}}`, refusal{code: "rules_exist", text: "change through a cutover"}},
		{"rules.init", `{"unitType":"mars","ranges":{}}`, refusal{code: "unknown_unit_type", field: "unitType", text: "mars"}},
		{"rules.init", `{"ranges":{"center":["9-0"]}}`, refusal{code: "bad_range", field: "ranges.center[0]", text: "FROM not above TO"}},
		{"rules.init", `{"ranges":{"center":"0-9"}}`, refusal{code: "bad_type", field: "ranges.center", text: "not a list"}},
		{"rules.init", `{"ranges":{"center":[9]}}`, refusal{code: "bad_type", field: "ranges.center[0]", text: "not a string"}},
	}
}

func badEdgeCommands() []badCommand {
	join := func(old, new string, want refusal) badCommand {
		if strings.Count(goodJoin, old) != 1 {
			panic(old + " is not in the join exactly once")
		}
		return badCommand{"edge.join", strings.Replace(goodJoin, old, new, 1), want}
	}
	return []badCommand{
		join(`"new-1"`, `""`, refusal{code: "missing_field", field: "id", text: "an id is required"}),
		join(`"new-1"`, `"new.1"`, refusal{code: "bad_name", field: "id", text: "a-z"}),
		join(`"new-1"`, `"center-1"`, refusal{code: "edge_elsewhere", field: "id", text: "directory"}),
		join(`"00000000-0000-4000-8000-000000000001"`, `"/var/lib"`, refusal{code: "bad_value", field: "directory", text: "UUID"}),
		join(`"center"`, `"mars"`, refusal{code: "unknown_unit", field: "unit", text: "mars"}),
		join(`"ws-hz-2"`, `"mars"`, refusal{code: "unknown_cluster", field: "cluster", text: "mars"}),
		join(`"ws-hz-2"`, `"ws-bj-2"`, refusal{code: "unknown_cluster", field: "cluster", text: "ws-bj-2"}),
		join(`"10.0.0.1:7101"`, `"10.0.0.1"`, refusal{code: "bad_value", field: "address", text: "HOST:PORT"}),
		join(`10}`, `-1}`, refusal{code: "bad_value", field: "capacity", text: "0"}),
		join(`10}`, `1e400}`, refusal{code: "bad_type", field: "capacity", text: "whole number"}),
		join(`10}`, `10,"succeeds":"mars-1","succeedsDirectory":"00000000-0000-4000-8000-000000000002"}`, refusal{code: "unknown_edge", field: "succeeds", text: "mars-1"}),
		{"edge.leave", `{"id":"mars-1"}`, refusal{code: "unknown_edge", field: "id", text: "mars-1"}},
		{"edge.leave", `{"id":"center-1","directory":"00000000-0000-4000-8000-000000000001"}`, refusal{code: "edge_elsewhere", field: "id", text: "directory"}},
		{"edge.retire", `{"id":"center-1"}`, refusal{code: "reason_missing", field: "reason", text: "reason"}},
		{"edge.retire", `{"id":"mars-1","reason":"gone"}`, refusal{code: "unknown_edge", field: "id", text: "mars-1"}},
		{"edge.retire", `{"id":"center-1","reason":"a\nb"}`, refusal{code: "bad_value", field: "reason", text: "control characters"}},
	}
}

func badCutoverCommands() []badCommand {
	out := []badCommand{
		{"cutover.preview", `{}`, refusal{code: "missing_field", field: "ranges", text: "ranges"}},
		{"cutover.preview", `{"unitType":"mars","drain":"unbj"}`, refusal{code: "unknown_unit_type", field: "unitType", text: "mars"}},
		{"cutover.preview", `{"ranges":{"center":["0-9998"]}}`, refusal{code: "range_gap", field: "ranges", text: "9999"}},
		{"cutover.preview", `{"ranges":{"center":["0-9999"],"unbj":["5-6"]}}`, refusal{code: "range_overlap", field: "ranges", text: "5-6"}},
		{"cutover.preview", `{"ranges":{"center":["0-10000"]}}`, refusal{code: "bad_range", field: "ranges", text: "9999"}},
		{"cutover.preview", `{"ranges":{"mars":["0-9999"]}}`, refusal{code: "unknown_unit", field: "ranges.mars", text: "mars"}},
		{"cutover.preview", `{"ranges":{"center":["0-5997"],"unbj":["5998-9999"]}}`, refusal{code: "nothing_moves", text: "every"}},
		{"cutover.preview", `{"exact":{"mars":["1"]}}`, refusal{code: "unknown_unit", field: "exact.mars", text: "mars"}},
		{"cutover.preview", `{"exact":{"center":["a b"]}}`, refusal{code: "bad_router_id", field: "exact", text: "byte"}},
		{"cutover.preview", `{"exact":{"center":["a"],"unbj":["a"]}}`, refusal{code: "exact_conflict", field: "exact", text: "a"}},
		{"cutover.preview", `{"exact":{"center":[4001]}}`, refusal{code: "bad_type", field: "exact.center[0]", text: "not a string"}},
		{"cutover.preview", `{"exactDelta":{"center":"AQEHAA"}}`, refusal{code: "bad_value", field: "exactDelta.center", text: "base64"}},
		{"cutover.preview", `{"exactDelta":{"center":"AgEHAA=="}}`, refusal{code: "bad_value", field: "exactDelta.center", text: "version is 2"}},
		{"cutover.preview", `{"exactDelta":{"center":"AQEHAAA="}}`, refusal{code: "bad_value", field: "exactDelta.center", text: "follow"}},
		{"cutover.preview", `{"exactDelta":{"center":"Af////8P"}}`, refusal{code: "too_large", field: "exactDelta.center", text: "at most 100000"}},
		{"cutover.preview", `{"exactAddDelta":{"mars":"AQEHAA=="}}`, refusal{code: "unknown_unit", field: "exactAddDelta.mars", text: "mars"}},
		{"cutover.preview", `{"exactAdd":{"center":["7"]},"exactAddDelta":{"center":"AQEHAA=="}}`, refusal{code: "exact_conflict", field: "exactAddDelta.center", text: "both forms"}},
		{"cutover.preview", `{"exactRemove":{"center":["7"]}}`, refusal{code: "bad_value", field: "exactRemove.center", text: "7"}},
		{"cutover.preview", `{"drain":"unbj","exact":{"center":["7"]}}`, refusal{code: "bad_value", field: "drain", text: ""}},
		{"cutover.preview", `{"drain":"mars"}`, refusal{code: "unknown_unit", field: "drain", text: "mars"}},
		{"cutover.preview", `{"drain":"unbj","drainTo":"unbj"}`, refusal{code: "bad_value", field: "drainTo", text: "unbj"}},
		{"cutover.preview", `{"drain":"unbj","waves":101}`, refusal{code: "bad_value", field: "waves", text: "100"}},
		{"cutover.preview", `{"drain":"unbj","waves":"all"}`, refusal{code: "bad_type", field: "waves", text: "whole number"}},
		{"cutover.preview", `{"drain":"unbj","steps":[50,10,100]}`, refusal{code: "bad_steps", field: "steps[1]", text: "rise from 1 to 100"}},
		{"cutover.preview", `{"drain":"unbj","rate":0}`, refusal{code: "bad_value", field: "rate", text: "want max or a number"}},
		{"cutover.preview", `{"drain":"unbj","rate":"fast"}`, refusal{code: "bad_value", field: "rate", text: "want max or a number"}},
		{"cutover.preview", `{"drain":"unbj","gate":{"landed":200}}`, refusal{code: "bad_value", field: "gate.landed", text: "percentage"}},
		{"cutover.preview", `{"drain":"unbj","interval":"-5s"}`, refusal{code: "bad_value", field: "interval", text: "0"}},
		{"cutover.preview", `{"drain":"unbj","emergency":true}`, refusal{code: "reason_missing", field: "reason", text: "reason"}},
		{"cutover.preview", `{"drain":"unbj","counted":{"sessions":0}}`, refusal{code: "unknown_field", field: "counted", text: "unknown key"}},
		{"cutover.check", `{"cutover":"c1","checks":[]}`, refusal{code: "unknown_field", field: "checks", text: "unknown key"}},
		{"cutover.retry", `{"cutover":"c1","check":"weather"}`, refusal{code: "unknown_check", field: "check", text: "weather"}},
		{"cutover.retry", `{"cutover":"c2","check":"subdomains"}`, refusal{code: "wrong_state", text: "aborted"}},
		{"cutover.retry", `{"cutover":"c1"}`, refusal{code: "unknown_check", field: "check", text: "no precheck"}},
		{"cutover.skip", `{"cutover":"c1","reason":"x"}`, refusal{code: "missing_field", field: "check", text: "check"}},
		{"cutover.skip", `{"cutover":"c1","check":"edges-at-head"}`, refusal{code: "reason_missing", field: "reason", text: "reason"}},
		{"cutover.skip", `{"cutover":"c1","check":"weather","reason":"x"}`, refusal{code: "unknown_check", field: "check", text: "weather"}},
		{"cutover.skip", `{"cutover":"c1","edge":"center-1","reason":"x"}`, refusal{code: "wrong_state", text: "c1"}},
		{"cutover.start", `{"cutover":"c2"}`, refusal{code: "wrong_state", text: "aborted"}},
		{"cutover.start", `{"cutover":"c1","checks":[]}`, refusal{code: "unknown_field", field: "checks", text: "unknown key"}},
		{"cutover.pause", `{"cutover":"c1"}`, refusal{code: "wrong_state", text: "proposed"}},
		{"cutover.pause", `{"cutover":"c1","term":1}`, refusal{code: "unknown_field", field: "term", text: "unknown key"}},
		{"cutover.resume", `{"cutover":"c1"}`, refusal{code: "wrong_state", text: "proposed"}},
		{"cutover.abort", `{"cutover":"c2"}`, refusal{code: "wrong_state", text: "aborted"}},
		{"cutover.abort", `{"cutover":"c1","reason":"` + strings.Repeat("x", 257) + `"}`, refusal{code: "bad_value", field: "reason", text: "257 bytes"}},
		{"cutover.rollback", `{"cutover":"c1"}`, refusal{code: "wrong_state", text: "nothing of c1 is committed"}},
	}
	for verb, more := range map[string]string{
		"check": "", "retry": `,"check":"subdomains"`, "skip": `,"check":"subdomains","reason":"x"`, "start": "", "pause": "", "resume": "", "abort": "", "rollback": "",
	} {
		out = append(out,
			badCommand{"cutover." + verb, `{"cutover":"c99"` + more + `}`, refusal{code: "unknown_cutover", field: "cutover", text: "c99"}},
			badCommand{"cutover." + verb, `{"cutover":1}`, refusal{code: "bad_type", field: "cutover", text: "not a string"}})
	}
	// What the control plane alone may say, and what nobody says.
	for _, name := range []string{
		"driver.takeoffice", "wave.fence", "wave.commit", "wave.judge", "cutover.complete", "cutover.fail", "cutover.hook", "cutover.report",
		"ownership.establish", "command.refuse", "unit.explode", "config.applied",
	} {
		out = append(out, badCommand{name, `{}`, refusal{code: "bad_command", text: "there is no command " + name}})
	}
	return out
}

// badEnvelopes are bad in what stands around the data, or in where they are sent.
func badEnvelopes() []badCommand {
	form := func(body, field, code, text string) badCommand {
		return badCommand{"unit.put", body, refusal{code: code, field: field, text: text}}
	}
	return []badCommand{
		form(`{`, "", "bad_command", "not JSON"),
		form(`"unit"`, "", "bad_type", "not an object"),
		form(`{"data":{"id":"a"}} {}`, "", "bad_command", "something follows"),
		form(`{"data":{"id":"a"},"extra":1}`, "extra", "unknown_field", "known are id, actor, reason, data"),
		form(`{"data":{"id":"a"},"data":{"id":"b"}}`, "data", "duplicate_field", "twice"),
		form(`{"id":"7","data":{"id":"a"}}`, "id", "bad_id", "UUID"),
		form(`{"id":"6F1D6F5C-4A43-4A44-9A8C-3F0B7F6F2F10","data":{"id":"a"}}`, "id", "bad_id", "lower case"),
		form(`{"id":7,"data":{"id":"a"}}`, "id", "bad_type", "not a string"),
		form(`{"actor":"`+strings.Repeat("x", 257)+`","data":{"id":"a"}}`, "actor", "bad_value", "257 bytes"),
		form(`{"actor":"a\u001b[2J","data":{"id":"a"}}`, "actor", "bad_value", "control characters"),
		form(`{"reason":"a\nb","data":{"id":"a"}}`, "reason", "bad_value", "control characters"),
		form("{\"reason\":\"\xff\",\"data\":{\"id\":\"a\"}}", "", "bad_command", "no UTF-8"),
		form("{\"data\":{\"id\":\"a\x00\"}}", "data", "bad_command", "not JSON"),
		form(`{"data":{"id":"a"}}`, "actor", "missing_field", `put "actor":"NAME" beside "data"`),
		form(`{"actor":"driver","data":{"id":"a"}}`, "actor", "not_allowed", "a name of your own"),
		form(`{"actor":"a\u202eb","data":{"id":"a"}}`, "actor", "bad_value", "U+202E"),
		form(`{"reason":"a\u2028b","data":{"id":"a"}}`, "reason", "bad_value", "U+2028"),
		{"DEMO.unit.put", `{"data":{"id":"a"}}`, refusal{code: "bad_name", field: "namespace", text: "a-z"}},
		{"nobody.unit.put", `{"data":{"id":"a"}}`, refusal{code: "unknown_namespace", text: "nobody"}},
		{"nobody.cutover.show", `{"data":{"cutover":"c1"}}`, refusal{code: "unknown_namespace", text: "nobody"}},
		{"fresh.namespace.create", `{"data":{"policy":{"hold":"2h"}}}`, refusal{code: "bad_value", field: "policy.hold", text: "100ms to 1m"}},
		{"fresh.namespace.create", `{"data":{"unitTypes":[{"name":"t","slots":0}]}}`, refusal{code: "bad_slots", field: "unitTypes[0].slots", text: "want 1 to"}},
		{"fresh.config.apply", `{"data":{"base":0,"config":{"namespace":"other"}}}`, refusal{code: "bad_value", field: "config.namespace", text: "other"}},
		{"fresh.config.apply", `{"data":{"base":3,"config":{"namespace":"fresh"}}}`, refusal{code: "stale_version", field: "base", text: "at 0"}},
		{"demo.cutover.show", `{"data":{"cutover":"c99"}}`, refusal{code: "unknown_cutover", field: "cutover", text: "c99"}},
	}
}
