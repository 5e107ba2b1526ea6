package handshake

import "strings"

// Field is one header line.
type Field struct {
	Name  string // as sent
	Value string // without the white space around it

	line string // the whole line as sent, without CRLF
}

// Request is the head of one HTTP/1.1 request that Parse accepted. It holds no reference to Parse's buffer.
// It is immutable, once Recognize has seen it, and safe for concurrent use.
type Request struct {
	Method    string
	Target    string  // Path and, as it was sent, the query; printable ASCII without "#"
	Path      string  // in normal form (events.NormalPath), starts with "/"
	Query     string  // what follows the "?" in Target, not decoded
	Authority string  // host[:port] the client asked for: of an absolute-form target, else of the Host field
	Host      string  // Authority in lower case without port, brackets and the root's trailing dot
	Fields    []Field // all header lines in the order sent

	ticket *ticket // in the query, which does not have it any more; nil: there is none

	mark *mark // what another edge says of it; nil: nothing
	old  bool  // of HTTP/1.0, which has no Upgrade
	body bool  // more than the head: what it begins with is not a handshake
}

// Get is the value of the first field of that name and the number of fields of that name.
// Names compare without regard to case (RFC 9110 section 5.1).
func (r *Request) Get(name string) (value string, n int) {
	for i := range r.Fields {
		if strings.EqualFold(r.Fields[i].Name, name) {
			if n == 0 {
				value = r.Fields[i].Value
			}
			n++
		}
	}
	return value, n
}
