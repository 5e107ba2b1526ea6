package handshake

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
)

// LocatePath is where clients ask which unit a routerId belongs to, on every host name that is served: browsers, which
// cannot follow the redirect of a handshake, do so before they connect.
const LocatePath = "/.unitgate/locate"

// locate answers GET /.unitgate/locate?routerId=…&unitType=… with where such a client belongs. Both may be left out: then
// what the request carries counts as in a handshake, a cookie for one. While the key is being handed over the question is
// held like a handshake, since nobody knows the answer yet.
func (v *View) locate(req *Request, site *Site, peer netip.Addr, tls bool) Verdict {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions: // a browser asks it first if the page adds fields of its own
		fields, n := req.Get("Access-Control-Request-Headers")
		if n == 0 {
			fields = "*"
		}
		vd := Refuse(http.StatusOK, "locate_preflight", "ask with GET")
		vd.Header = []Field{
			{Name: "Access-Control-Allow-Methods", Value: "GET"},
			{Name: "Access-Control-Allow-Headers", Value: fields}, // "*" names neither Authorization nor, with credentials, anything
			{Name: "Access-Control-Max-Age", Value: "86400"},
		}
		return vd
	default:
		return askWithGet()
	}
	typ, code, reason := v.locateType(req, site)
	if code != "" {
		return Refuse(http.StatusBadRequest, code, reason)
	}
	if typ == nil || typ.Table == nil {
		return noRules()
	}
	w, code, reason := locateRouter(req, typ, peer)
	if code != "" {
		return Refuse(http.StatusBadRequest, code, reason)
	}
	return v.located(site, Verdict{Type: typ, RouterID: w.id, found: w.source, said: w.said}, tls)
}

// located is the answer for vd's type and routerId.
func (v *View) located(site *Site, vd Verdict, tls bool) Verdict {
	unit := v.Unit
	if vd.RouterID == "" {
		if !v.servesUnmarked(vd.Type) {
			unit = v.Center
		}
	} else {
		vd.Route, vd.Slot = vd.Type.Table.Lookup(vd.RouterID), vd.Type.Table.Slot(vd.RouterID)
		if vd.Route.Next != "" {
			vd.Action, vd.Code = Hold, "hold"
			return vd
		}
		unit = vd.Route.Unit
	}
	host := site.Locations[unit]
	if host == "" {
		return noLocation()
	}
	body, err := json.Marshal(struct {
		Unit        string `json:"unit"`
		URL         string `json:"url"`
		RuleVersion uint64 `json:"ruleVersion"`
	}{unit, site.webSocketScheme(tls) + "://" + host + "/", vd.Type.Version})
	if err != nil { // a struct of strings and a number
		return Refuse(http.StatusInternalServerError, "internal", "the answer cannot be written")
	}
	vd.Action, vd.Code, vd.Status = Answer, "located", http.StatusOK
	vd.Reason, vd.ContentType = string(body), "application/json"
	return vd
}

// locateType is the type that the query names; without one, what the request says otherwise.
func (v *View) locateType(req *Request, site *Site) (t *Type, code, reason string) {
	name, found, differs := req.param("unitType")
	switch {
	case !found:
		return v.unitType(req, site)
	case differs:
		return nil, "bad_unit_type", "the query gives more than one unitType"
	}
	if t = v.Types[name]; t == nil {
		return nil, "bad_unit_type", "unknown unit type in the query"
	}
	return t, "", ""
}

// locateRouter likewise.
func locateRouter(req *Request, t *Type, peer netip.Addr) (w who, code, reason string) {
	f := finding{form: t.Form}
	f.query(req, "routerId")
	if f.n == 0 {
		return routerID(req, t, peer)
	}
	if reason := f.wrong("query"); reason != "" {
		return who{}, "bad_router_id", reason
	}
	at := slices.Index(t.Sources, Source{From: "query", Name: "routerId"}) // what the page will say again
	if at < 0 {
		return who{id: f.key, source: noSource}, "", ""
	}
	return who{f.key, at, true}, "", ""
}

// webSocketScheme is what a page puts before an address of the site.
func (s *Site) webSocketScheme(tls bool) string {
	switch s.Scheme {
	case "http", "ws":
		return "ws"
	case "https", "wss":
		return "wss"
	}
	if tls {
		return "wss"
	}
	return "ws"
}

// appendShared lets pages of any origin read the answer to a question for a location, whatever it is: a page that may not
// see a 503 cannot tell it from a broken line. A page that asks with credentials, a cookie for one, has to be named (Fetch
// standard, "CORS protocol and credentials"); what it learns is which unit serves its user.
func (r *Request) appendShared(dst []byte) []byte {
	if r == nil || r.Path != LocatePath {
		return dst
	}
	dst = append(dst, "\r\nAccess-Control-Allow-Origin: "...)
	if origin, n := r.Get("Origin"); n == 1 {
		dst = appendLine(dst, origin)
		dst = append(dst, "\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin"...)
	} else {
		dst = append(dst, '*')
	}
	return append(dst, "\r\nAccess-Control-Expose-Headers: Retry-After\r\nCache-Control: no-store"...)
}
