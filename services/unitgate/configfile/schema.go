package configfile

import _ "embed"

//go:generate go run ../schema

//go:embed config.schema.json
var schema string // never changed

// Schema is the JSON Schema (draft 2020-12) of one document of a config file, for editors. It takes whatever Parse and
// events.PlanConfig take, and a bit more: what no schema can say.
func Schema() string { return schema }
