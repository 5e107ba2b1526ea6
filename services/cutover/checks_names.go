package cutover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/outbound"
)

const (
	namesWait     = 3 * time.Second // for all names of a cutover
	namesAtOnce   = 32
	certRemaining = 7 * 24 * time.Hour // a certificate that ends sooner is worth a warning
)

// names measures the precheck subdomains: whether clients find the sub-domains that they are sent to, and can trust them.
type names struct {
	lookup func(ctx context.Context, host string) ([]string, error)
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	roots  *x509.CertPool // nil: the system's
}

// worldNames looks at the world's names. An operator writes sub-domains, and a verdict says
// what became of a connection: so certificates are looked at only where an operator's word
// may lead the control plane.
func worldNames(to *outbound.Policy) names {
	return names{lookup: net.DefaultResolver.LookupHost, dial: to.AlsoAll().DialContext}
}

// found is what is wrong with one name; the zero value says that nothing is.
type found struct {
	why  string
	mild bool // worth a warning only
}

// check: the sub-domain of every unit that owns keys after the cutover resolves, and where clients come by TLS its
// certificate is valid. A domain whose records nobody is configured to publish gets warnings: whoever does it by hand may
// not have been asked to yet, and with `unitgate dev` there are none.
func (n names) check(ctx context.Context, s *events.State, c *events.Cutover) events.Check {
	ctx, cancel := context.WithTimeout(ctx, namesWait)
	defer cancel()
	type place struct {
		domain *events.Domain
		name   string
	}
	var places []place
	for _, d := range activeDomains(s, c.UnitType) {
		for _, unit := range c.To.Units() {
			if u, ok := d.Units[unit]; ok && u.Subdomain != "" {
				places = append(places, place{d, u.Subdomain})
			}
		}
	}
	results := make([]found, len(places))
	var all sync.WaitGroup
	turns := make(chan struct{}, namesAtOnce)
	for i, p := range places {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			results[i] = n.look(ctx, p.name, p.domain.Scheme)
		})
	}
	all.Wait()
	good, strict := 0, false
	var why []string
	for i, f := range results {
		if f.why == "" {
			good++
			continue
		}
		why = append(why, places[i].name+": "+f.why)
		strict = strict || !f.mild && !slices.Contains([]string{"", "none"}, places[i].domain.DNS.Provider)
	}
	r := reading{fmt.Sprintf("%d of %d sub-domains", good, len(places)), fmt.Sprintf("%d of %d", len(places), len(places))}
	switch {
	case strict:
		return r.fail("%s; then retry", few(why, "; "))
	case len(why) > 0:
		return r.warn("clients that are sent there must find it: %s", few(why, "; "))
	}
	return r.pass("every sub-domain is found")
}

// look resolves a name and, as the scheme of Location says, looks at its certificate. With "auto" and "protocol-relative"
// clients may come by either way: then a certificate counts if one is shown.
func (n names) look(ctx context.Context, subdomain, scheme string) found {
	host, port, err := net.SplitHostPort(subdomain)
	if err != nil {
		host, port = strings.Trim(subdomain, "[]"), "443"
	}
	if strings.HasSuffix("."+host, ".localhost") { // RFC 6761 section 6.3: no resolver is to be asked
		return found{why: "only browsers of this machine find it", mild: true}
	}
	addresses, err := n.lookup(ctx, host)
	switch {
	case err != nil:
		why := err.Error()
		if dns := new(net.DNSError); errors.As(err, &dns) {
			why = dns.Err
		}
		return found{why: "does not resolve (" + why + ")"}
	case len(addresses) == 0:
		return found{why: "has no address"}
	}
	switch scheme {
	case "http", "ws":
		return found{}
	}
	leaf, err := n.certificate(ctx, host, net.JoinHostPort(addresses[0], port))
	var bad *tls.CertificateVerificationError
	var refused *outbound.RefusedError
	switch must := scheme == "https" || scheme == "wss"; {
	case errors.As(err, &refused):
		return found{why: "its certificate is not looked at: " + refused.Error(), mild: true}
	case err == nil && time.Until(leaf.NotAfter) < certRemaining:
		return found{why: "its certificate ends on " + leaf.NotAfter.UTC().Format(time.DateOnly), mild: true}
	case err == nil:
		return found{}
	case errors.As(err, &bad):
		return found{why: "its certificate is not valid (" + bad.Err.Error() + ")"}
	case must:
		return found{why: "no TLS at " + net.JoinHostPort(addresses[0], port) + " (" + err.Error() + ")"}
	}
	return found{}
}

// certificate is the verified certificate that a server shows for a name.
func (n names) certificate(ctx context.Context, host, address string) (*x509.Certificate, error) {
	conn, err := n.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	c := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: n.roots, MinVersion: tls.VersionTLS12})
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}
