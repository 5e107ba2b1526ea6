package front

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// v2 is a header of version 2.
func v2(command, family byte, body string) string {
	b := []byte(signatureV2 + string([]byte{command, family, 0, 0}))
	binary.BigEndian.PutUint16(b[14:], uint16(len(body)))
	return string(b) + body
}

const (
	addrs4 = "\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x34\x00\x50"
	ssl    = "\x20\x00\x05\x01\x00\x00\x00\x00" // PP2_TYPE_SSL: the client spoke it
	noSSL  = "\x20\x00\x05\x00\x00\x00\x00\x00"
)

var addrs6 = strings.Repeat("\x20\x01", 8) + strings.Repeat("\x00", 16) + "\x12\x34\x00\x50"

// The examples are those of the specification, sections 2.1 and 2.2, and what may stand in their place.
var headers = []struct {
	raw  string
	want Header
	err  error
}{
	{"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n", Header{Source: netip.MustParseAddr("192.0.2.7")}, nil},
	{"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n", Header{Source: netip.MustParseAddr("2001:db8::7")}, nil},
	{"PROXY TCP6 ::ffff:192.0.2.7 ::1 56324 443\r\n", Header{Source: netip.MustParseAddr("192.0.2.7")}, nil},
	{"PROXY UNKNOWN\r\n", Header{}, nil},
	{"PROXY UNKNOWN ffff::ffff ffff::ffff 65535 65535\r\n", Header{}, nil},
	{v2(0x21, 0x11, addrs4), Header{Source: netip.MustParseAddr("192.0.2.7")}, nil},
	{v2(0x21, 0x11, addrs4+ssl), Header{Source: netip.MustParseAddr("192.0.2.7"), TLS: true}, nil},
	{v2(0x21, 0x11, addrs4+noSSL), Header{Source: netip.MustParseAddr("192.0.2.7")}, nil},
	{v2(0x21, 0x21, addrs6), Header{Source: netip.MustParseAddr("2001:2001:2001:2001:2001:2001:2001:2001")}, nil},
	{v2(0x21, 0x11, addrs4+"\x04\x0f\x00"+strings.Repeat("\x00", 0xf00)), Header{Source: netip.MustParseAddr("192.0.2.7")}, nil},
	{v2(0x20, 0x00, ""), Header{}, nil},
	{v2(0x20, 0x11, addrs4), Header{}, nil}, // "must ignore the address"

	{"PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n", Header{}, ErrBad},
	{"PROXY TCP4 192.0.2.256 10.0.0.1 56324 443\r\n", Header{}, ErrBad},
	{"PROXY TCP4 ::1 ::1 56324 443\r\n", Header{}, ErrBad},
	{"PROXY TCP4 192.0.2.7 10.0.0.1 56324 65536\r\n", Header{}, ErrBad},
	{"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\n", Header{}, ErrBad},
	{"PROXY UDP4 192.0.2.7 10.0.0.1 56324 443\r\n", Header{}, ErrBad},
	{"PROXY  TCP4 192.0.2.7 10.0.0.1 56324 443\r\n", Header{}, ErrBad},
	{"PROXY " + strings.Repeat("x", 101), Header{}, ErrBad},
	{v2(0x11, 0x11, addrs4), Header{}, ErrBad},                // version 1 in the clothes of 2
	{v2(0x22, 0x11, addrs4), Header{}, ErrBad},                // an unknown command
	{v2(0x21, 0x12, addrs4), Header{}, ErrBad},                // UDP
	{v2(0x21, 0x00, ""), Header{}, ErrBad},                    // on behalf of nobody
	{v2(0x21, 0x11, addrs4[:11]), Header{}, ErrBad},           // too short
	{v2(0x21, 0x11, addrs4+"\x20\x00\x09"), Header{}, ErrBad}, // a field that is cut short
	{v2(0x21, 0x31, strings.Repeat("/tmp/x", 36)), Header{}, ErrBad},
	{signatureV2 + "\x21\x11\x10\x01", Header{}, ErrBad}, // longer than anybody needs: refused before it comes

	{"GET / HTTP/1.1\r\n\r\n", Header{}, ErrMissing},
	{"PROXYTCP4 192.0.2.7 10.0.0.1 56324 443\r\n", Header{}, ErrMissing},
	{"PRO ", Header{}, ErrMissing},
	{"\x16\x03\x01", Header{}, ErrMissing}, // TLS
	{"\r\n\r\nGET", Header{}, ErrMissing},
}

func TestParse(t *testing.T) {
	for _, c := range headers {
		const client = "GET /chat"
		h, n, err := Parse([]byte(c.raw + client))
		want := len(c.raw)
		if c.err != nil {
			want = 0
		}
		if h != c.want || !errors.Is(err, c.err) || n != want {
			t.Errorf("%.60q: %+v, %d, %v; want %+v, %d, %v", c.raw, h, n, err, c.want, want, c.err)
		}
		checkSplits(t, []byte(c.raw+client))
	}
	for _, part := range []string{"", "P", "PROXY", "PROXY ", "PROXY TCP4 1.2.3.4", "\r", signatureV2, v2(0x21, 0x11, addrs4)[:27]} {
		if h, n, err := Parse([]byte(part)); h != (Header{}) || n != 0 || err != nil {
			t.Errorf("%q: %+v %d %v, want more bytes", part, h, n, err)
		}
	}
}

// checkSplits: bytes come in pieces of any size. Each prefix gives "more" or what all of them give, and stays with it.
func checkSplits(t *testing.T, data []byte) {
	t.Helper()
	want, wantN, wantErr := Parse(data)
	decided := false
	for i := range len(data) + 1 {
		h, n, err := Parse(data[:i])
		if n == 0 && err == nil {
			if decided {
				t.Fatalf("%.80q: undecided with %d bytes, after it was decided", data, i)
			}
			if i >= MaxHeader {
				t.Fatalf("%.80q: undecided with %d bytes", data, i)
			}
			continue
		}
		decided = true
		if h != want || n != wantN || n > i || (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
			t.Fatalf("%.80q: with %d bytes %+v, %d, %v; with all %+v, %d, %v", data, i, h, n, err, want, wantN, wantErr)
		}
	}
}

// FuzzParse: the same under any split; what is accepted go-proxyproto accepts from a stream, says the same of, and ends
// at the same byte.
func FuzzParse(f *testing.F) {
	for _, c := range headers {
		if len(c.raw) < 500 {
			f.Add([]byte(c.raw + "GET"))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkSplits(t, data)
		h, n, err := Parse(data)
		if n == 0 || err != nil {
			return
		}
		r := bufio.NewReader(bytes.NewReader(data))
		std, err := proxyproto.Read(r)
		if err != nil {
			t.Fatalf("%q is accepted, but not by go-proxyproto: %v", data[:n], err)
		}
		if rest, _ := io.ReadAll(r); !bytes.Equal(rest, data[n:]) {
			t.Fatalf("%q: it ends at %d, for go-proxyproto at %d", data, n, len(data)-len(rest))
		}
		source, _, tcp := std.TCPAddrs()
		if h.Source.IsValid() != (tcp && !std.Command.IsLocal()) {
			t.Fatalf("%q: %+v, for go-proxyproto %+v", data[:n], h, std)
		}
		if h.Source.IsValid() && h.Source != source.AddrPort().Addr().Unmap() {
			t.Fatalf("%q: from %v, for go-proxyproto from %v", data[:n], h.Source, source)
		}
	})
}

func TestTrusted(t *testing.T) {
	got, err := ParseTrusted("10.0.0.0/8, 192.0.2.1,2001:db8::/32,::1")
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"10.255.0.1": true, "11.0.0.1": false, "192.0.2.1": true, "192.0.2.2": false, "::ffff:10.0.0.1": true,
		"2001:db8:1::1": true, "2001:db9::": false, "::1": true, "::2": false,
	} {
		if got.Has(netip.MustParseAddr(addr)) != want {
			t.Errorf("%s: %v", addr, !want)
		}
	}
	if Trusted(nil).Has(netip.MustParseAddr("10.0.0.1")) || got.Has(netip.Addr{}) {
		t.Error("somebody is trusted without being listed")
	}
	for _, list := range []string{"", "10.0.0.0/8,", "10.0.0.1/8", "10.0.0.0/33", "lb.example", "::ffff:10.0.0.0/104", "fe80::1%eth0"} {
		if got, err := ParseTrusted(list); err == nil {
			t.Errorf("%q: %v", list, got)
		}
	}
	if again, _ := ParseTrusted("10.0.0.0/8,192.0.2.1/32,2001:db8::/32,::1/128"); !reflect.DeepEqual(got, again) {
		t.Errorf("%v is not %v", got, again)
	}
}
