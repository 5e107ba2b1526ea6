package main

import (
	"reflect"

	"github.com/unitgate/unitgate/events"
)

// configSchema is the JSON Schema of one document of the config file.
func configSchema(c comments) *schema {
	d := &derivation{comments: c, given: true, refs: "#/$defs/", defs: map[string]*schema{}, types: map[string]reflect.Type{}}
	d.of(reflect.TypeFor[events.Config]())
	root := *d.defs["Config"]
	delete(d.defs, "Config")
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.ID = "https://github.com/unitgate/unitgate/config.schema.json"
	root.Title = "unitgate: the config file of a namespace"
	root.Defs = d.defs
	return &root
}
