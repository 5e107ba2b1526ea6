package cutover

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events"
)

// says is a server that answers each connection's first request with bytes.
func says(t *testing.T, answer string) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = c.Write([]byte(answer))
			}
			_ = c.Close()
		}
	}()
	return "http://" + l.Addr().String() + "/latest/meta-data/iam"
}

// What an answer says is not for the journal, by whatever way it comes: the body, the
// reason phrase, a header, a status that is none, or the banner of what speaks no HTTP.
func TestNothingOfAnAnswerGetsIntoTheJournal(t *testing.T) {
	const secret = "AKIA-SECRET"
	for name, answer := range map[string]string{
		"body of 200":       "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + secret,
		"body of 404":       "HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\n\r\n" + secret,
		"body of 500":       "HTTP/1.1 500 Oh\r\nContent-Length: 11\r\n\r\n" + secret,
		"reason of 200":     "HTTP/1.1 200 " + secret + "\r\nContent-Length: 0\r\n\r\n",
		"reason of 503":     "HTTP/1.1 503 " + secret + "\r\nContent-Length: 0\r\n\r\n",
		"reason of 302":     "HTTP/1.1 302 " + secret + "\r\nLocation: /" + secret + "\r\nContent-Length: 0\r\n\r\n",
		"unknown status":    "HTTP/1.1 599 " + secret + "\r\nContent-Length: 0\r\n\r\n",
		"status of letters": "HTTP/1.1 " + secret + "\r\n\r\n",
		"banner":            "220 " + secret + " ESMTP\r\n",
		"bad header":        "HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n",
		"bad length":        "HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n",
		"bad coding":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + "\r\n\r\n",
		"bad chunk":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + secret + "\r\n",
		"nothing":           "",
	} {
		t.Run(name, func(t *testing.T) {
			h := NewHookCaller(HookConfig{Secret: func() ([]byte, error) { return testSecret, nil }, To: allow("127.0.0.0/8")})
			res, _ := h.Call(t.Context(), testEpoch, hookTo(t, says(t, answer)))
			if strings.Contains(fmt.Sprintf("%+v", res), secret) {
				t.Errorf("%+v", res)
			}
			if want := strings.HasSuffix(name, "of 200"); res.OK != want {
				t.Errorf("%+v", res)
			}
		})
	}
}

// The words for "no" of a host that the allow-list names are recorded, on one line that
// no terminal takes for more than text.
func TestQuote(t *testing.T) {
	url := says(t, "HTTP/1.1 409 Conflict\r\n\r\nnot\non \x1b[31m\u202ea\u2028 Friday \u00e9\u4e00\xff"+strings.Repeat("x", 300))
	res := callHook(t, signsWith(testSecret), hookTo(t, url))
	if want := "409 Conflict: not on [31m a Friday \u00e9\u4e00xxx"; res.Code != events.HookRefused || !strings.HasPrefix(res.Message, want) || len(res.Message) > 200 {
		t.Errorf("%+v", res)
	}
}

// By default a hook reaches nothing on the control plane's machine and no metadata of a
// cloud, by no spelling of the address, and says so with a code of its own.
func TestHookReachesNoLoopback(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was called") }))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for _, to := range []string{"", "ops.example,10.0.0.0/8", "0.0.0.0/0,::/0"} {
		h := NewHookCaller(HookConfig{Secret: func() ([]byte, error) { return testSecret, nil }, To: allow(to)})
		for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[::1]", "169.254.169.254", "[fd00:ec2::254]", "100.100.100.200"} {
			res := callHook(t, h, hookTo(t, "http://"+host+":"+port+"/"))
			if res.OK || res.Code != events.HookNotAllowed || !strings.HasPrefix(res.Message, "not called: ") || !strings.Contains(res.Message, "--hook-allow") {
				t.Errorf("list %q, %s: %+v", to, host, res)
			}
		}
	}
}
