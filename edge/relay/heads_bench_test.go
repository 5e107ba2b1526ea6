package relay

import (
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a handshake costs that has sent most of its head and says no more, its peer in the test included. By default there
// are few of them; UNITGATE_SLOW_HEADS=2000 takes that many.
func TestSlowHeadMemory(t *testing.T) {
	n := 100
	if v := os.Getenv("UNITGATE_SLOW_HEADS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ sent, most int }{{1 << 10, 8 << 10}, {7 << 10, 16 << 10}, {31 << 10, 48 << 10}} {
		f := start(t, Config{HandshakeTimeout: 3 * patience})
		f.own()
		all := f.connect
		head := "GET /chat HTTP/1.1\r\nHost: x\r\nCookie: "
		head += strings.Repeat("c", c.sent-len(head))
		arrived := func(conns int) func() bool {
			return func() bool {
				return f.sum(func(e *engine) (n int) {
					for s := range e.all {
						if s.hs != nil {
							n += len(s.hs.buf)
						}
					}
					return n
				}) == conns*c.sent
			}
		}
		all(head)
		eventually(t, "the first has come", arrived(1))
		before := memory()
		began := time.Now()
		conns := make([]net.Conn, n)
		for i := range conns {
			var err error
			if conns[i], err = f.dial(); err != nil {
				t.Fatal(err)
			}
			for rest := head; len(rest) > 0; { // as segments of Ethernet come
				k := min(len(rest), 1460)
				if _, err := conns[i].Write([]byte(rest[:k])); err != nil {
					t.Fatal(err)
				}
				rest = rest[k:]
			}
		}
		eventually(t, "all have come", arrived(n+1))
		each := int64(memory()-before) / int64(n)
		t.Logf("%d handshakes that have sent %d bytes cost %d bytes of heap each; %v", n, c.sent, each, time.Since(began))
		if each > int64(c.most) && !overTLS(t) && !underRace {
			t.Errorf("%d bytes for a head of %d", each, c.sent)
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
		runtime.KeepAlive(conns)
	}
}
