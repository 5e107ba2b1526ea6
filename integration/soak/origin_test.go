package soak_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// resetPlease is the message at which an origin breaks its connection off.
const resetPlease = "reset, please"

// floodPath asks for a flood: floodPath + "3" is answered with three messages of floodMessage bytes, then echoes.
const (
	floodPath    = "/flood/"
	floodMessage = 64 << 10
)

// origin echoes; it is as light as possible, since thousands of its sessions are in the test's process.
type origin struct {
	addr string
	open atomic.Int64 // connections
}

func startOrigin(t *testing.T) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: ln.Addr().String()}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			o.open.Add(1)
			go func() {
				defer o.open.Add(-1)
				defer c.Close()
				o.serve(c.(*net.TCPConn))
			}()
		}
	})
	return o
}

func (o *origin) serve(c *net.TCPConn) {
	in := bufio.NewReaderSize(c, 1024)
	request, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	if _, err := c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")); err != nil {
		return
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(request.URL.Path, floodPath)); err == nil {
		for i := range n {
			if _, err := c.Write(harness.AppendFrame(nil, harness.OpBinary, nil, floodOf(i))); err != nil {
				return
			}
		}
	}
	for {
		opcode, payload, err := readMasked(in)
		if err != nil {
			return
		}
		if string(payload) == resetPlease {
			_ = c.SetLinger(0)
			return
		}
		if _, err := c.Write(harness.AppendFrame(nil, opcode, nil, payload)); err != nil || opcode == harness.OpClose {
			return
		}
	}
}

// floodOf is message i of a flood.
func floodOf(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, floodMessage) }

var errUnmasked = errors.New("an unmasked frame from a client's side (RFC 6455 section 5.1)")

// readMasked reads one frame of a client.
func readMasked(r io.Reader) (opcode byte, payload []byte, err error) {
	var head [14]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return 0, nil, err
	}
	if head[1]&0x80 == 0 {
		return 0, nil, errUnmasked
	}
	size, extra := uint64(head[1]&0x7f), 0
	switch size {
	case 126:
		extra = 2
	case 127:
		extra = 8
	}
	if _, err := io.ReadFull(r, head[2:6+extra]); err != nil {
		return 0, nil, err
	}
	switch extra {
	case 2:
		size = uint64(binary.BigEndian.Uint16(head[2:]))
	case 8:
		size = binary.BigEndian.Uint64(head[2:])
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= head[2+extra+i%4]
	}
	return head[0] & 0x0f, payload, nil
}
