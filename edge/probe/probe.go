// Package probe asks origins whether they are there, as their Check says, and tells them the answer. It owns one
// goroutine for each origin that is probed, and no connection between probes.
//
// A probe is a TCP connect or a plain HTTP GET. It never is a WebSocket handshake and carries no routerId: a made-up user
// would be somebody's, and an origin may change something for a user who connects.
package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/unitgate/unitgate/edge/origin"
)

// atOnce bounds the probes under way, and with them their descriptors. The others wait for their turn.
const atOnce = 64

// maxHead bounds the head of an answer, in bytes. Bodies are not read.
const maxHead = 16 << 10

// Prober probes a changing set of origins. Its methods may be called concurrently.
type Prober struct {
	now    func() time.Duration // the time that origins are told
	log    *slog.Logger
	client *http.Client
	turns  chan struct{} // one for each probe under way

	mu      sync.Mutex // guards what follows
	running map[*origin.Origin]context.CancelFunc
	closed  bool
	work    sync.WaitGroup
}

// New makes a Prober that probes nothing yet. now is the time on the clock by which the origins are used otherwise.
func New(now func() time.Duration, log *slog.Logger) *Prober {
	return &Prober{
		now: now, log: log, turns: make(chan struct{}, atOnce), running: map[*origin.Origin]context.CancelFunc{},
		client: &http.Client{
			// No proxy: sessions use none. No connection is kept: what is probed is whether new ones are taken.
			Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHead},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Watch says which origins there are from now on. Those that stay are probed on as they were.
func (p *Prober) Watch(origins []*origin.Origin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	before := p.running
	p.running = map[*origin.Origin]context.CancelFunc{}
	for _, o := range origins {
		check := o.Check()
		if !check.Active() {
			continue
		}
		cancel, ok := before[o]
		if !ok {
			var ctx context.Context
			ctx, cancel = context.WithCancel(context.Background())
			p.work.Go(func() { p.watch(ctx, o, check) })
		}
		p.running[o] = cancel
		delete(before, o)
	}
	for _, cancel := range before {
		cancel()
	}
}

// Close ends all probes and waits for them.
func (p *Prober) Close() {
	p.mu.Lock()
	p.closed = true
	for _, cancel := range p.running {
		cancel()
	}
	p.mu.Unlock()
	p.work.Wait()
}

// watch probes one origin until ctx ends. Many origins come with one configuration, and many edges get it at once: the
// first probe waits for a random part of an interval, at most a second, and the others vary by a tenth.
func (p *Prober) watch(ctx context.Context, o *origin.Origin, check origin.Check) {
	timer := time.NewTimer(rand.N(min(check.Interval, time.Second) + 1))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case p.turns <- struct{}{}:
		}
		err := p.once(ctx, o.Address(), check)
		<-p.turns
		if ctx.Err() != nil {
			return
		}
		p.tell(o, err)
		timer.Reset(check.Interval - check.Interval/10 + rand.N(check.Interval/5+1))
	}
}

func (p *Prober) tell(o *origin.Origin, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	switch changed := o.Probed(p.now(), why); {
	case changed && err != nil:
		p.log.Warn("origin is down, say the probes", "origin", o.Address(), "error", why)
	case changed:
		p.log.Info("origin is up again, say the probes", "origin", o.Address())
	}
}

// once is one probe; nil means that the origin is well.
func (p *Prober) once(ctx context.Context, addr string, check origin.Check) error {
	ctx, cancel := context.WithTimeout(ctx, check.Timeout)
	defer cancel()
	var err error
	if check.Probe == "http" {
		err = p.get(ctx, addr, check)
	} else {
		err = connect(ctx, addr)
	}
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		return fmt.Errorf("no answer in %s: %w", check.Timeout, err)
	}
	return err
}

func connect(ctx context.Context, addr string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	_ = c.Close()
	return nil
}

func (p *Prober) get(ctx context.Context, addr string, check origin.Check) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+check.Path, http.NoBody)
	if err != nil {
		return err
	}
	req.Host = check.Host // that of users: servers with several names, or that check theirs, answer nobody else
	req.Header.Set("User-Agent", "unitgate-probe")
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // unread: the connection ends with it
	if !expected(resp.StatusCode, check.Expect) {
		return fmt.Errorf("GET %s answered %d, want %s", check.Path, resp.StatusCode, check.Expect)
	}
	return nil
}

func expected(status int, expect string) bool {
	switch expect {
	case "any":
		return true
	case "2xx":
		return status >= 200 && status < 300
	default: // 2xx-3xx
		return status >= 200 && status < 400
	}
}
