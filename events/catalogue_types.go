package events

import (
	"fmt"
	"reflect"
	"strings"
)

// Entry is a command of the catalogue with its types, for those who describe it.
type Entry struct {
	Name
	Internal bool         // only the control plane's own processes may give it
	Bound    Bound        // how large one from outside may be
	Command  reflect.Type // its data, but for an internal one
	Event    reflect.Type // what it leads to
}

// Catalogue are all commands.
func Catalogue() []Entry {
	var out []Entry
	for _, e := range entries() {
		out = append(out, Entry{Name{e.entity, e.verb, e.past}, e.internal, e.bound, reflect.TypeOf(e.command), eventOf(e.entity, e.past)})
	}
	return out
}

// eventOf is the type of the events that are stored under these names: it is called like them, with two exceptions.
func eventOf(entity, past string) reflect.Type {
	name := entity + past
	switch name {
	case "cutoverretried":
		name = "CutoverChecked"
	case "cutoverhooked":
		name = "HookCalled"
	}
	for n, t := range wireTypes {
		if strings.EqualFold(n, name) {
			return t
		}
	}
	panic(fmt.Sprintf("events: no event is called like %s.%s", entity, past))
}
