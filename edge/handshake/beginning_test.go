package handshake

import (
	"errors"
	"strings"
	"testing"
)

// A client that cannot speak HTTP/1 is told at the first byte that shows it, and not before.
func TestWhatCannotBeginIsRefusedAtItsFirstByte(t *testing.T) {
	for _, c := range []struct {
		may  string // all of it may begin a request
		then string // not with this byte
	}{
		{"", "\x00"},
		{"", "\x16"}, // a TLS handshake
		{"", "\x80"}, // of SSL 2
		{"", " "},
		{"", "{"},
		{"HELO ", "x"},
		{"SSH-2.0-OpenSSH_9.2", "\r"},
		{"\r", "x"},
		{"GET", "\x00"},
		{"GET ", " "},
		{"GET ", "\x00"},
		{"GET /", "\x00"},
		{"GET /chat", "\x1b"},
		{"GET /\r", "\n"}, // HTTP/0.9
		{"GET / ", "F"},
		{"GET / HTTP", "S"},
		{"GET / HT", "\r"},
		{"GET http", "x"},
		{"PRI ", "*"}, // HTTP/2 with prior knowledge
		{"CONNECT ", "x"},
		{"OPTIONS ", "r"}, // RTSP
		{"PROXY ", "T"},
	} {
		t.Run(c.may+c.then, func(t *testing.T) {
			for i := range len(c.may) + 1 {
				if req, n, err := Parse([]byte(c.may[:i])); req != nil || n != 0 || err != nil {
					t.Fatalf("%q: %v %d %v", c.may[:i], req, n, err)
				}
			}
			for _, rest := range []string{"", "\r\n", "\r\n\r\n", strings.Repeat("x", 2*Limits{}.MaxRead())} {
				_, _, err := Parse([]byte(c.may + c.then + rest))
				var e *Error
				if !errors.As(err, &e) || e.Status != 400 {
					t.Errorf("%q: %v", c.may+c.then+rest[:min(len(rest), 9)], err)
				}
			}
			checkSplits(t, []byte(c.may+c.then+"\r\nHost: x\r\n\r\n"))
		})
	}
	// What may still become a request is waited for.
	for _, may := range []string{"GET /", "get ht", "GET HTTP:/", "M-SEARCH /", strings.Repeat("X", 5000), "GET / HTTP/9", "GET /\xc3\xa4", "GET / HTTP/1.1\r\nbroken"} {
		if req, n, err := Parse([]byte(may)); req != nil || n != 0 || err != nil {
			t.Errorf("%.20q: %v %d %v", may, req, n, err)
		}
	}
}

// A refused HEAD gets no body however early it is refused.
func TestRefusedHeadHasNoBody(t *testing.T) {
	_, _, err := Parse([]byte("HEAD x"))
	if _, req := RefuseError(err); req == nil || req.Method != "HEAD" {
		t.Errorf("%+v", req)
	}
}
