package handshake

import "net/http"

// HealthPath is where a load balancer asks, on any host name or none, whether this edge takes clients: what it is told is
// what clients would be told, on the port and over the TLS on which they come.
const HealthPath = "/.unitgate/health"

// health is the answer while the edge admits; else Decide, or the relay, has refused with 503 already.
func health(req *Request) Verdict {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions: // OPTIONS is what HAProxy asks unless told otherwise
		vd := Refuse(http.StatusOK, "healthy", "this edge takes clients")
		vd.Header = []Field{{Name: "Cache-Control", Value: "no-store"}}
		return vd
	}
	return askWithGet()
}

func askWithGet() Verdict {
	vd := Refuse(http.StatusMethodNotAllowed, "bad_method", "ask with GET")
	vd.Header = []Field{{Name: "Allow", Value: "GET, HEAD, OPTIONS"}}
	return vd
}
