package events

import (
	"cmp"
	"strings"
	"time"
)

// What a Health says where it is silent.
const (
	defaultHealthPath     = "/healthz"
	defaultHealthInterval = Duration(5 * time.Second)
	defaultHealthTimeout  = Duration(2 * time.Second)
	defaultRise           = 2
	defaultFall           = 3
)

// normalizeHealth checks how the origins are connected to, waited for and probed, and fills in what is left open: what is stored
// does not change its meaning when a later version has other defaults.
func (u *URI) normalizeHealth(field string) error {
	if t := u.ConnectTimeout; t != 0 {
		if err := between(t, 10*time.Millisecond, time.Minute, join(field, "connectTimeout")); err != nil {
			return err
		}
	}
	if t := u.ReplyTimeout; t != 0 {
		if err := between(t, 10*time.Millisecond, 10*time.Minute, join(field, "replyTimeout")); err != nil {
			return err
		}
	}
	if u.Health == nil {
		return nil
	}
	h, at := *u.Health, join(field, "health") // a copy: the caller's stays as it is
	u.Health = &h
	switch h.Probe {
	case "http":
		h.Path = cmp.Or(h.Path, defaultHealthPath)
		path, query, _ := strings.Cut(h.Path, "?")
		if !pathForm.MatchString(path) || !pathForm.MatchString("/"+query) || len(h.Path) > 1024 {
			return ErrBadValue.With("%q is no absolute path", h.Path).At(join(at, "path"))
		}
		if h.Host != "" && !isHostPort(h.Host, false) {
			return ErrBadValue.With("%q is no host name in lower case, with or without a port", short([]byte(h.Host))).At(join(at, "host"))
		}
		if err := oneOf(&h.Expect, join(at, "expect"), "2xx-3xx", "2xx", "any"); err != nil {
			return err
		}
	case "tcp", "none":
		if h.Path != "" || h.Host != "" || h.Expect != "" {
			return ErrBadValue.With("path, host and expect are for http probes").At(at)
		}
		if h.Probe == "none" && h != (Health{Probe: "none"}) {
			return ErrBadValue.With("without a probe there is nothing to set").At(at)
		}
	case "":
		return ErrMissingField.With("want none, tcp or http").At(join(at, "probe"))
	default:
		return ErrBadValue.With("%q: want none, tcp or http", h.Probe).At(join(at, "probe"))
	}
	if h.Probe == "none" {
		return nil
	}
	h.Interval, h.Timeout = cmp.Or(h.Interval, defaultHealthInterval), cmp.Or(h.Timeout, defaultHealthTimeout)
	h.Rise, h.Fall = cmp.Or(h.Rise, defaultRise), cmp.Or(h.Fall, defaultFall)
	return h.checkBounds(at)
}

func (h *Health) checkBounds(at string) error {
	if err := between(h.Interval, 100*time.Millisecond, time.Hour, join(at, "interval")); err != nil {
		return err
	}
	if err := between(h.Timeout, 10*time.Millisecond, time.Minute, join(at, "timeout")); err != nil {
		return err
	}
	if h.Rise < 1 || h.Rise > 100 {
		return ErrBadValue.With("%d: want 1 to 100", h.Rise).At(join(at, "rise"))
	}
	if h.Fall < 1 || h.Fall > 100 {
		return ErrBadValue.With("%d: want 1 to 100", h.Fall).At(join(at, "fall"))
	}
	return nil
}

func between(d Duration, least, most time.Duration, field string) error {
	if d < Duration(least) || d > Duration(most) {
		return ErrBadValue.With("%s: want %s to %s", time.Duration(d), least, most).At(field)
	}
	return nil
}
