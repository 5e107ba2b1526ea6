package relay

import (
	"net"
	"os"
	"reflect"
	"unsafe"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

// adopter makes nbio's connections out of sockets.
//
// nbio takes in net.Conns only, and duplicates their descriptor. The way there from a socket costs a second duplicate, a
// registration in Go's own poller and two address objects. All that an nbio.Conn needs are two of its fields, so these
// are set directly, where reflection finds them. If nbio no longer has them, sockets go the long way.
//
// This file and socketio.go are the only ones with unsafe code.
type adopter struct {
	fd, typ uintptr // offsets in nbio.Conn
	fast    bool    // they are known
	tune    func(fd int) error
}

func newAdopter(tune func(fd int) error) adopter {
	t := reflect.TypeFor[nbio.Conn]()
	fd, ok1 := t.FieldByName("fd")
	typ, ok2 := t.FieldByName("typ")
	a := adopter{fd: fd.Offset, typ: typ.Offset, tune: tune}
	if !ok1 || !ok2 || fd.Type.Kind() != reflect.Int || typ.Type != reflect.TypeFor[nbio.ConnType]() {
		return a
	}
	const probe = 1 << 20
	c := a.shortWay(probe)
	a.fast = c.Hash() == probe && c.IsTCP()
	return a
}

// conn gives a TCP socket, connected or not, to nbio. It owns fd from here on, also if it fails; the connection's
// descriptor may be another one.
func (a *adopter) conn(fd int) (*nbio.Conn, error) {
	if a.fast {
		return a.shortWay(fd), nil
	}
	return a.longWay(fd)
}

func (a *adopter) shortWay(fd int) *nbio.Conn {
	c := new(nbio.Conn)
	*(*int)(unsafe.Add(unsafe.Pointer(c), a.fd)) = fd
	*(*nbio.ConnType)(unsafe.Add(unsafe.Pointer(c), a.typ)) = nbio.ConnTypeTCP
	return c
}

// hookClose has nbio call hook for each closed connection, on the goroutine that closes it. OnClose would start a
// goroutine for that each time, at a tenth of what a short session costs. False if nbio no longer has these two fields: then
// nothing has changed.
func hookClose(nb *nbio.Engine, hook func(*nbio.Conn, error)) bool {
	v := reflect.ValueOf(nb).Elem()
	opened, closed := v.FieldByName("onOpen"), v.FieldByName("onClose")
	if !opened.IsValid() || !closed.IsValid() ||
		opened.Type() != reflect.TypeFor[func(*nbio.Conn)]() || closed.Type() != reflect.TypeFor[func(*nbio.Conn, error)]() {
		return false
	}
	// The two belong together: nbio's own count the connections, for Stop to wait for.
	*(*func(*nbio.Conn))(unsafe.Pointer(opened.UnsafeAddr())) = func(*nbio.Conn) {}
	*(*func(*nbio.Conn, error))(unsafe.Pointer(closed.UnsafeAddr())) = hook
	return true
}

func (a *adopter) longWay(fd int) (*nbio.Conn, error) {
	f := os.NewFile(uintptr(fd), "tcp")
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, err
	}
	c, err := duplicate(conn)
	if err != nil {
		return nil, err
	}
	// Nobody asks for the addresses again, and they are what an idle session would hold on to.
	for _, addr := range [...]net.Addr{c.LocalAddr(), c.RemoteAddr()} {
		if t, ok := addr.(*net.TCPAddr); ok {
			*t = net.TCPAddr{}
		}
	}
	if err := a.tune(c.Hash()); err != nil { // net has keepalive its own way
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// duplicate closes conn in any case.
func duplicate(conn net.Conn) (*nbio.Conn, error) {
	c, err := nbio.NBConn(conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	unix.CloseOnExec(c.Hash()) // the duplicate has lost that
	return c, nil
}
