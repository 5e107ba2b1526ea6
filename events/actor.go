package events

import (
	"strings"
	"unicode"
)

// DriverActor is who gives the commands of the control plane's own processes.
const DriverActor = "driver"

// edgeActors begins the actors of what edges say of themselves.
const edgeActors = "edge/"

// EdgeActor is who gives an edge's own commands.
func EdgeActor(id string) string { return edgeActors + id }

// CheckActor tells whether a command that came from outside may name this actor, who is the only witness of who did it in
// the journal: everybody says who he is; the driver's name is no one else's, and an edge's that edge's. What the journal
// holds already was taken by other rules and stays. Errors are *Error.
func CheckActor(actor string, c Command) error {
	if err := checkLine(actor, "actor"); err != nil {
		return err
	}
	if i := strings.IndexFunc(actor, unseen); i >= 0 { // a joiner, without which it would be another one's
		return ErrBadValue.With("the character at byte %d is not visible: leave it out", i).At("actor")
	}
	plain := strings.ToLower(strings.TrimSpace(actor))
	id, own := edgeOf(c)
	switch {
	case own && actor != EdgeActor(id):
		return ErrNotAllowed.With("only the edge itself says so, as %q: an operator retires an edge with edge.retire", EdgeActor(short([]byte(id)))).At("actor")
	case own:
		return nil
	case !strings.ContainsFunc(plain, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }):
		return ErrMissingField.With(`say who gives the command: put "actor":"NAME" beside "data", a person or a program; it goes into the journal`).At("actor")
	case plain == DriverActor || strings.HasPrefix(plain, edgeActors):
		return ErrNotAllowed.With("%q is the name of a part of the system: give the command under a name of your own", actor).At("actor")
	}
	return nil
}

// edgeOf is the edge whose own word a command is.
func edgeOf(c Command) (id string, own bool) {
	switch c := c.(type) {
	case JoinEdge:
		return c.ID, true
	case LeaveEdge:
		return c.ID, true
	default:
		return "", false
	}
}
