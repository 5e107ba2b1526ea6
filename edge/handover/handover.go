// Package handover passes the listening sockets of an edge from one process to the next, over a unix socket in the state
// directory:
//
//	 the next one (Dial)                  the one that accepts (Open)
//	─ hello ───────────────────────────────►
//	◄─────────────── offer, and the sockets ─  it goes on accepting
//	  joins, installs a state, accepts
//	─ commit ──────────────────────────────►
//	                                           stops accepting, keeps the sockets open
//	◄────────────────────────────── stopped ─
//	  …                                        serves its sessions to their end
//	─ release ─────────────────────────────►
//	                                           closes the sockets
//
// Until the commit, the end of the connection means that nothing has happened. From then on until the release it means
// that the next process has died: the former one, whose sockets are still open, accepts again. There is no moment at
// which nobody has them, and none at which somebody who waits in their queues is lost.
//
// Instead of anything that it says here, the former process may refuse, with a reason: when the next one does not commit
// in time, or another one has said hello since. That one must not accept then, or stops, for the former one goes on. Each
// wait has an end: for a hello, an offer, a word that can be said at once (answerWithin), for the commit (Terms.Within);
// but for the release: in the reserve the former process waits for its own sessions' end.
//
// A process that is given up may still have the sockets, if it hangs: who waits at one that it alone has, because the
// former process has ended since, waits for ever. It has to be ended. The log has its pid.
//
// Both ends must run as the same user, which the kernel vouches for.
package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Version of what is said. Processes that differ in it do not understand each other.
const Version = 1

const (
	// maxFiles is how many descriptors the kernel passes in one message (SCM_MAX_FD).
	maxFiles = 253

	// answerWithin is how long one end waits for what the other one can say at once.
	answerWithin = 10 * time.Second
)

var (
	// ErrNobody: no process accepts here.
	ErrNobody = errors.New("no edge hands its sockets over here")

	// ErrRefused: the process that accepts goes on, and says why.
	ErrRefused = errors.New("the running edge does not hand over")
)

// Item is something that is handed over: one address with all of its sockets, or the lock of the state directory.
type Item struct {
	Kind  string     // what it is, and what it is good for; the two ends agree on that
	Addr  string     // as it is configured
	Files []*os.File // descriptors
}

// Offer is what a process has to hand over, and who it is.
type Offer struct {
	PID       int    `json:"pid"`
	Namespace string `json:"namespace"`
	Unit      string `json:"unit"`
	Cluster   string `json:"cluster"`
	Edge      string `json:"edge"`
	Directory string `json:"directory"` // identity of its state directory
	// Ends is the pid namespace of which every process ends with this one, "" if there is none: that of a container whose
	// PID 1 waits for it.
	Ends  string `json:"ends,omitempty"`
	Items []Item `json:"-"`
}

// Close closes the descriptors.
func (o *Offer) Close() {
	for i := range o.Items {
		for _, f := range o.Items[i].Files {
			_ = f.Close()
		}
		o.Items[i].Files = nil
	}
}

// Take takes an item out of the offer; the caller closes its files. There are none if it is not offered.
func (o *Offer) Take(kind, addr string) []*os.File {
	var files []*os.File
	for i := range o.Items {
		if it := &o.Items[i]; it.Kind == kind && it.Addr == addr {
			files, it.Files = append(files, it.Files...), nil
		}
	}
	return files
}

// message is one packet. Descriptors come with those of kind item.
type message struct {
	Version int    `json:"version"`
	Is      string `json:"is"`
	Offer   *Offer `json:"offer,omitempty"`
	Items   int    `json:"items,omitempty"` // that follow the offer
	Kind    string `json:"kind,omitempty"`
	Addr    string `json:"addr,omitempty"`
	Rate    int    `json:"rate,omitempty"` // sessions a second that the former process is to close
	Why     string `json:"why,omitempty"`
}

const (
	isHello   = "hello"
	isOffer   = "offer"
	isItem    = "item"
	isCommit  = "commit"
	isStopped = "stopped"
	isRelease = "release"
	isRefused = "refused"
)

// link is one end of a connection. One goroutine sends, one receives.
type link struct{ c *net.UnixConn }

func (l link) send(m message, files ...*os.File) error {
	m.Version = Version
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var fds []int
	for _, f := range files {
		rc, err := f.SyscallConn() // not Fd, which would make the socket a blocking one, in every process that has it
		if err != nil {
			return err
		}
		if err := rc.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return err
		}
	}
	if err := l.c.SetWriteDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = l.c.WriteMsgUnix(b, rights, nil)
	return err
}

// receive waits until ctx ends, and says io.EOF when the other end is gone.
func (l link) receive(ctx context.Context) (m message, files []*os.File, err error) {
	if err := l.c.SetReadDeadline(time.Time{}); err != nil {
		return m, nil, err
	}
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = l.c.SetReadDeadline(time.Unix(1, 0)); close(late) })
	defer func() {
		if !stop() {
			<-late // or it would end the next receive
		}
	}()
	b, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := l.c.ReadMsgUnix(b, oob)
	switch {
	case err != nil && ctx.Err() != nil:
		return m, nil, ctx.Err()
	case errors.Is(err, unix.ECONNRESET):
		err = io.EOF
	}
	if err != nil {
		return m, nil, err
	}
	files, err = descriptors(oob[:oobn])
	if err == nil && flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 {
		// The kernel leaves out what this process has no descriptors for; sockets that nobody accepts from would be lost.
		err = errors.New("some of the sockets did not arrive: raise the limit of open files")
	}
	if err == nil {
		err = json.Unmarshal(b[:n], &m)
	}
	if err == nil && m.Version != Version {
		err = fmt.Errorf("the other process speaks version %d of the hand-over, this one %d", m.Version, Version)
	}
	if err == nil && m.Is == isRefused {
		err = fmt.Errorf("%w: %s", ErrRefused, m.Why)
	}
	if err != nil {
		closeAll(files)
		return m, nil, err
	}
	return m, files, nil
}

// want receives a message of one kind, which carries no descriptors.
func (l link) want(ctx context.Context, is string) (message, error) {
	m, files, err := l.receive(ctx)
	closeAll(files)
	if err == nil && m.Is != is {
		err = fmt.Errorf("the other process says %q instead of %q", m.Is, is)
	}
	return m, err
}

func descriptors(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			closeAll(files)
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// checkPeer refuses other users' processes, and says which one it is.
func checkPeer(c *net.UnixConn) (pid int, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if cerr := rc.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return 0, fmt.Errorf("who is at the other end: %w", err)
	}
	return int(cred.Pid), checkUser(int(cred.Uid), os.Geteuid())
}

func checkUser(theirs, ours int) error {
	if theirs != ours {
		return fmt.Errorf("a process of user %d is at the other end, this one is of user %d", theirs, ours)
	}
	return nil
}
