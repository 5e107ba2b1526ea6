package journal

import (
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// Encode and Guarded give the external tests the message of a record.
func Encode(ns string, rec events.Record) *nats.Msg { return encode(ns, &rec) }

func Guarded(ns string, after uint64, rec events.Record) *nats.Msg { return guarded(ns, after, &rec) }

func (s *Stream) Conn() *nats.Conn { return s.conn() }

func Escape(s string) string { return escape(s) }

func Unescape(s string) (string, error) { return unescape(s) }
