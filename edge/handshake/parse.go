package handshake

// MaxHead is the longest head of a request that Parse accepts, in bytes, its final CRLFCRLF included.
const MaxHead = 8 << 10

// Error says why Parse refused a request.
type Error struct {
	Status int    // HTTP status to answer
	Code   string // one machine word
	Reason string // one line for a human
}

func (e *Error) Error() string { return e.Reason }

// Verdict is the answer to send.
func (e *Error) Verdict() Verdict { return Refuse(e.Status, e.Code, e.Reason) }

// Parse reads the head of a request from buf, everything received so far. With neither request nor error it needs
// more bytes: call it again with a longer buf. n is the length of the head: buf[n:] belongs to the tunnel.
func Parse(buf []byte) (req *Request, n int, err *Error) { return nil, 0, nil }
