package relay

import (
	"strings"
	"testing"
	"time"
)

// What cannot be HTTP is recognised at its first byte: neither side is waited for.
func TestClientsThatSpeakSomethingElseAreToldAtOnce(t *testing.T) {
	f := start(t, Config{HandshakeTimeout: time.Hour}, "127.0.0.1:1")
	f.own()
	for _, said := range []string{"HELO x", "\x00", "EHLO mail.example\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "PRI * HTTP/2.0", "*1\r\n$4\r\nPING\r\n", "{\"id\":1}"} {
		p := f.connect(said)
		if code, _, body := p.status(); code != 400 || body == "" {
			t.Errorf("%q: %d %q", said, code, body)
		}
	}
}

// An origin that says anything else than HTTP, and then waits, costs nobody a session: another one is tried, and one that
// waits so is left alone after three.
func TestOriginsThatSpeakSomethingElseAreLeftAtOnce(t *testing.T) {
	for _, says := range []string{
		"SSH-2.0-OpenSSH_9.2\r\n", "S", "220 mail.example ESMTP\r\n", "\x4a\x00\x00\x00\x0a8.0.36\x00", "\x15\x03\x03\x00\x02\x02\x0a", "-ERR unknown\r\n", "HTTP/2.0 200",
	} {
		t.Run(says[:1], func(t *testing.T) {
			bad, good := newBackend(t), newBackend(t)
			f := start(t, Config{Engines: 1}, bad.addr(), good.addr())
			f.reply = time.Hour
			f.own()
			for range 9 {
				client := f.connect(requestFor("7"))
				var o *peer
				for o == nil {
					select {
					case p := <-bad.conns:
						p.head()
						p.send([]byte(says)...)
						p.wantFarewell()
					case o = <-good.conns:
						o.head()
					case <-time.After(patience):
						t.Fatal("no origin was dialled")
					}
				}
				o.send([]byte(switching)...)
				client.want([]byte(switching)...)
			}
			if st := f.of(bad.addr()); st.State != "ejected" || !strings.Contains(st.Error, "else than HTTP") || st.Sessions != 0 {
				t.Errorf("%+v", st)
			}
			if st := f.of(good.addr()); st.State != "healthy" || st.Sessions != 9 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// Who is alone is told so; and so is a client that knows something of an answer already.
func TestWhatIsNoAnswerIsToldTheClient(t *testing.T) {
	for _, says := range []string{"SSH-2.0-x", "HTTP/1.1 103 Early Hints\r\n\r\nSSH-2.0-x"} {
		bad := newBackend(t)
		f := start(t, Config{Engines: 1}, bad.addr())
		f.reply = time.Hour
		f.own()
		client := f.connect(requestFor("7"))
		o, _ := bad.next()
		o.send([]byte(says)...)
		if strings.HasPrefix(says, "HTTP") {
			client.head()
		}
		if code, _, body := client.status(); code != 502 || !strings.Contains(body, "no HTTP response") {
			t.Errorf("%q: %d %q", says, code, body)
		}
		o.wantFarewell()
	}
}
