package main

import (
	"reflect"
	"slices"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// What the validation in package events asks of what comes from outside, as far as a schema can say it. A schema may allow
// more than the code, never less: TestSchemaRefusesNothingGood tries that, and TestEnumsAreThoseOfTheCode compares the texts.

// Forms, as events/validate.go has them.
const (
	idForm       = `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`
	unitTypeForm = `^[A-Za-z][A-Za-z0-9_-]{0,63}$`
	hostForm     = `^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`
	pathForm     = `^/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*$`
	sourceForm   = "^(header|cookie|query):[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$|^path:[1-9][0-9]?$|^subprotocol$"
)

// or allows the empty text, too, which means the same as to leave the key out.
func or(s *schema) *schema {
	if s.Enum != nil {
		s.Enum = append(s.Enum, "")
		return s
	}
	return &schema{AnyOf: []*schema{s, {Const: ""}}}
}

func long(s *schema, most int) *schema {
	s.MaxLength = most
	return s
}

func atMost(s *schema, items int) *schema {
	s.MaxItems = items
	return s
}

func id() *schema { return text(idForm) }

func ranges() *schema { return object(list(special(reflect.TypeFor[routing.Range]()))) }

// limitOf is the schema of a field that its type does not say, nil if that says it all.
func limitOf(owner reflect.Type, name string) *schema {
	limits := map[string]func() *schema{
		"events.Config.namespace":      id,
		"events.PolicyPatch.ownership": func() *schema { return among("available", "exclusive") },
		"events.PolicyPatch.closeCode": func() *schema {
			return &schema{AnyOf: []*schema{{Enum: []any{1001, 1012, 1013}}, between(3000, 4999)}}
		},
		"events.PolicyPatch.evictRate": func() *schema { return between(0, events.MaxRate) },
		"events.Gate.landed":           func() *schema { return between(0, 100) },
		"events.Gate.handshakeErrors":  func() *schema { return between(0, 100) },
		"events.Gate.originErrors":     func() *schema { return between(0, 100) },
		"events.Gate.action":           func() *schema { return or(among("pause", "rollback")) },
		"events.UnitType.name":         func() *schema { return text(unitTypeForm) },
		"events.UnitType.slots":        func() *schema { return between(1, routing.MaxSlots) },
		"events.UnitType.routerId":     func() *schema { return atMost(list(text(sourceForm)), 16) },
		"events.UnitType.unmarked":     func() *schema { return or(among("local", "reject", "split")) },
		"events.UnitType.form":         func() *schema { return or(among("normal", "as-sent")) },
		"events.UnitType.fold":         func() *schema { return or(among("lower", "none")) },
		"routing.Part.from":            func() *schema { return between(-routing.MaxRouterID, routing.MaxRouterID) },
		"routing.Part.length":          func() *schema { return between(0, routing.MaxRouterID) },
		"events.Unit.id":               id,
		"events.Unit.name":             func() *schema { return long(&schema{Type: "string"}, 256) },
		"events.Cluster.id":            id,
		"events.Cluster.unit":          id,
		"events.Cluster.protocol":      func() *schema { return or(among("websocket")) },
		"events.Cluster.instances":     func() *schema { return atMost(list(id()), 1024) },
		"events.LoadBalancer.id":       id,
		"events.LoadBalancer.cluster":  id,
		"events.Domain.host":           func() *schema { return long(text(hostForm), 253) },
		"events.Domain.unitType":       func() *schema { return or(text(unitTypeForm)) },
		"events.Domain.protocol":       func() *schema { return or(among("websocket")) },
		"events.Domain.scheme":         func() *schema { return or(among("auto", "http", "https", "ws", "wss", "protocol-relative")) },
		"events.Domain.correction":     func() *schema { return or(among("redirect", "close", "proxy")) },
		"events.DNS.provider":          func() *schema { return or(among("none", "rfc2136", "alidns")) },
		"events.DNS.zone":              func() *schema { return or(long(text(hostForm), 253)) },
		"events.DomainUnit.cluster":    id,
		"events.URI.path":              func() *schema { return long(text(pathForm), 1024) },
		"events.Health.probe":          func() *schema { return among("none", "tcp", "http") },
		"events.Health.expect":         func() *schema { return or(among("2xx-3xx", "2xx", "any")) },
		"events.Health.rise":           func() *schema { return between(0, 100) },
		"events.Health.fall":           func() *schema { return between(0, 100) },
		"events.Hook.name":             id,
		"events.Hook.url":              func() *schema { return long(text(`^[Hh][Tt][Tt][Pp][Ss]?://`), 1024) },
		"events.Hook.on":               func() *schema { return among("pre", "post") },
		"events.Hook.wait":             func() *schema { return or(among("success", "end", "none")) },
		"events.RulesConfig.ranges":    ranges,
		"events.PreviewCutover.ranges": ranges,
	}
	if limit, ok := limits[key(owner)+"."+name]; ok {
		return limit()
	}
	return nil
}

// required reports whether what comes from outside must have the field: without it the code refuses it, whatever else is there.
func required(t reflect.Type, name string) bool {
	return slices.Contains(map[string][]string{
		"events.Config":             {"namespace"},
		"events.ApplyConfig":        {"config"},
		"events.UnitType":           {"name", "slots"},
		"events.Unit":               {"id"},
		"events.Cluster":            {"id", "unit"},
		"events.LoadBalancer":       {"id", "cluster", "address"},
		"events.Domain":             {"host", "units", "uris"},
		"events.DomainUnit":         {"cluster"},
		"events.URI":                {"path"},
		"events.Health":             {"probe"},
		"events.Hook":               {"name", "url", "on"},
		"events.RulesConfig":        {"ranges"},
		"events.PutUnit":            {"id"},
		"events.PutCluster":         {"id", "unit"},
		"events.PutLoadBalancer":    {"id", "cluster", "address"},
		"events.PutDomain":          {"host", "units", "uris"},
		"events.InitRules":          {"ranges"},
		"events.ActivateDomain":     {"host"},
		"events.RemoveDomain":       {"host"},
		"events.DeactivateDomain":   {"host"},
		"events.RemoveUnit":         {"id"},
		"events.RemoveCluster":      {"id"},
		"events.RemoveLoadBalancer": {"id"},
		"events.JoinEdge":           {"id", "directory", "unit", "cluster", "address"},
		"events.LeaveEdge":          {"id", "directory"},
		"events.RetireEdge":         {"id"},
		"events.CheckCutover":       {"cutover"},
		"events.RetryCheck":         {"cutover", "check"},
		"events.SkipCheck":          {"cutover"},
		"events.StartCutover":       {"cutover"},
		"events.PauseCutover":       {"cutover"},
		"events.ResumeCutover":      {"cutover"},
		"events.AbortCutover":       {"cutover"},
		"events.RollbackCutover":    {"cutover"},
	}[key(t)], name)
}
