package command

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// ExpiresHeader says until when a durable command is wanted: an RFC 3339 time, or a Go duration ("90s", "1h30m").
const ExpiresHeader = "Unitgate-Expires"

// defaultExpires holds for a command that does not say.
const defaultExpires = 60 * time.Second

// expiry is the last moment at which a command may be decided. A duration counts from the time at which the stream stored
// the command, so that waiting for a controller is part of it. Whether the moment has passed is told by the clock of the
// controller: clocks of NATS servers, controllers and (for RFC 3339 times) callers are taken to agree to well under the
// durations used, as NTP makes them. A clock that is off moves the expiry by as much, and breaks nothing else.
//
// The longest expiry is 24 h after the storing, as long as the stream keeps a command; asking for more is an error, since
// the command would vanish without an outcome.
func expiry(h nats.Header, stored time.Time) (time.Time, error) {
	var values []string
	for k, v := range h { // in any case: a header that is passed over would make a command live longer than wanted
		if strings.EqualFold(k, ExpiresHeader) {
			values = append(values, v...)
		}
	}
	if len(values) == 0 {
		return stored.Add(defaultExpires), nil
	}
	bad := func(what string) error {
		return events.ErrBadValue.With("%q: %s", values[0], what).At(ExpiresHeader)
	}
	if len(values) > 1 {
		return time.Time{}, bad("given more than once")
	}
	at, err := time.Parse(time.RFC3339, values[0])
	if err != nil {
		d, derr := time.ParseDuration(values[0])
		if derr != nil || d <= 0 {
			return time.Time{}, bad(`want a time (2026-11-23T04:05:06Z) or a duration greater than zero ("90s")`)
		}
		at = stored.Add(d)
	}
	if at.After(stored.Add(keepFor)) {
		return time.Time{}, bad("at most 24h after the command was stored, no queue keeps it longer")
	}
	return at, nil
}
