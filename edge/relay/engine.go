package relay

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync"
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

	view     *handshake.View
	registry registry.Registry[*session]
	all      map[*session]struct{}
	stats    map[string]*typeStats // r's, as far as this engine met the types
	victims  map[string][]*session // by type, in the order marked; may hold some that are no longer to be evicted

	buf       []byte // for reads; valid until the next read
	out       []byte // for building heads and frames; valid until the next use
	pollFd    [1]unix.PollFd
	congested []*session // those that had pending bytes lately
	turn      uint32     // rotates origins

	dialing int        // connects under way
	toDial  []*session // waiting for their turn to connect
	closing bool       // Close has begun
	drained chan struct{}

	heads, held, replies, lingering, aborting, evicting, watch fifo
	watching                                                   deadline // in watch while congested is not empty
	timer                                                      *time.Timer
	wakeAt                                                     time.Duration // when timer fires; 0: it does not

	fresh, ripe []arrival // see arrive

	mail    sync.Mutex // guards what follows: the mailbox
	posts   []func()
	arrived []arrival
	awake   bool // the poller will look at the mailbox
	stopped bool
	wakeFd  int // writing to it wakes the poller

	wakeConn *nbio.Conn // its other end; the poller's
}

// wakeup is the nbio session of wakeConn.
type wakeup struct{}

func newEngine(r *Relay, index int) (*engine, error) {
	e := &engine{
		r: r, index: index, epoch: time.Now(), wakeFd: -1,
		all:     map[*session]struct{}{},
		stats:   map[string]*typeStats{},
		victims: map[string][]*session{},
		buf:     make([]byte, readSize),
		drained: make(chan struct{}),

		heads:     fifo{timeout: r.cfg.HandshakeTimeout},
		replies:   fifo{timeout: replyTimeout},
		lingering: fifo{timeout: lingerTimeout},
		aborting:  fifo{timeout: abortInterval},
		evicting:  fifo{timeout: evictTimeout},
		watch:     fifo{timeout: watchInterval},
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
	e.nb.OnClose(e.onClose)
	if err := e.nb.Start(); err != nil {
		return nil, fmt.Errorf("start poller %d: %w", index, err)
	}
	if err := e.connectMailbox(); err != nil {
		go e.nb.Stop() // not waited for: nbio's loop forgets a stop that comes before it has begun
		return nil, fmt.Errorf("start poller %d: %w", index, err)
	}
	// A round trip, after which the loop has begun, so that stop ends it.
	e.round()
	return e, nil
}

// connectMailbox gives the poller a socket to be woken by, and finds its epoll descriptor, which nbio does not export.
func (e *engine) connectMailbox() error {
	p := reflect.ValueOf(e.nb).Elem().FieldByName("pollers")
	if !p.IsValid() || p.Len() != 1 {
		return errors.New("this version of nbio has another layout: want 1.6.9")
	}
	f := p.Index(0).Elem().FieldByName("epfd")
	if !f.IsValid() || f.Kind() != reflect.Int {
		return errors.New("this version of nbio has another layout: want 1.6.9")
	}
	e.epfd = int(f.Int())

	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	file := os.NewFile(uintptr(fds[0]), "mailbox")
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err == nil {
		var c *nbio.Conn
		if c, err = adopt(conn); err == nil {
			e.wakeConn = c
			c.SetSession(wakeup{})
			_, err = e.nb.AddConn(c)
		}
	}
	if err != nil {
		_ = syscall.Close(fds[1])
		return err
	}
	e.wakeFd = fds[1]
	return nil
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

// arrive hands a new connection, or a dial that failed, to the poller.
//
// It is added to epoll not at the next wake-up but at the one after. An event that epoll reported for a connection may
// be handled after that connection was closed; if its descriptor's number had been given to a new connection by then,
// nbio would take the event, perhaps a hang-up, for one of the new connection. A connection whose descriptor was open
// before epoll_wait returned cannot have the number of one that is closed afterwards. This is what allows the poller to
// close any connection at any time.
func (e *engine) arrive(a arrival) bool {
	e.mail.Lock()
	defer e.mail.Unlock()
	if e.stopped {
		return false
	}
	e.arrived = append(e.arrived, a)
	e.wake()
	return true
}

// wake must be called with the mailbox locked.
func (e *engine) wake() {
	if e.awake {
		return
	}
	e.awake = true
	_, _ = syscall.Write(e.wakeFd, []byte{1}) // its buffer is empty: it was read before awake was reset
}

// onMail runs what was posted, and adds the connections that arrived before this batch of events.
func (e *engine) onMail() {
	e.fresh, e.ripe = e.ripe[:0], e.fresh
	e.mail.Lock()
	posts := e.posts
	e.posts = nil
	e.fresh, e.arrived = append(e.fresh, e.arrived...), e.arrived[:0]
	if len(e.fresh) == 0 {
		e.drainWakeup()
		e.awake = false
	} else {
		e.rearmFd(e.wakeConn.Hash()) // still readable: epoll reports it again, in the next batch
	}
	e.mail.Unlock()

	for _, f := range posts {
		f()
	}
	for i := range e.ripe {
		e.take(&e.ripe[i])
		e.ripe[i] = arrival{}
	}
	e.tick()
}

func (e *engine) drainWakeup() {
	var b [64]byte
	for {
		if n, err := e.wakeConn.Read(b[:]); n <= 0 && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// rearm replaces a connection's registration in epoll, which makes epoll report what is there already.
//
// It is how reading resumes after a pause. It also leaves out EPOLLRDHUP, which nbio registers: on a FIN nbio would
// close the connection with bytes unread. In this mode nbio never touches a registration again.
func (e *engine) rearm(l *leg) { e.rearmFd(l.fd()) }

func (e *engine) rearmFd(fd int) {
	_ = syscall.EpollCtl(e.epfd, syscall.EPOLL_CTL_MOD, fd, &syscall.EpollEvent{
		Fd: int32(fd), Events: syscall.EPOLLIN | syscall.EPOLLOUT | nbio.EPOLLET,
	})
}

// add puts a connection into epoll. On an error nbio has closed it.
func (e *engine) add(c *nbio.Conn, s *session) error {
	// Nobody asks for these again, and they are what an idle session would hold on to.
	for _, a := range [...]net.Addr{c.LocalAddr(), c.RemoteAddr()} {
		if t, ok := a.(*net.TCPAddr); ok {
			*t = net.TCPAddr{}
		}
	}
	c.SetSession(s)
	if _, err := e.nb.AddConn(c); err != nil {
		return err
	}
	e.rearmFd(c.Hash())
	return nil
}

// onRead is nbio's hook for readable connections, on the poller goroutine.
func (e *engine) onRead(c *nbio.Conn) {
	switch v := c.Session().(type) {
	case *session:
		if i := v.side(c); i >= 0 {
			e.readable(v, i)
		}
	case wakeup:
		e.onMail()
	}
}

// onClose is nbio's hook for closed connections. It runs on a goroutine of nbio's, before the descriptor is closed; but
// nothing closes connections except the poller goroutine, so that it is closed when that runs the post.
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

// seal ends the mailbox. It runs on the poller, so that what was accepted is also run, to the last post: whoever waits
// for an answer gets one.
func (e *engine) seal() {
	e.mail.Lock()
	posts := e.posts
	e.posts, e.stopped = nil, true
	e.mail.Unlock()
	for _, f := range posts {
		f()
	}
}

func (e *engine) now() time.Duration { return time.Since(e.epoch) }

// start sets the deadline of a session.
func (e *engine) start(q *fifo, s *session) {
	q.start(&s.deadline, e.now())
	e.schedule(s.deadline.at)
}

// schedule has tick run at the given time or before.
func (e *engine) schedule(at time.Duration) {
	if e.wakeAt != 0 && e.wakeAt <= at {
		return
	}
	e.wakeAt = at
	e.timer.Reset(max(at-e.now(), 0))
}

// tick handles the deadlines that have passed.
func (e *engine) tick() {
	now := e.now()
	for _, q := range [...]*fifo{&e.heads, &e.held, &e.replies, &e.lingering, &e.aborting, &e.evicting} {
		for d := q.expired(now); d != nil; d = q.expired(now) {
			e.expired(d.s)
		}
	}
	if e.watch.expired(now) != nil {
		e.watchCongested()
	}
	for _, q := range [...]*fifo{&e.heads, &e.held, &e.replies, &e.lingering, &e.aborting, &e.evicting, &e.watch} {
		if q.first != nil {
			e.schedule(q.first.at)
		}
	}
}

// watchCongested re-arms what has pending bytes: under memory pressure the kernel can swallow the edge that should
// have told of room in the send buffer.
func (e *engine) watchCongested() {
	still := e.congested[:0]
	for _, s := range e.congested {
		stuck := false
		for i := range s.legs {
			if l := &s.legs[i]; l.c != nil && l.pending > 0 {
				stuck = true
				e.rearm(l)
			}
		}
		if stuck {
			still = append(still, s)
		} else {
			s.congested = false
		}
	}
	clear(e.congested[len(still):])
	e.congested = still
	if len(still) > 0 {
		e.watch.start(&e.watching, e.now())
	}
}

// stop ends the engine, which must have no connection left and get no more, and waits for its goroutine.
func (e *engine) stop() {
	e.round() // what arrived last is taken, and closed, in the next one: see arrive
	sealed := make(chan struct{})
	if e.post(func() { e.seal(); close(sealed) }) {
		<-sealed
	}
	e.timer.Stop()
	e.nb.Stop()
	_ = syscall.Close(e.wakeFd)
}
