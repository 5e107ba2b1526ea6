package relay

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/mempool"
	"golang.org/x/sys/unix"

	"github.com/unitgate/unitgate/edge/handshake"
	registry "github.com/unitgate/unitgate/edge/session"
)

const readSize = 64 << 10 // of the one buffer that all reads of an engine share

// engine is one nbio engine with one poller. Its poller goroutine owns everything below but the mailbox: the sessions,
// both of whose legs live on this engine, the registry, the deadlines. Others hand it work by post and arrive.
type engine struct {
	r     *Relay
	index int // of this engine in r.engines
	nb    *nbio.Engine
	epfd  int
	epoch time.Time

	view      *handshake.View
	groups    map[*handshake.URI]group   // of the view's URIs
	edges     map[*handshake.Edges]group // of other units, of the view's sites
	units     []string                   // other ones to which clients were passed on, from 1: their numbers
	registry  registry.Registry[*session]
	all       map[*session]struct{}
	stats     map[string]*typeStats     // r's, as far as this engine met the types
	verdicts  map[verdict]*atomic.Int64 // r's, likewise
	tally     tally                     // anybody may read it
	occupancy occupancy                 // likewise
	passages  map[string][]*passage     // r's, as of the view
	cohorts   map[string][]*cohort      // by type, newest first; at most two
	gen       uint32                    // counts cohorts
	tenures   tenures
	victims   map[string][]*session // by type, in the order marked; may hold some that are no longer to be evicted
	due       map[string]int        // by type, how many of them are to be evicted now
	censuses  []*census             // those under way
	chores    chores

	glimpses glimpses

	hops map[*session]*tlsLeg // the TLS of legs to other edges

	in        *receiver
	buf       []byte // for reads; valid until the next read
	out       []byte // for building heads and frames; valid until the next use
	tls       tlsBuffers
	pollFd    [1]unix.PollFd
	congested []*session // those that had pending bytes lately
	owing     []*session // those that were written to, see owe; their order means nothing
	glance    uint8      // number of the present look at them
	turn      uint32     // rotates origins

	adopt     adopter
	listeners []*listener
	accepting bool // from them

	silentUntil time.Duration // before, the log does not say again that nobody is accepted

	connecting int                 // epoll set of the connects under way that have to be waited for
	awaited    map[uint32]*session // which these are, by the number of the attempt
	serial     uint32              // of the latest attempt

	refusing bool       // Drain has begun: nobody is admitted any more
	parting  []*session // those that Drain has not come to, in no order; may hold some that have ended
	lapsed   bool       // there is no lease, and everything was let go: see observeLease
	closing  bool       // Close has begun
	drained  chan struct{}

	heads, held, connects                         fifo    // of handshakes
	replies                                       []*fifo // of those sent on, by the time for an answer; see repliesIn
	bodies, lingering, parted, aborting, evicting fifo    // of connections that are over: answers passed on, answered, former tunnels
	leaving                                       fifo    // of origins that were given up
	watch, pauses, looks                          fifo
	watching                                      deadline // in watch while congested is not empty
	resting                                       deadline // in pauses while no client is accepted
	looking                                       deadline // in looks while owing is not empty
	timer                                         *time.Timer
	wakeAt                                        time.Duration // when timer fires; 0: it does not

	fresh, ripe, taken []arrival // see arrive

	mailFd int // an eventfd, always readable

	mail    sync.Mutex // guards what follows: the mailbox
	posts   []func()
	awake   bool // the poller will look at the mailbox
	stopped bool
}

// The nbio sessions of the descriptors that are no connections, but for listeners.
type (
	mailbox  struct{} // mailFd
	connects struct{} // connecting
)

func newEngine(r *Relay, index int) (*engine, error) {
	e := &engine{
		r: r, index: index, epoch: time.Now(), adopt: newAdopter(r.tune),
		all:      map[*session]struct{}{},
		awaited:  map[uint32]*session{},
		stats:    map[string]*typeStats{},
		verdicts: map[verdict]*atomic.Int64{},
		victims:  map[string][]*session{},
		due:      map[string]int{},
		in:       newReceiver(r.tells),
		cohorts:  map[string][]*cohort{},
		buf:      make([]byte, readSize),
		units:    make([]string, 1),
		hops:     map[*session]*tlsLeg{},
		drained:  make(chan struct{}),

		glimpses: newGlimpses(r.cfg.Tracing, r.cfg.TraceShare),

		heads:     fifo{timeout: r.cfg.HandshakeTimeout},
		connects:  fifo{timeout: r.cfg.DialTimeout},
		bodies:    fifo{timeout: replyTimeout},
		lingering: fifo{timeout: min(lingerTimeout, r.cfg.AnswerTimeout)},
		parted:    fifo{timeout: min(lingerTimeout, r.cfg.rest)},
		aborting:  fifo{timeout: abortInterval},
		evicting:  fifo{timeout: evictTimeout},
		leaving:   fifo{timeout: replyTimeout},
		watch:     fifo{timeout: watchInterval},
		pauses:    fifo{timeout: acceptPause},
		looks:     fifo{timeout: r.cfg.silence.look},
	}
	e.timer = time.AfterFunc(time.Hour, func() { e.post(func() { e.wakeAt = 0 }) })
	e.timer.Stop()
	// No listener: nbio's acceptor spins on EMFILE. EPOLLET without ONESHOT: with it a partial flush is never re-armed.
	e.nb = nbio.NewEngine(nbio.Config{
		Name: fmt.Sprintf("relay-%d", index), NPoller: 1, EpollMod: nbio.EPOLLET,
		ReadBufferSize: 64, BodyAllocator: mempool.NewAligned(),
	})
	e.nb.OnRead(e.onRead)
	e.nb.OnWrittenSize(e.onWritten)
	if !hookClose(e.nb, e.onClose) {
		e.nb.OnClose(e.onClose)
	}
	if err := e.nb.Start(); err != nil {
		return nil, fmt.Errorf("start poller %d: %w", index, err)
	}
	if err := e.watchOwn(); err != nil {
		go e.nb.Stop() // not waited for: nbio's loop forgets a stop that comes before it has begun
		return nil, fmt.Errorf("start poller %d: %w", index, err)
	}
	// A round trip, after which the loop has begun, so that stop ends it.
	e.round()
	return e, nil
}

// watchOwn finds the poller's epoll descriptor, which nbio does not export, and adds the engine's own descriptors.
func (e *engine) watchOwn() error {
	p := reflect.ValueOf(e.nb).Elem().FieldByName("pollers")
	if !p.IsValid() || p.Len() != 1 {
		return errors.New("this version of nbio has another layout: want 1.6.9")
	}
	f := p.Index(0).Elem().FieldByName("epfd")
	if !f.IsValid() || f.Kind() != reflect.Int {
		return errors.New("this version of nbio has another layout: want 1.6.9")
	}
	e.epfd = int(f.Int())

	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if e.connecting, err = e.watchFd(set, connects{}); err != nil {
		return err
	}
	mail, err := unix.Eventfd(1, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err == nil {
		e.mailFd, err = e.watchFd(mail, mailbox{})
	}
	if err != nil {
		_ = unix.Close(e.connecting)
		return os.NewSyscallError("eventfd", err)
	}
	return nil
}

// watchFd may be called only before the poller has met its first connection; see arrive.
func (e *engine) watchFd(fd int, session any) (int, error) {
	c, err := watchable(fd, session)
	if err != nil {
		return 0, err
	}
	if _, err := e.nb.AddConn(c); err != nil {
		_ = unix.Close(c.Hash())
		return 0, err
	}
	return c.Hash(), nil
}

// post has f run on the poller goroutine: surely if it reports true, never if it reports false, when the engine has
// stopped.
func (e *engine) post(f func()) bool {
	e.mail.Lock()
	defer e.mail.Unlock()
	if e.stopped {
		return false
	}
	e.posts = append(e.posts, f)
	e.wake()
	return true
}

// round waits until the poller has looked at its mailbox.
func (e *engine) round() {
	done := make(chan struct{})
	if e.post(func() { close(done) }) {
		<-done
	}
}

// arrive has the poller take in a descriptor that was opened just now: not at its next look at the mailbox but at the
// one after.
//
// An event that epoll reported for a connection may be handled after that connection was closed; if its descriptor's
// number had been given to a new connection by then, nbio would take the event, perhaps a hang-up, for one of the new
// connection. A descriptor that was open before epoll_wait returned cannot have the number of one that is closed
// afterwards; and between two looks at the mailbox the poller waits at least once. This is what allows it to close any
// connection at any time. While something is fresh or ripe, a look at the mailbox is to come.
func (e *engine) arrive(a arrival) {
	if len(e.fresh)+len(e.ripe) == 0 {
		e.knock()
	}
	e.fresh = append(e.fresh, a)
}

// wake must be called with the mailbox locked.
func (e *engine) wake() {
	if !e.awake {
		e.awake = true
		e.knock()
	}
}

// knock has the poller look at the mailbox in its next batch of events. Any goroutine may call it.
func (e *engine) knock() { e.setInterest(e.mailFd, unix.EPOLLIN|nbio.EPOLLET) }

// onMail runs what was posted, and takes in what arrived before this batch of events.
func (e *engine) onMail() {
	ripe := e.ripe
	e.ripe, e.fresh, e.taken = e.fresh, e.taken[:0], nil
	if len(e.ripe) > 0 {
		e.knock()
	}
	e.mail.Lock()
	posts := e.posts
	e.posts, e.awake = nil, false
	e.mail.Unlock()

	for _, f := range posts {
		f()
	}
	for i := range ripe {
		e.take(&ripe[i])
		ripe[i] = arrival{}
	}
	e.taken = ripe
	e.doChores()
	e.tick()
}

// rearm replaces a connection's registration in epoll, which makes epoll report what is there already.
//
// It is how reading resumes after a pause. It also leaves out EPOLLRDHUP, which nbio registers: on a FIN nbio would
// close the connection with bytes unread. In this mode nbio never touches a registration again.
func (e *engine) rearm(l *leg) { e.rearmFd(l.fd()) }

func (e *engine) rearmFd(fd int) { e.setInterest(fd, unix.EPOLLIN|unix.EPOLLOUT|nbio.EPOLLET) }

func (e *engine) setInterest(fd int, events uint32) {
	_ = syscall.EpollCtl(e.epfd, syscall.EPOLL_CTL_MOD, fd, &syscall.EpollEvent{Fd: int32(fd), Events: events})
}

// add puts a connection into epoll. On an error nbio has closed it.
func (e *engine) add(c *nbio.Conn, s *session) error {
	c.SetSession(s)
	if _, err := e.nb.AddConn(c); err != nil {
		return err
	}
	e.rearmFd(c.Hash())
	return nil
}

// onRead is nbio's hook for readable connections, on the poller goroutine. R12: the lease comes first. What nbio itself
// sends of a leg's queue before, when the process has stood still beyond the lease's end, nobody here can stop: it is why
// such a process is ended by the kernel.
func (e *engine) onRead(c *nbio.Conn) {
	began := e.now()
	e.observeLease()
	switch v := c.Session().(type) {
	case *session:
		if i := v.side(c); i >= 0 {
			e.readable(v, i)
		}
	case mailbox:
		e.onMail()
	case *listener:
		e.acceptFrom(v)
	case connects:
		e.onConnects()
	}
	e.occupancy.ran(began, e.now())
}

// onClose is nbio's hook for closed connections. It runs before the descriptor is closed, perhaps under the connection's
// lock or, see hookClose, on a goroutine of nbio's; but nothing closes connections except the poller goroutine, so that it
// is closed when that runs the post.
func (e *engine) onClose(c *nbio.Conn, _ error) {
	if s, ok := c.Session().(*session); ok {
		e.post(func() {
			if i := s.side(c); i >= 0 {
				e.forget(s, i)
				e.lost(s, i)
			}
		})
	}
}

// seal ends the mailbox. It runs on the poller, so that what was accepted is also run, to the last post and to the end of
// the last chore: whoever waits for an answer gets one.
func (e *engine) seal() {
	e.mail.Lock()
	posts := e.posts
	e.posts, e.stopped = nil, true
	e.mail.Unlock()
	for _, f := range posts {
		f()
	}
	for !e.chores.idle() {
		e.chores.slice()
	}
}

func (e *engine) now() time.Duration { return time.Since(e.epoch) }

// stop ends the engine, which must have no connection left and get no more, and waits for its goroutine.
func (e *engine) stop() {
	e.round() // what arrived last is taken, and closed, in the next one: see arrive
	sealed := make(chan struct{})
	if e.post(func() { e.seal(); close(sealed) }) {
		<-sealed
	}
	e.timer.Stop()
	e.nb.Stop()
	_ = unix.Close(e.mailFd)
	_ = unix.Close(e.connecting)
}
