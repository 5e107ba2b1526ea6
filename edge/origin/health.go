package origin

import (
	"math"
	"time"
)

// How failures of sessions' own handshakes eject an origin.
const (
	failuresToEject = 3                // in a row, without an answer in between
	failureWindow   = 30 * time.Second // within which they must happen
	firstEjection   = 5 * time.Second  //
	longestEjection = time.Minute      //
	calm            = time.Minute      // an ejection sooner than this after the last one's end is twice as long
)

// never is a time that does not come.
const never = time.Duration(math.MaxInt64)

// health is what is believed of one origin. It is a pure machine: times come in, from any fixed moment on.
//
//	          3 failures in a row                  the time has passed
//	healthy ──────────────────────► ejected ──────────────────────────► on trial: one session at a time
//	   ▲ ▲                          ▲    │ an answer                          │ │
//	   │ └──────────────────────────┼────┘                                    │ │
//	   │                            └─────────── a failure: twice as long ────┘ │
//	   └─────────────────────────── an answer ──────────────────────────────────┘
//
// Beside that, probes find it down (fall failures in a row) and up again (rise successes in a row). An origin is chosen
// freely if it is healthy and not down.
type health struct {
	failures int                            // since the last answer or ejection
	failedAt [failuresToEject]time.Duration // when, in a ring: failure n is at n modulo its length
	until    time.Duration                  // the end of the ejection; when that has passed, on trial; 0: neither
	length   time.Duration                  // of the last ejection
	ended    time.Duration                  // when the last ejection ended, or will; 0: there was none

	down   bool // say the probes
	streak int  // probes in a row that say otherwise
}

// failed takes a handshake that got no answer, and reports whether that ejects the origin.
func (h *health) failed(now time.Duration) bool {
	if now < h.until {
		return false // it began before the ejection, or there was nobody else to try: no news
	}
	if h.until == 0 {
		h.failedAt[h.failures%failuresToEject] = now
		h.failures++
		if h.failures < failuresToEject || now-h.failedAt[h.failures%failuresToEject] > failureWindow {
			return false
		}
	}
	if h.ended != 0 && now-h.ended <= calm {
		h.length = min(2*h.length, longestEjection)
	} else {
		h.length = firstEjection
	}
	h.until = now + h.length
	h.ended, h.failures = h.until, 0
	return true
}

// answered takes a handshake that got an answer, whatever it said. It ends an ejection, too: what failed before was not
// the origin as it is now.
func (h *health) answered(now time.Duration) {
	h.failures, h.until = 0, 0
	h.ended = min(h.ended, now)
}

// probed takes the result of a probe, and reports whether the origin is down, or up, since then. Coming up ends an
// ejection: the probes are newer than what ejected it.
func (h *health) probed(ok bool, rise, fall int, now time.Duration) bool {
	if ok != h.down {
		h.streak = 0
		return false
	}
	h.streak++
	if ok && h.streak < rise || !ok && h.streak < fall {
		return false
	}
	h.down, h.streak = !ok, 0
	if ok {
		h.answered(now)
	}
	return true
}

// barred is until when the origin is not to be chosen freely: 0 if it is healthy. A time that has passed means on trial.
func (h *health) barred() time.Duration {
	if h.down {
		return never
	}
	return h.until
}

// clean reports that an answer would change nothing.
func (h *health) clean() bool { return h.failures == 0 && h.until == 0 }
