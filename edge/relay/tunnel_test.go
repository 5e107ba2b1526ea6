package relay

import (
	"testing"
)

func TestTunnelSmoke(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "7")
	c.send([]byte("hello")...)
	o.want([]byte("hello")...)
	o.send([]byte("world")...)
	c.want([]byte("world")...)
	if n := f.counts(); n.Sessions != 1 {
		t.Errorf("%+v", n)
	}
}
