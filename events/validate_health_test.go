package events

import (
	"testing"
	"time"
)

// What is left open is stored as it is meant, so that a version with other defaults replays the same; the caller's own
// values stay as they are.
func TestHealthIsStoredInFull(t *testing.T) {
	const second = Duration(time.Second)
	for _, c := range []struct{ given, stored Health }{
		{Health{Probe: "none"}, Health{Probe: "none"}},
		{Health{Probe: "tcp"}, Health{Probe: "tcp", Interval: 5 * second, Timeout: 2 * second, Rise: 2, Fall: 3}},
		{Health{Probe: "http"}, Health{Probe: "http", Path: "/healthz", Expect: "2xx-3xx", Interval: 5 * second, Timeout: 2 * second, Rise: 2, Fall: 3}},
		{Health{Probe: "http", Path: "/up?full=1", Expect: "any", Interval: second, Timeout: 3 * second, Rise: 1, Fall: 9},
			Health{Probe: "http", Path: "/up?full=1", Expect: "any", Interval: second, Timeout: 3 * second, Rise: 1, Fall: 9}},
	} {
		w := shop(t)
		given := c.given
		put := PutDomain{domain(func(d *Domain) { d.URIs[0].Health = &given })}
		w.do(put)
		if got := w.s.Domains[put.Host].Draft.URIs[0].Health; *got != c.stored {
			t.Errorf("%+v is stored as %+v, want %+v", c.given, *got, c.stored)
		}
		if given != c.given || put.URIs[0].Health != &given {
			t.Errorf("the command was changed to %+v", given)
		}
	}
}
