package handshake

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// Bounds of Limits.Head, in bytes.
const (
	MaxHead      = 32 << 10 // by default
	SmallestHead = 8 << 10  // what every version has admitted
	LargestHead  = 256 << 10
)

// MaxFields is the largest number of header lines that Parse accepts: a Request keeps some 50 bytes for each, and
// thousands of Requests may be held at once.
const MaxFields = 200

// Limits bound the heads that are accepted. The zero value has the default.
type Limits struct {
	Head int // longest head of a client's request, in bytes, its final CRLFCRLF included; 0: MaxHead

	// Hop: the head comes over a connection between edges. What the other edge has admitted by a limit of its own may pass.
	Hop bool
}

func (l Limits) head() int {
	switch {
	case l.Hop:
		return LargestHead
	case l.Head > 0:
		return l.Head
	}
	return MaxHead
}

// MaxRead is how many bytes Parse needs at most to decide. What another edge has passed on may be longer than a client's
// head by what that has added, and a client's by the ticket that it was given.
func (l Limits) MaxRead() int { return l.head() + hopRoom }

// Error says why Parse refused a request.
type Error struct {
	Status  int      // HTTP status to answer
	Code    string   // one machine word
	Reason  string   // one line for a human
	Request *Request // what AppendAnswer has to know of it; nil: nothing
}

func (e *Error) Error() string { return e.Reason }

// RefuseError is the answer to an error of Parse, and the request that AppendAnswer is to be given with it, which may be
// nil.
func RefuseError(err error) (Verdict, *Request) {
	var e *Error
	if !errors.As(err, &e) {
		e = malformed("malformed request")
	}
	return Refuse(e.Status, e.Code, e.Reason), e.Request
}

func malformed(reason string) *Error { return &Error{Status: 400, Code: "bad_request", Reason: reason} }

// Parse is Limits.Parse with the default limits.
func Parse(buf []byte) (req *Request, n int, err error) { return Limits{}.Parse(buf) }

// ParseOn is Parse for whoever knows that it was undecided on buf[:before]. A head that comes in many small pieces is then
// not read again from its start for each of them.
func (l Limits) ParseOn(buf []byte, before int) (req *Request, n int, err error) {
	if len(buf) < l.MaxRead() && addsNothing(buf, before) {
		return nil, 0, nil
	}
	return l.Parse(buf)
}

// addsNothing reports whether buf is as undecided as buf[:before]: the request line ends in that, and no empty line has
// come since. It may be wrong about the second if it says no.
func addsNothing(buf []byte, before int) bool {
	if lead := emptyLines(buf); lead >= before || bytes.IndexByte(buf[lead:before], '\n') < 0 {
		return false
	}
	b := buf[max(0, before-2):] // the start of "\n\r\n" may have been there
	return !bytes.Contains(b, []byte("\n\r\n")) && !bytes.Contains(b, []byte("\n\n"))
}

// Parse reads the head of a request from buf, everything received so far. With neither request nor error (n is 0) it
// needs more bytes: call it again with a longer buf. n is the length of the head: buf[n:] belongs to the tunnel.
// An error is an *Error, see RefuseError. The request shares no memory with buf.
//
// The syntax is RFC 9112's without its leniencies: lines end in CRLF, no folded lines, exactly one Host field, which
// an absolute-form target overrides; a request of HTTP/1.0 may lack it. Other versions are refused with 505. What Parse
// accepts, http.ReadRequest accepts, too, and understands alike, but for up to two empty lines before it, which are
// ignored and counted in n; of a body it says no more than that there is one.
// It decides only on a complete head, or once MaxRead bytes hold none, or at the first byte that no request has there: how
// the bytes were split never matters.
func (l Limits) Parse(buf []byte) (req *Request, n int, err error) {
	lead := emptyLines(buf)
	if e := cannotBegin(buf[lead:]); e != nil {
		return nil, 0, e
	}
	most := l.MaxRead()
	n, lines := headEnd(buf[lead:min(len(buf), most)])
	switch {
	case n > 0:
	case len(buf) < most:
		return nil, 0, nil
	default:
		e := l.tooLong()
		e.Request = asked(buf[lead:most])
		return nil, 0, e
	}
	req, e := l.parseHead(string(buf[lead:lead+n]), lines)
	if e != nil {
		e.Request = asked(buf[lead : lead+n])
		return nil, 0, e
	}
	return req, lead + n, nil
}

// maxEmptyLines is how many empty lines may stand before a request line. RFC 9112 section 2.2 wants at least one ignored:
// some clients have sent one after a request with a body.
const maxEmptyLines = 2

// emptyLines is the length of those that buf begins with.
func emptyLines(buf []byte) (n int) {
	for n < 2*maxEmptyLines && bytes.HasPrefix(buf[n:], []byte("\r\n")) {
		n += 2
	}
	return n
}

// asked is what can be read of a head that Parse refuses, as far as the answer to it depends on that: which method it has,
// and whether a page of which origin asks for a location. It is nil if nothing does.
func asked(head []byte) *Request {
	line, rest, ok := cutLine(string(head))
	if !ok {
		return nil
	}
	r := &Request{}
	_ = r.requestLine(line)
	if r.Path != LocatePath {
		if r.Method != http.MethodHead {
			return nil
		}
		return &Request{Method: r.Method}
	}
	for {
		if line, rest, ok = cutLine(rest); !ok || line == "" {
			return r
		}
		if f, err := parseField(line); err == nil && strings.EqualFold(f.Name, "Origin") {
			r.Fields = append(r.Fields, f)
		}
	}
}

// headEnd is the length of the head that b starts with, 0 if its end is not there yet, and its number of lines. An
// empty line ends it, whether CRLF or LF ended the lines: everybody else's parser would stop there as well, so the
// strict check must not look further.
func headEnd(b []byte) (n, lines int) {
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return 0, 0
		}
		empty := i == 0 || i == 1 && b[n] == '\r'
		n, lines = n+i+1, lines+1
		if empty {
			return n, lines
		}
	}
}

// parseHead reads a complete head of that many lines, the empty one included.
func (l Limits) parseHead(head string, lines int) (*Request, *Error) {
	line, rest, ok := cutLine(head)
	if !ok || line == "" {
		return nil, malformed("the request line is missing or does not end in CRLF")
	}
	if lines-2 > MaxFields+hopFields {
		return nil, tooManyFields()
	}
	r := &Request{}
	if err := r.requestLine(line); err != nil {
		return nil, err
	}
	r.Fields = make([]Field, 0, lines-2)
	for {
		line, rest, ok = cutLine(rest)
		if !ok {
			return nil, malformed("a header line does not end in CRLF")
		}
		if line == "" {
			break
		}
		f, err := parseField(line)
		if err != nil {
			return nil, err
		}
		r.Fields = append(r.Fields, f)
	}
	if err := r.checkHost(); err != nil {
		return nil, err
	}
	if err := l.checkMark(r, head); err != nil {
		return nil, err
	}
	r.body = r.hasBody()
	return r, nil
}

func (l Limits) tooLong() *Error {
	n, unit := l.head(), "bytes"
	if n%1024 == 0 {
		n, unit = n/1024, "KiB"
	}
	return &Error{Status: 431, Code: "head_too_large", Reason: "the request's head is longer than " + strconv.Itoa(n) + " " + unit + ": send fewer or shorter cookies and header fields"}
}

func tooManyFields() *Error {
	return &Error{Status: 431, Code: "head_too_large", Reason: "the request has more than " + strconv.Itoa(MaxFields) + " header lines"}
}

// checkMark keeps what a mark has to be compared with, or applies the limits of those who have none.
func (l Limits) checkMark(r *Request, head string) *Error {
	_, n := r.Get(hopField)
	switch {
	case n > 0:
		_, target, _ := strings.Cut(head, " ")
		target, _, _ = strings.Cut(target, " ")
		if _, origin, ok := splitTarget(target); ok {
			target = origin
		}
		r.mark = &mark{head: head, target: target, code: CodeBadHop}
	case len(head)-r.ticketBytes() > l.head():
		return l.tooLong()
	case len(r.Fields) > MaxFields:
		return tooManyFields()
	}
	return nil
}

// cutLine cuts the first line off s, which contains a LF. ok is false if that is not part of a CRLF.
func cutLine(s string) (line, rest string, ok bool) {
	i := strings.IndexByte(s, '\n')
	if i < 1 || s[i-1] != '\r' {
		return "", "", false
	}
	return s[:i-1], s[i+1:], true
}

// requestLine reads method SP request-target SP HTTP-version (RFC 9112 section 3).
func (r *Request) requestLine(line string) *Error {
	method, rest, _ := strings.Cut(line, " ")
	target, version, ok := strings.Cut(rest, " ")
	if !ok || !isToken(method) {
		return malformed("malformed request line")
	}
	r.Method = method
	authority, origin, ok := splitTarget(target)
	if !ok {
		return badTarget(target)
	}
	r.Authority = authority
	if err := r.setTarget(origin); err != nil {
		return err
	}
	return r.version(version)
}

func (r *Request) version(version string) *Error {
	d, ok := strings.CutPrefix(version, "HTTP/")
	switch {
	case !ok || len(d) != 3 || d[1] != '.' || d[0] < '0' || d[0] > '9' || d[2] < '0' || d[2] > '9':
		return malformed("malformed HTTP version")
	case d == "1.1":
		return nil
	case d == "1.0":
		r.old = true // balancers and pages behind them ask in it; checkUpgrade refuses it for a handshake
		return nil
	}
	return &Error{Status: 505, Code: "bad_http_version", Reason: "this listener speaks HTTP/1.1 only"}
}

// parseField reads field-name ":" OWS field-value OWS (RFC 9112 section 5). A line that starts with white space is
// refused with the rest of what is no field name: folding is obsolete (section 5.2).
func parseField(line string) (Field, *Error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) {
		return Field{}, malformed("malformed header name")
	}
	for i := 0; i < len(value); i++ {
		if value[i] < ' ' && value[i] != '\t' || value[i] == 0x7f {
			return Field{}, malformed("a control character in a header value")
		}
	}
	return Field{Name: name, Value: strings.Trim(value, " \t"), line: line}, nil
}

// checkHost applies RFC 9112 section 3.2: 400 to a request "that lacks a Host header field and to any request message
// that contains more than one Host header field line or a Host header field with an invalid field value".
func (r *Request) checkHost() *Error {
	value, n := r.Get("Host")
	if n == 0 && r.old {
		value, n = r.Authority, 1
		if value == "" {
			return nil // of no host: Decide takes the fallback, if there is one
		}
	}
	if n != 1 {
		return malformed("want exactly one Host header")
	}
	host, ok := hostOf(value)
	if !ok {
		return malformed("malformed Host header")
	}
	if r.Authority == "" {
		r.Authority, r.Host = value, host
		return nil
	}
	if r.Host, ok = hostOf(r.Authority); !ok {
		return malformed("malformed host in the request target")
	}
	return nil
}

// hasBody reports whether more follows the head than a tunnel's bytes.
func (r *Request) hasBody() bool {
	for i := range r.Fields {
		f := &r.Fields[i]
		if strings.EqualFold(f.Name, "Transfer-Encoding") || strings.EqualFold(f.Name, "Content-Length") && f.Value != "0" {
			return true
		}
	}
	return false
}
