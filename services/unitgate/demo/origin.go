// Package demo is what `unitgate dev` shows without a config file: a namespace with two units, and for each unit a
// WebSocket server that says in every message which unit it stands in, as the walkthrough's servers do.
package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	broadcastEvery = time.Second
	maxMessage     = 1 << 20 // bytes; a longer one ends the connection with 1009
)

// Origin is the WebSocket server of one unit. Its methods may be used by any goroutine.
type Origin struct {
	unit     string
	every    time.Duration
	listener net.Listener
	server   *http.Server
	stop     context.CancelFunc
	conns    sync.WaitGroup // connections and the accepting goroutine
}

// StartOrigin starts the server of a unit on a loopback port that the kernel chooses.
func StartOrigin(unit string) (*Origin, error) { return start(unit, "127.0.0.1:0", broadcastEvery) }

// StartOriginAt starts it on an address of the caller's.
func StartOriginAt(unit, addr string) (*Origin, error) { return start(unit, addr, broadcastEvery) }

func start(unit, addr string, every time.Duration) (*Origin, error) {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("demo origin of unit %s: %w", unit, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	o := &Origin{unit: unit, every: every, listener: l, stop: stop}
	o.server = &http.Server{
		Handler:           o,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         o.count,
	}
	o.conns.Go(func() { _ = o.server.Serve(l) }) // it ends with ErrServerClosed when Close is called
	return o, nil
}

// Addr is HOST:PORT of the server.
func (o *Origin) Addr() string { return o.listener.Addr().String() }

// Close ends the server and its connections, and waits until they are gone.
func (o *Origin) Close() error {
	o.stop()
	err := o.server.Close()
	o.conns.Wait()
	return err
}

// count counts connections from their acceptance on, while the accepting goroutine keeps the count above zero.
func (o *Origin) count(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		o.conns.Add(1)
	case http.StateClosed:
		o.conns.Done()
	}
}

// ServeHTTP serves one WebSocket connection: a welcome, an echo of what comes, and a random number every second.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // any page may try the demo
	if err != nil {
		return // Accept has answered
	}
	defer o.conns.Done() // a hijacked connection ends here and not in count
	defer c.CloseNow()
	c.SetReadLimit(maxMessage)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if err := o.say(ctx, c, "Welcome to the server! "+o.unit); err != nil {
		return
	}
	o.conns.Go(func() { o.broadcast(ctx, c) })
	for {
		_, text, err := c.Read(ctx)
		if err != nil {
			return // the client has gone, or Close was called
		}
		if err := o.say(ctx, c, string(text)+":"+o.unit); err != nil {
			return
		}
	}
}

func (o *Origin) broadcast(ctx context.Context, c *websocket.Conn) {
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := o.say(ctx, c, strconv.FormatFloat(rand.Float64(), 'f', -1, 64)+":"+o.unit); err != nil {
			return // the reader notices, too
		}
	}
}

func (o *Origin) say(ctx context.Context, c *websocket.Conn, text string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // a client that reads nothing for so long is given up
	defer cancel()
	return c.Write(ctx, websocket.MessageText, []byte(text))
}
