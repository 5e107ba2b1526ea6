// Package origin owns what an edge believes of its origins, and decides which of them a session is relayed to: the one
// with the fewest connections among those that are healthy.
//
// It opens no sockets and asks no clock: every time is a parameter, a duration since one fixed moment. The relay tells
// it what became of the sessions, a prober what became of the probes.
//
// A Book and everything that comes from it may be used concurrently. Choosing an origin takes no lock and allocates
// nothing: an engine reads one counter and one time for each origin of the list.
package origin

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// trialTime is how long a session that tries an origin on trial keeps others from trying it, unless it comes to a
	// result sooner.
	trialTime = 5 * time.Second
	// TooLong is how long a client may wait for an answer in vain before its leaving counts against the origin, unless that
	// may take longer than usual. Origins that hang would never be found otherwise, when all clients have less patience
	// than the edge.
	TooLong = 2 * time.Second
	// maxError bounds the text of an error that is kept, in bytes.
	maxError = 200
)

// Check is how an origin is probed. The zero value: not at all.
type Check struct {
	Probe    string        // "tcp": connect; "http": GET Path; "" or "none": no probes
	Path     string        // of http, with or without a query
	Host     string        // of http: what its Host field names; "": the address
	Expect   string        // of http: "2xx", "2xx-3xx" or "any" status
	Interval time.Duration // from the end of one probe to the next
	Timeout  time.Duration // of one probe
	Rise     int           // successes in a row that bring an origin up again
	Fall     int           // failures in a row that take it down
}

// Active reports whether there are probes.
func (c *Check) Active() bool { return c.Probe != "" && c.Probe != "none" }

// Origin is one address, watched in one way.
type Origin struct {
	addr  string
	check Check
	load  *load // that of the address

	barred atomic.Int64 // health's, in nanoseconds; while it is tried on trial, until when that keeps others away
	clean  atomic.Bool  // health's
	latest atomic.Int64 // when the latest answer came, in nanoseconds; 0: there was none

	mu      sync.Mutex // guards what follows
	health  health
	lastErr string
	errAt   time.Duration
}

// load counts the connections to one address: dials, handshakes and sessions of all engines, whichever URIs they came by,
// and what became of them, ever.
type load struct {
	n                    atomic.Int64
	connects, connecting atomic.Int64 // that it has accepted, and the nanoseconds that it took in all
	failures             atomic.Int64 // what Failed was told
	_                    [32]byte     // a cache line of its own: engines on other cores count other addresses
}

func newOrigin(addr string, check Check, l *load) *Origin {
	o := &Origin{addr: addr, check: check, load: l}
	o.clean.Store(true)
	return o
}

// Address is HOST:PORT.
func (o *Origin) Address() string { return o.addr }

// Check is how the origin is to be probed.
func (o *Origin) Check() Check { return o.check }

// Release ends a connection that Pick has counted.
func (o *Origin) Release() { o.load.n.Add(-1) }

// Connected tells that the origin has accepted, so long after it was picked.
func (o *Origin) Connected(took time.Duration) {
	o.load.connects.Add(1)
	o.load.connecting.Add(int64(took))
}

// Answered tells that a handshake was answered, whatever the answer said, if it was no interim one: an origin that only
// ever asks for patience answers nobody.
func (o *Origin) Answered(now time.Duration) {
	o.latest.Store(int64(now))
	if o.clean.Load() {
		return // as nearly always
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.health.answered(now)
	o.publish()
}

// Failed tells that an origin could not be connected to, or ended the connection without a byte of an answer, or answered
// with something else than HTTP. It returns for how long that ejects the origin; 0: it does not.
func (o *Origin) Failed(now time.Duration, why string) (ejected time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed(now, why, true)
}

// failed does that; an error that is no news of the origin's health is counted and kept only.
func (o *Origin) failed(now time.Duration, why string, news bool) (ejected time.Duration) {
	o.load.failures.Add(1)
	o.note(now, why)
	if news && o.health.failed(now) {
		ejected = o.health.length
	}
	o.publish()
	return ejected
}

// Slow tells that a handshake that the origin got at since was not answered in its time. That is the handshake's own
// affair if the origin has answered another one since then: what it starts for one user may take long, while it serves
// the others at once. It returns what Failed does.
func (o *Origin) Slow(now, since time.Duration, why string) (ejected time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed(now, why, o.latest.Load() <= int64(since))
}

// Abandoned tells that a client left before there was an answer; since is when the origin was picked, patience how long a
// client has to have waited at least for that to be Slow. It returns what Failed does.
func (o *Origin) Abandoned(now, since, patience time.Duration) (ejected time.Duration) {
	if now-since < patience {
		return 0
	}
	return o.Slow(now, since, fmt.Sprintf("no answer for %s, then the client left", (now-since).Round(time.Millisecond)))
}

// Probed tells the result of a probe; why is empty for a success. It reports whether the origin is down, or up again,
// since then.
func (o *Origin) Probed(now time.Duration, why string) (changed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if why != "" {
		o.note(now, "probe: "+why)
	}
	changed = o.health.probed(why == "", o.check.Rise, o.check.Fall, now)
	if changed || why != "" {
		o.publish()
	}
	return changed
}

// note keeps an error for Status.
func (o *Origin) note(now time.Duration, why string) {
	if len(why) > maxError {
		why = strings.ToValidUTF8(why[:maxError], "") + "…"
	}
	o.lastErr, o.errAt = why, now
}

// publish shows the engines what health says.
func (o *Origin) publish() {
	o.barred.Store(int64(o.health.barred()))
	o.clean.Store(o.health.clean())
}
