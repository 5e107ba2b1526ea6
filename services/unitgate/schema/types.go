package main

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// derivation turns Go types into schemas, with a definition for each struct. There are two kinds: what comes from outside
// is held against the limits and may have no other keys; what the system itself says has every key that is always there,
// and readers leave room for more.
type derivation struct {
	comments comments
	given    bool   // it comes from outside
	prefix   string // of the definitions' names
	refs     string // where the definitions stand
	defs     map[string]*schema
	types    map[string]reflect.Type // of the definitions, to notice two of one name
}

// of is the schema of a type, a reference if that is a struct.
func (d *derivation) of(t reflect.Type) *schema {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s := special(t); s != nil {
		return s
	}
	for _, custom := range []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()} {
		if t.Implements(custom) || reflect.PointerTo(t).Implements(custom) {
			panic(fmt.Sprintf("%v writes itself: say how in special", t))
		}
	}
	switch t.Kind() {
	case reflect.Struct:
		return d.structure(t)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return &schema{Type: "string", ContentEncoding: "base64"}
		}
		return list(d.of(t.Elem()))
	case reflect.Map:
		return object(d.of(t.Elem()))
	case reflect.String:
		return &schema{Type: "string"}
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Float64:
		return &schema{Type: "number"}
	case reflect.Uint32, reflect.Uint64:
		return &schema{Type: "integer", Minimum: new(int64)}
	case reflect.Int, reflect.Int64:
		return &schema{Type: "integer"}
	}
	panic(fmt.Sprintf("no schema for %v", t))
}

// special are the types whose JSON is another than their fields say.
func special(t reflect.Type) *schema {
	switch t {
	case reflect.TypeFor[events.Duration]():
		return text(`^[-+]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$|^[-+]?0$`)
	case reflect.TypeFor[routing.Range]():
		return text(`^[0-9]+(-[0-9]+)?$`)
	case reflect.TypeFor[events.Origins]():
		return text(`^[^,]+:[0-9]{1,5}[^0-9,]*(,[^,]+:[0-9]{1,5}[^0-9,]*)*$`)
	case reflect.TypeFor[events.Rate]():
		return &schema{AnyOf: []*schema{{Const: "max"}, between(1, events.MaxRate)}}
	case reflect.TypeFor[time.Time]():
		return &schema{Type: "string", Format: "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return &schema{}
	case reflect.TypeFor[routing.Packed]():
		return &schema{Type: "string", ContentEncoding: "base64", Pattern: `^[A-Za-z0-9+/]*={0,2}$`}
	case reflect.TypeFor[routing.IDs]():
		return &schema{AnyOf: []*schema{list(&schema{Type: "string"}), special(reflect.TypeFor[routing.Packed]())}}
	case reflect.TypeFor[routing.Rules]():
		return &schema{
			Type: "object", Description: "A complete rule set: every slot has one owner.", Required: []string{"slots", "ranges"},
			Properties: properties{
				{"slots", between(1, routing.MaxSlots)},
				{"substring", &schema{Type: "object", Properties: properties{{"from", &schema{Type: "integer"}}, {"length", &schema{Type: "integer"}}}}},
				{"ranges", ranges()},
				{"exact", say(object(list(&schema{Type: "string"})), "By unit: exact IDs, up to 64 as they are.")},
				{"exactDelta", say(object(special(reflect.TypeFor[routing.Packed]())), "By unit: longer lists, packed.")},
			},
		}
	}
	return nil
}

// structure defines a struct and refers to it.
func (d *derivation) structure(t reflect.Type) *schema {
	name := d.prefix + strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	ref := &schema{Ref: d.refs + name}
	if known, ok := d.types[name]; ok {
		if known != t {
			panic(fmt.Sprintf("%v and %v would both be %s", known, t, name))
		}
		return ref
	}
	s := &schema{Type: "object", Description: d.comments[key(t)]}
	d.types[name], d.defs[name] = t, s
	if d.given {
		s.AdditionalProperties = false
	}
	for _, f := range fields(t) {
		value := d.field(f)
		s.Properties = append(s.Properties, property{f.json, value})
		if d.given && required(t, f.json) || !d.given && !f.omit {
			s.Required = append(s.Required, f.json)
		}
	}
	return ref
}

// field is the schema of one field, with what its comment says.
func (d *derivation) field(f field) *schema {
	s := d.of(f.Type)
	if d.given {
		if limit := limitOf(f.owner, f.json); limit != nil {
			s = limit
		}
	} else if kind := f.Type.Kind(); !f.omit && (kind == reflect.Slice || kind == reflect.Map || kind == reflect.Pointer) && f.Type != reflect.TypeFor[json.RawMessage]() {
		s = orNull(s)
	}
	about := d.comments[key(f.owner)+"."+f.Name]
	if about == "" {
		return s
	}
	if s.Ref != "" { // beside which draft 7 reads nothing
		s = &schema{AllOf: []*schema{s}}
	}
	s.Description = strings.ToUpper(about[:1]) + about[1:]
	return s
}

// orNull allows null, which is what Go writes for a list, a map or a pointer that is nil.
func orNull(s *schema) *schema {
	if name, ok := s.Type.(string); ok {
		s.Type = []string{name, "null"}
		return s
	}
	return &schema{AnyOf: []*schema{s, {Type: "null"}}}
}

// field is a field as JSON has it.
type field struct {
	reflect.StructField
	owner reflect.Type // the struct that declares it, which may be embedded
	json  string
	omit  bool // it may be left out
}

// fields are those that encoding/json writes, embedded ones in their place. Of two with one name the outer one counts.
func fields(t reflect.Type) []field {
	var out []field
	taken := map[string]bool{}
	for _, outer := range []bool{true, false} {
		for i := range t.NumField() {
			f := t.Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case f.Anonymous && name == "" && !outer:
				for _, inner := range fields(f.Type) {
					if !taken[inner.json] {
						taken[inner.json] = true
						out = append(out, inner)
					}
				}
			case f.Anonymous && name == "", !outer, name == "-", name == "", !f.IsExported():
			case f.Type == reflect.TypeFor[*struct{}](): // hides one of an embedded struct
				taken[name] = true
			default:
				taken[name] = true
				out = append(out, field{f, t, name, strings.HasPrefix(options, "omit")})
			}
		}
	}
	return out
}

// key is how comments and limits name a type.
func key(t reflect.Type) string {
	return t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:] + "." + t.Name()
}
