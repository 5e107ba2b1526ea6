package handshake

import "net/netip"

// AppendOrigin appends the request's head as the origin gets it.
func (r *Request) AppendOrigin(dst []byte, peer netip.Addr, tls bool) []byte { return dst }
