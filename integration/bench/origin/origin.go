//go:build linux

// Package origin is the WebSocket origin of the comparison: it echoes, or streams as fast as it is read. It is one
// epoll loop on one goroutine, and trusts its clients, which are the load generator's.
package origin

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unitgate/unitgate/integration/bench/sock"
)

const (
	// StreamPath is what a session asks for that shall stream: a message is then the number of frames to send, 0 for
	// frames without end. Every other session echoes.
	StreamPath = "/stream"
	// FrameBytes is the length of a frame of a stream.
	FrameBytes = FrameHead + 64<<10
	// FrameHead is the length of its head.
	FrameHead = 10

	// StreamSendBuffer keeps what waits for a slow reader out of the origin's kernel buffers.
	StreamSendBuffer = 128 << 10

	chunkFrames = 4 // written at once
	turn        = 4 // chunks, until the next session's turn
)

// Origin is a running origin. Its counters may be read by anybody.
type Origin struct {
	Open atomic.Int64 // connections
	Sent atomic.Int64 // bytes of streams that the kernel took

	poll      *sock.Poller
	listeners map[int]bool
	conns     []*conn // by descriptor
	buf       []byte
	out       []byte
	chunk     []byte // chunkFrames frames
	key       string // the last Sec-WebSocket-Key
	answer    []byte // to it
}

type conn struct {
	fd      int
	open    bool   // the handshake is done
	stream  bool   // asked for StreamPath
	part    []byte // of a head or a frame that is not complete
	waiting []byte // an echo that the kernel did not take yet
	left    int64  // bytes of the stream to send; negative: no end
	at      int    // place in the chunk
	blocked bool   // watched for Out
}

// New opens listeners on the addresses HOST:PORT; those with port 0 all take the port that the first one gets.
func New(addrs []string) (o *Origin, bound []string, err error) {
	o = &Origin{listeners: map[int]bool{}, buf: make([]byte, 256<<10)}
	for range chunkFrames {
		o.chunk = sock.AppendHead(o.chunk, sock.OpBinary, false, FrameBytes-FrameHead)
		o.chunk = append(o.chunk, make([]byte, FrameBytes-FrameHead)...)
	}
	if o.poll, err = sock.NewPoller(); err != nil {
		return nil, nil, err
	}
	all, err := sock.ParseAddrs(addrs)
	if err != nil {
		return nil, nil, err
	}
	port := 0
	for _, a := range all {
		if a.Port == 0 {
			a.Port = port
		}
		var fd int
		if fd, port, err = sock.Listen(a); err != nil {
			return nil, nil, err
		}
		if err := o.poll.Add(fd, sock.In); err != nil {
			return nil, nil, err
		}
		o.listeners[fd] = true
		bound = append(bound, fmt.Sprintf("%d.%d.%d.%d:%d", a.Addr[0], a.Addr[1], a.Addr[2], a.Addr[3], port))
	}
	return o, bound, nil
}

// Run serves until epoll fails, on the calling goroutine, which should hold a thread of its own.
func (o *Origin) Run() error {
	for {
		events, err := o.poll.Wait(time.Second)
		if err != nil {
			return err
		}
		for _, ev := range events {
			fd := int(ev.Fd)
			switch {
			case o.listeners[fd]:
				o.acceptAll(fd)
			case fd < len(o.conns) && o.conns[fd] != nil:
				o.ready(o.conns[fd], ev.Events)
			}
		}
	}
}

func (o *Origin) acceptAll(listener int) {
	for {
		fd, err := sock.Accept(listener)
		if err != nil {
			return // nothing waits; or no descriptor is left, which the client notices
		}
		for fd >= len(o.conns) {
			o.conns = append(o.conns, make([]*conn, 1024)...)
		}
		o.conns[fd] = &conn{fd: fd}
		o.Open.Add(1)
		if sock.NoDelay(fd) != nil || o.poll.Add(fd, sock.In) != nil {
			o.close(o.conns[fd])
		}
	}
}

func (o *Origin) close(c *conn) {
	if o.conns[c.fd] != c {
		return
	}
	sock.Close(c.fd)
	o.conns[c.fd] = nil
	o.Open.Add(-1)
}

func (o *Origin) ready(c *conn, events uint32) {
	if events&sock.Out != 0 && !o.flush(c) {
		return
	}
	if events&^sock.Out == 0 {
		return
	}
	n, err := sock.Read(c.fd, o.buf)
	switch {
	case err != nil && sock.Again(err):
	case err != nil || n == 0:
		o.close(c)
	default:
		o.take(c, o.buf[:n])
	}
}

// take handles what was read.
func (o *Origin) take(c *conn, b []byte) {
	if c.part != nil {
		b = append(c.part, b...)
		c.part = nil
	}
	if !c.open {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			c.part = bytes.Clone(b)
			return
		}
		if !o.greet(c, b[:end+2]) {
			o.close(c)
			return
		}
		b = b[end+4:]
	}
	o.out = o.out[:0]
	ended := false
	for {
		f, ok := sock.ParseFrame(b)
		if !ok || len(b) < f.Head+f.Size {
			break
		}
		payload := b[f.Head : f.Head+f.Size]
		sock.Unmask(payload, f.Key)
		b = b[f.Head+f.Size:]
		if c.stream && f.Op == sock.OpBinary {
			c.left = streamLength(payload)
			continue
		}
		op := f.Op
		if op == sock.OpPing {
			op = sock.OpPong
		}
		o.out = sock.AppendFrame(o.out, op, false, payload)
		ended = ended || f.Op == sock.OpClose
	}
	if len(b) > 0 {
		c.part = bytes.Clone(b)
	}
	if o.send(c, o.out) && ended {
		o.close(c) // RFC 6455 section 7.1.1: the server closes first
	}
}

// streamLength is the number of bytes that a message asks for, negative for a stream without end.
func streamLength(message []byte) int64 {
	n, err := strconv.ParseInt(string(message), 10, 32)
	if err != nil || n <= 0 {
		return -1
	}
	return n * FrameBytes
}

// greet answers a handshake; false if it is none, or the connection is gone.
func (o *Origin) greet(c *conn, head []byte) bool {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	var key []byte
	for len(fields) > 0 && key == nil {
		var field []byte
		field, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		if name, value, _ := bytes.Cut(field, []byte(":")); bytes.EqualFold(name, []byte("Sec-WebSocket-Key")) {
			key = bytes.TrimSpace(value)
		}
	}
	if len(key) == 0 {
		return false
	}
	if string(key) != o.key {
		o.key = string(key)
		sum := sha1.Sum([]byte(o.key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		o.answer = []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
			base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n")
	}
	c.open = true
	if c.stream = bytes.HasPrefix(line, []byte("GET "+StreamPath+" ")); c.stream && sock.SendBuffer(c.fd, StreamSendBuffer) != nil {
		return false
	}
	return o.send(c, o.answer)
}

// send writes b behind what waits, and then the stream; false if the connection is gone.
func (o *Origin) send(c *conn, b []byte) bool {
	if len(c.waiting) == 0 && len(b) > 0 {
		n, err := sock.Write(c.fd, b)
		if err != nil && !sock.Again(err) {
			o.close(c)
			return false
		}
		b = b[n:]
	}
	c.waiting = append(c.waiting, b...)
	return o.flush(c)
}

// flush writes what waits, then of the stream what the kernel takes, up to a turn's share; false if the connection is
// gone.
func (o *Origin) flush(c *conn) bool {
	for len(c.waiting) > 0 {
		n, err := sock.Write(c.fd, c.waiting)
		if err != nil {
			return o.again(c, err)
		}
		c.waiting = c.waiting[n:]
	}
	c.waiting = nil
	for range turn {
		if c.left == 0 {
			break
		}
		b := o.chunk[c.at:]
		if c.left > 0 {
			b = b[:min(int64(len(b)), c.left)]
		}
		n, err := sock.Write(c.fd, b)
		if err != nil {
			return o.again(c, err)
		}
		o.Sent.Add(int64(n))
		c.at = (c.at + n) % len(o.chunk)
		if c.left > 0 {
			c.left -= int64(n)
		}
	}
	return o.watch(c, c.left != 0)
}

func (o *Origin) again(c *conn, err error) bool {
	if sock.Again(err) {
		return o.watch(c, true)
	}
	o.close(c)
	return false
}

func (o *Origin) watch(c *conn, out bool) bool {
	if out == c.blocked {
		return true
	}
	c.blocked = out
	events := uint32(unix.EPOLLIN)
	if out {
		events |= sock.Out
	}
	if o.poll.Change(c.fd, events) != nil {
		o.close(c)
		return false
	}
	return true
}
