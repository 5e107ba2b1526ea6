package command_test

import (
	"fmt"
	"maps"

	"github.com/anishathalye/porcupine"
)

// view is what a read of the namespace shows.
type view struct {
	Version uint64            `json:"version"`
	Units   map[string]string `json:"units"` // names by id
}

// register is the namespace as the sequential model has it: units, the version of the configuration (which is the
// sequence of the last event), and what each command id did.
type register struct {
	view
	done map[string]uint64 // command id → sequence
}

// input is one operation of a client. Commands of one id are alike.
type input struct {
	kind       string // put, apply or read
	id         string // of the command
	unit, name string
	base       uint64 // of apply: the version that it was planned against
}

// output is how it ended for the client.
type output struct {
	fate string // ok, a rejection's code, or unknown
	seq  uint64 // of ok
	view        // of a read
}

func (r register) with(in input) register {
	next := register{view{r.Version + 1, maps.Clone(r.Units)}, maps.Clone(r.done)}
	next.Units[in.unit], next.done[in.id] = in.name, next.Version
	return next
}

// step is the specification: whether the operation may end like this in this state, and the state after it. An unknown end
// allows both; its operation never returns, so that it may also take effect after everything that anybody saw.
func (r register) step(in input, out output) (bool, register) {
	seq, done := r.done[in.id]
	var want output
	next := r
	switch {
	case in.kind == "read":
		return out.fate != "ok" || out.Version == r.Version && maps.Equal(out.Units, r.Units), r
	case done:
		want = output{fate: "ok", seq: seq} // "an accepted one answers the same for ever"
	case in.kind == "apply" && in.base != r.Version:
		want = output{fate: "stale_version"}
	case in.kind == "apply" && r.Units[in.unit] == in.name:
		want = output{fate: "nothing_changes"}
	default:
		want, next = output{fate: "ok", seq: r.Version + 1}, r.with(in)
	}
	switch out.fate {
	case "unknown":
		return true, next
	case "nobody": // no_controller: nothing happened
		return true, r
	}
	return out.fate == want.fate && out.seq == want.seq, next
}

// model starts with the namespace just created.
func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any {
			return register{view{1, map[string]string{}}, map[string]uint64{}}
		},
		Step: func(state, in, out any) (bool, any) {
			return state.(register).step(in.(input), out.(output))
		},
		Equal: func(a, b any) bool {
			x, y := a.(register), b.(register)
			return x.Version == y.Version && maps.Equal(x.Units, y.Units) && maps.Equal(x.done, y.done)
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
	}
}
