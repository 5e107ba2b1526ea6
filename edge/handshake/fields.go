package handshake

import (
	"fmt"
	"strings"
)

// claims are the fields of a request that no client's passes to an origin, because a server there may take them for
// the word of the proxy in front of it: where the request came from, for whom, and what it asked for. They stand in
// lower case with "-" for every character that is no letter or digit, see normalName; one that ends in "-" stands for
// all names that begin so.
//
// A name that some server, framework or gateway reads and that is missing here is a fault. Names that clients of
// their own accord send (Authorization, Cookie, Origin, X-Requested-With, trace contexts) do not belong here.
var claims = newNames(
	// The edge's own, which it sets. What comes as Unitgate-… passes between edges, and from edges to origins.
	"unitgate-", "unittype", "x-request-id",
	"forwarded", "x-forwarded-for", "x-forwarded-proto",

	// For one hop (RFC 9110 section 7.6.1), beside Connection and Upgrade, which the edge writes anew, and the fields
	// that Connection names. Via is among those from which django-ipware took an address.
	"keep-alive", "te", "http2-settings", "via",
	// Proxy is $HTTP_PROXY to what runs as CGI (httpoxy); credentials for a proxy are not the origin's; Jetty reads
	// Proxy-ssl-id and Proxy-auth-cert, WebLogic Proxy-Client-IP and WL-Proxy-*.
	"proxy", "proxy-", "wl-proxy-",

	// Where it came from. RFC 7239 and what was before it: all that Spring, Jetty, Tomcat's valve, Rack, Django,
	// Express, ASP.NET, echo, Traefik and oauth2-proxy read, X-Forwarded-Client-Cert and -User among them.
	"x-forwarded", "x-forwarded-", "forwarded-for", "forwarded-for-", "forwarded-proto", "forwarded-host",
	"x-forward-for", "x-forwarder-for",
	// nginx' realip, chi, gin, echo, gorilla, npm request-ip, Rails, ipware; balancers and gateways on premises.
	"x-real-", "true-client-", "x-true-client-", "client-ip", "http-client-ip", "x-client-ip", "x-client-port", "x-client-real-ip",
	"x-cluster-client-ip", "cluster-client-ip", "x-remote-", "remote-", "x-originating-ip", "x-proxyuser-ip", "x-coming-from",
	"coming-from", "x-proxied-", "x-peer-ip", "x-source-ip",
	// Networks in front: Cloudflare, Fastly, Akamai, CloudFront, Fly, Azure, App Engine, Incapsula, Sucuri, Netlify,
	// Vercel, Alibaba Cloud, Tencent Cloud.
	"cf-", "fastly-", "akamai-", "x-akamai-", "cloudfront-", "fly-", "x-azure-", "x-appengine-", "incap-", "x-incap-",
	"x-sucuri-", "x-nf-", "x-vercel-", "ali-cdn-", "ali-swift-", "cdn-real-ip", "cdn-src-ip", "x-cdn-", "x-slb-", "slb-",
	// By which scheme: IIS and Exchange, Rack, echo, ingress-nginx, what reads the CGI variable.
	"front-end-https", "x-url-scheme", "x-scheme", "x-https", "https", "x-ssl-", "x-ssl", "ssl-client-", "x-arr-",
	// Envoy and Istio take routing, retries and addresses from these, if they come from inside.
	"x-envoy-", "x-istio-",

	// For whom: users and certificates that a gateway has checked. RFC 9440 wants its two taken out in so many words.
	"client-cert", "client-cert-", "x-client-cert", "x-client-cert-", "x-client-verify", "x-client-dn",
	"x-auth-request-", "x-authenticated-", "x-authentik-", "x-webauth-", "x-consumer-", "x-credential-identifier",
	"x-anonymous-consumer", "x-amzn-oidc-", "x-amzn-mtls-", "x-goog-iap-", "x-goog-authenticated-", "x-endpoint-api-userinfo",
	"x-ms-client-principal", "x-ms-client-principal-", "x-ms-token-", "x-pomerium-", "tailscale-user-",

	// What it asked for: another host, path or method than the one that was matched. Symfony, Zend, ASP.NET and IIS
	// (X-Original-*, X-Rewrite-*), gunicorn (SCRIPT_NAME, PATH_INFO), Rack and others.
	"x-host", "x-host-override", "x-http-host-override", "x-original-", "x-rewrite-", "x-override-url", "x-request-uri",
	"x-request-url", "x-script-name", "script-name", "path-info", "x-path-info", "x-base-url",
	"x-http-method", "x-http-method-override", "x-method-override",
	// Rack::Sendfile sends files of a server's by these.
	"x-accel-", "x-sendfile-type",
)

// betweenEdges are the fields that an edge sets when it passes a handshake on to another one.
var betweenEdges = newNames("unitgate-", "unittype", "x-request-id")

// names are names and beginnings of names of fields, in normal form.
type names struct {
	has    map[string]bool
	begins [32]uint32 // by the first letter: the second ones. Most fields that clients send are told by these.
}

func newNames(list ...string) *names {
	n := &names{has: make(map[string]bool, len(list))}
	for _, name := range list {
		n.has[name] = true
		n.begins[letter(name[0])] |= 1 << letter(name[1])
	}
	return n
}

// letter is a letter's number, from 1; 0 for everything else.
func letter(c byte) byte {
	if c |= ' '; 'a' <= c && c <= 'z' {
		return c & 31
	}
	return 0
}

// holds reports whether a name is among them. It allocates nothing.
func (n *names) holds(name string) bool {
	if len(name) < 2 || n.begins[letter(name[0])]&(1<<letter(name[1])) == 0 {
		return false
	}
	var b [longestName]byte
	normal := normalName(b[:0], name)
	for i, c := range normal {
		if c == '-' && n.has[string(normal[:i+1])] {
			return true
		}
	}
	return n.has[string(normal)]
}

// longestName is how much of a field's name is looked at: more than any of claims has.
const longestName = 64

// normalName appends the form in which names are compared: without regard to case, as HTTP has it (RFC 9110 section
// 5.1), and with every character that is no letter or digit as "-". For CGI, WSGI, PHP and many others X_Real-IP is
// X-Real-IP; "." is it, too, for PHP, and anything else for lighttpd.
func normalName(dst []byte, name string) []byte {
	for i := range min(len(name), longestName) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case !isAlnum(c):
			c = '-'
		}
		dst = append(dst, c)
	}
	return dst
}

// Fields says which of a client's fields reach origins, beyond what is always so. nil changes nothing. It is immutable.
type Fields struct{ drop, pass *names }

// NewFields drops further fields, and passes some that are claims of a client unless a proxy in front of the edge sets
// them. A name that ends in "*" stands for all that begin so. An error names what cannot be: fields that a handshake
// consists of are never dropped, and those that edges set never passed.
func NewFields(drop, pass []string) (*Fields, error) {
	if len(drop)+len(pass) == 0 {
		return nil, nil
	}
	d, err := settable(drop, "a handshake needs it", "host", "connection", "upgrade", "sec-websocket-")
	if err != nil {
		return nil, err
	}
	p, err := settable(pass, "it is this edge's to set, or another one's", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "unittype", "unitgate-")
	if err != nil {
		return nil, err
	}
	return &Fields{newNames(d...), newNames(p...)}, nil
}

// settable is a list of names in normal form, none of which may stand for one of except.
func settable(list []string, why string, except ...string) ([]string, error) {
	var out []string
	for _, name := range list {
		start, all := strings.CutSuffix(name, "*")
		if !isToken(start) || len(start) < 2 || len(name) > longestName || all && !strings.HasSuffix(start, "-") {
			return nil, fmt.Errorf("%q is no name of a header field, nor one's beginning up to a - and a *", name)
		}
		normal := string(normalName(nil, start))
		if !all && strings.HasSuffix(normal, "-") {
			return nil, fmt.Errorf("%q: say %s* for all that begin so", name, start)
		}
		for _, no := range except {
			if normal == no || strings.HasSuffix(no, "-") && strings.HasPrefix(normal, no) || all && strings.HasPrefix(no, normal) {
				return nil, fmt.Errorf("%q: %s", name, why)
			}
		}
		out = append(out, normal)
	}
	return out, nil
}

// drops reports whether a client's field of that name reaches no origin.
func (fs *Fields) drops(name string) bool {
	switch {
	case fs == nil:
	case fs.drop.holds(name):
		return true
	case fs.pass.holds(name):
		return false
	}
	return claims.holds(name)
}

// options are the members of a request's Connection fields that name other fields of it (RFC 9110 section 7.6.1).
type options struct {
	name [maxOptions]string
	n    int
}

// maxOptions is how many members Connection may have. Each is looked for among all fields, and no client has ten.
const maxOptions = 16

// options lists them. checkUpgrade has refused what has more.
func (r *Request) options() (o options) {
	for i := range r.Fields {
		if !strings.EqualFold(r.Fields[i].Name, "Connection") {
			continue
		}
		for member := range strings.SplitSeq(r.Fields[i].Value, ",") {
			member = strings.Trim(member, " \t")
			if member == "" || strings.EqualFold(member, "Upgrade") || o.n == maxOptions {
				continue
			}
			o.name[o.n], o.n = member, o.n+1
		}
	}
	return o
}

// hasManyOptions reports whether there are too many. A short list is not looked at closely.
func (r *Request) hasManyOptions() bool {
	if value, n := r.Get("Connection"); n <= 1 && len(value) < 2*maxOptions-1 {
		return false
	}
	o := r.options()
	return o.n == maxOptions
}

// has reports whether a field is one of them. What a handshake consists of is for the origin, whatever Connection says:
// "a sender MUST NOT send a connection option corresponding to a field that is intended for all recipients".
func (o *options) has(name string) bool {
	for _, option := range o.name[:o.n] {
		if strings.EqualFold(option, name) {
			return !strings.EqualFold(name, "Host") && !hasPrefixFold(name, "Sec-WebSocket-")
		}
	}
	return false
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
