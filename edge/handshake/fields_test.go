package handshake

import (
	"net/netip"
	"net/textproto"
	"strings"
	"testing"
)

// readers are what servers, frameworks and gateways take from a request's fields and believe, if they are told to trust
// what is in front of them.
var readers = map[string]string{
	"RFC 7239, Spring, Jetty, Rack, aiohttp": "Forwarded",
	"RFC 9440":                               "Client-Cert Client-Cert-Chain",
	"RFC 9110 7.6.1 and 11.7.2, RFC 7540":    "Keep-Alive TE Proxy-Connection Proxy-Authorization Proxy-Authenticate HTTP2-Settings",
	"nginx realip, ingress-nginx":            "X-Real-IP X-Real-Port X-Original-URI X-Original-Method X-Original-Forwarded-For X-Scheme X-SSL-Client-Cert X-SSL-Client-Verify",
	"Tomcat RemoteIpValve":                   "X-Forwarded-For X-Forwarded-By X-Forwarded-Proto X-Forwarded-Host X-Forwarded-Port",
	"Jetty":                                  "X-Proxied-Https Proxy-ssl-id Proxy-auth-cert X-Forwarded-Server",
	"WebLogic":                               "WL-Proxy-Client-IP WL-Proxy-SSL Proxy-Client-IP",
	"Spring":                                 "X-Forwarded-Prefix X-Forwarded-Ssl",
	"Django, ipware":                         "X-Forwarded HTTP-Client-IP Client-IP X-Cluster-Client-IP Forwarded-For Via True-Client-IP X-Client-IP Remote-Addr",
	"gunicorn":                               "SCRIPT_NAME PATH_INFO REMOTE_USER X-Forwarded-Protocol",
	"Rails, Rack":                            "Client-Ip X-Forwarded-Scheme X-Accel-Mapping X-Sendfile-Type X-HTTP-Method-Override",
	"Express, npm request-ip":                "CF-Connecting-IP Cf-Pseudo-IPv4 Fastly-Client-Ip X-Appengine-User-IP X-Cluster-Client-Ip",
	"ASP.NET, IIS":                           "X-Original-For X-Original-Proto X-Original-Host X-Original-URL X-Rewrite-URL X-ARR-SSL X-ARR-ClientCert X-HTTP-Method Front-End-Https",
	"chi, gin, echo, gorilla/handlers":       "True-Client-IP X-Real-Ip X-Url-Scheme X-Forwarded-Ssl Fly-Client-IP X-Appengine-Remote-Addr",
	"Symfony, Laravel, Zend":                 "X-Rewrite-Url X-Original-Url X-Forwarded-Port X-Host X-HTTP-Host-Override",
	"PHP applications":                       "X-ProxyUser-Ip X-Sucuri-ClientIP Incap-Client-IP X-Https HTTPS",
	"CGI (httpoxy)":                          "Proxy",
	"Envoy, Istio":                           "X-Envoy-External-Address X-Envoy-Internal X-Envoy-Original-Path X-Envoy-Peer-Metadata X-Forwarded-Client-Cert X-Envoy-Decorator-Operation",
	"HAProxy, Varnish, Squid in practice":    "X-Forwarded-Uri X-Originating-IP X-Remote-IP X-SSL X-Forward-For",
	"Cloudflare, Akamai, CloudFront":         "CF-Connecting-IPv6 CF-Visitor CF-IPCountry Cf-Access-Authenticated-User-Email Akamai-Origin-Hop X-Akamai-Edgescape CloudFront-Viewer-Address CloudFront-Forwarded-Proto",
	"Azure, Google, AWS":                     "X-Azure-ClientIP X-Azure-SocketIP X-MS-Client-Principal X-MS-Client-Principal-Name X-Goog-IAP-JWT-Assertion X-Goog-Authenticated-User-Email X-Amzn-Oidc-Identity X-Amzn-Mtls-Clientcert",
	"Alibaba Cloud, Tencent Cloud":           "Ali-CDN-Real-IP Cdn-Src-Ip SLB-ID X-SLB-IP",
	"oauth2-proxy, Authelia, Grafana, Kong":  "X-Forwarded-User X-Forwarded-Groups X-Auth-Request-Email Remote-User Remote-Groups X-Remote-User X-WEBAUTH-USER X-Consumer-Username X-Authenticated-Userid Tailscale-User-Login",
	"the edge and what it tells":             "X-Forwarded-For X-Forwarded-Proto X-Request-Id unitType Unitgate-Epoch Unitgate-Rule-Version Unitgate-Probe Unitgate-Hop Unitgate-Anything",
}

// own are fields that clients send for themselves; with what they say of where they come from they do no harm.
const own = "Accept Accept-Language Authorization Cache-Control Cookie Origin Referer User-Agent Priority Pragma Sec-Fetch-Mode Sec-WebSocket-Protocol " +
	"X-Requested-With X-API-Key X-Auth-Token X-User-Id X-Client-Info X-Client-Version X-CSRF-Token traceparent tracestate b3 X-B3-TraceId X-Amzn-Trace-Id " +
	"routerId Idempotency-Key DNT Range If-None-Match Tenant X-Remotely Proxied Remote CF Forwardedx"

// spellings are names that applications read as one, one way or the other.
func spellings(name string) []string {
	return []string{
		name, strings.ToLower(name), strings.ToUpper(name),
		strings.NewReplacer("-", "_").Replace(name), strings.NewReplacer("-", ".", "_", ".").Replace(name), strings.ReplaceAll(name, "-", "~"),
		strings.Replace(strings.ToUpper(name), "-", "_", 1),
	}
}

// origins gets what an origin gets of a handshake with a field.
func originGets(t *testing.T, fw *Forward, lines ...string) textproto.MIMEHeader {
	t.Helper()
	req := parsed(t, head(lines...))
	out := string(req.AppendOrigin(nil, fw))
	h := textproto.MIMEHeader{}
	for line := range strings.SplitSeq(out, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			h[name] = append(h[name], strings.Trim(value, " "))
		}
	}
	return h
}

// None of a client's fields that some server believes reaches an origin, in no spelling.
func TestClaims(t *testing.T) {
	fw := &Forward{Peer: testPeer, UnitType: "u", RequestID: "r-1"}
	for who, list := range readers {
		for _, name := range strings.Fields(list) {
			for _, spelled := range spellings(name) {
				for field, values := range originGets(t, fw, "+"+spelled+": 6.6.6.6") {
					if strings.Contains(strings.Join(values, " "), "6.6.6.6") {
						t.Errorf("%s reads %s: an origin gets %s: %s", who, name, field, values)
					}
				}
			}
		}
	}
	for _, name := range strings.Fields(own) {
		if got := originGets(t, fw, "+"+name+": 6.6.6.6"); len(got[name]) != 1 || got[name][0] != "6.6.6.6" {
			t.Errorf("%s does not reach the origin: %v", name, got)
		}
	}
}

// Whoever an origin asks, and in whatever order, it is the client's own address that it finds.
func TestWhereARequestComesFrom(t *testing.T) {
	forged := []string{}
	for _, list := range readers {
		for _, name := range strings.Fields(list) {
			forged = append(forged, "+"+name+": 6.6.6.6")
		}
	}
	for _, c := range []struct {
		peer, authority, wantFor, wantForwarded string
		tls                                     bool
	}{
		{"192.0.2.7", "websocket.msha.tech", "192.0.2.7", `for=192.0.2.7;proto=http;host=websocket.msha.tech`, false},
		{"::ffff:192.0.2.7", "websocket.msha.tech:8443", "192.0.2.7", `for=192.0.2.7;proto=https;host="websocket.msha.tech:8443"`, true},
		{"2001:db8::1", "[::1]:80", "2001:db8::1", `for="[2001:db8::1]";proto=http;host="[::1]:80"`, false},
		{"fe80::1%eth0", "a;proto=https", "fe80::1", `for="[fe80::1]";proto=http;host="a;proto=https"`, false},
		{"192.0.2.7", "a,for=6.6.6.6", "192.0.2.7", `for=192.0.2.7;proto=http;host="a,for=6.6.6.6"`, false},
	} {
		fw := &Forward{Peer: netip.MustParseAddr(c.peer), TLS: c.tls, UnitType: "u", RequestID: "r-1"}
		for start := 0; start < len(forged); start += MaxFields - 10 {
			lines := append([]string{"Host: " + c.authority}, forged[start:min(start+MaxFields-10, len(forged))]...)
			got := originGets(t, fw, lines...)
			if f := got["X-Forwarded-For"]; len(f) != 1 || f[0] != c.wantFor {
				t.Errorf("%s: X-Forwarded-For %q", c.peer, f)
			}
			if f := got["Forwarded"]; len(f) != 1 || f[0] != c.wantForwarded {
				t.Errorf("%s: Forwarded %q, want %q", c.peer, f, c.wantForwarded)
			}
			if p := got["X-Forwarded-Proto"]; len(p) != 1 || (p[0] == "https") != c.tls {
				t.Errorf("%s: X-Forwarded-Proto %q", c.peer, p)
			}
		}
	}
}

// What Connection names is for this hop; a client cannot use it to take away what an edge decides by, or tells.
func TestConnectionOptions(t *testing.T) {
	fw := &Forward{Peer: testPeer, UnitType: "u", RequestID: "r-1"}
	got := originGets(t, fw, "Connection: Upgrade, Cookie, X-Forwarded-For, Forwarded, host, Sec-WebSocket-Key", "+Cookie: a=b", "+Accept: x")
	if got["Cookie"] != nil || got["Accept"] == nil || got["Host"] == nil || got["Sec-WebSocket-Key"] == nil || got["X-Forwarded-For"] == nil || got["Forwarded"] == nil {
		t.Errorf("%v", got)
	}
	v := testView(t, "unbj", false)
	for members, want := range map[int]string{maxOptions - 1: `serve by_local "8330" 8330 at unbj:1`, maxOptions: "400 bad_request"} {
		if got := show(decide(head("+routerId: 8330", "+Connection: "+strings.Repeat("a,", members)), v, testPeer, false)); got != want {
			t.Errorf("%d members: %s", members, got)
		}
	}
}

func TestFields(t *testing.T) {
	fields, err := NewFields([]string{"X-Tenant", "x-internal-*"}, []string{"X-Real-IP", "cf-*"})
	if err != nil {
		t.Fatal(err)
	}
	fw := &Forward{Peer: testPeer, UnitType: "u", RequestID: "r-1", Fields: fields}
	for name, want := range map[string]bool{
		"X-Tenant": false, "X_TENANT": false, "X-Tenants": true, "X-Internal-User": false, "X.internal.user": false, "X-Internal": true,
		"X-Real-IP": true, "CF-Connecting-IP": true, "X-Client-IP": false, "X-Real-Port": false,
	} {
		if got := originGets(t, fw, "+"+name+": 6.6.6.6")[name] != nil; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if none, err := NewFields(nil, nil); none != nil || err != nil {
		t.Errorf("%v, %v", none, err)
	}
	for _, wrong := range []string{"", "*", "X-", "X*", "a b", "X-\r\nY", strings.Repeat("x", 65), "Host", "upgrade", "Sec-WebSocket-Key", "Sec-*", "Connection"} {
		if _, err := NewFields([]string{wrong}, nil); err == nil {
			t.Errorf("%q may be dropped", wrong)
		}
	}
	for _, wrong := range []string{"Forwarded", "X-Forwarded-For", "x_forwarded_proto", "X-Forwarded-*", "X-Request-Id", "unitType", "Unitgate-Hop", "Unitgate-*"} {
		if _, err := NewFields(nil, []string{wrong}); err == nil {
			t.Errorf("%q may be passed", wrong)
		}
	}
}
