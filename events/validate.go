package events

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a configuration.
const (
	maxUnits     = 256
	maxUnitTypes = 16
	maxEntities  = 4096 // clusters, load balancers, domains
	maxURIs      = 64
	maxOrigins   = 64
	maxSources   = 16   // places where a routerId may stand
	maxInstances = 1024 // edges that a cluster names
	maxText      = 256  // names, reasons, actors
)

var (
	idForm       = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	unitTypeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	keyForm      = regexp.MustCompile(`^[0-9a-f]{64}$`)
	uuidForm     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	tokenForm    = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$") // RFC 9110 section 5.6.2
	hostForm     = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
	segmentForm  = regexp.MustCompile(`^[1-9][0-9]?$`)
	pathForm     = regexp.MustCompile(`^/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*$`) // RFC 3986 section 3.3
)

// CheckID tells whether id may name a namespace, unit, cluster, load balancer or edge. The error is ErrBadName.
func CheckID(id, field string) error {
	if id == "" {
		return ErrMissingField.With("an id is required").At(field)
	}
	if !idForm.MatchString(id) {
		return ErrBadName.With("%q: want 1 to 63 of a-z, 0-9 and -, not beginning or ending with -", id).At(field)
	}
	return nil
}

// CheckUUID tells whether a command id is a UUID in its lower-case text form. The error is ErrBadID.
func CheckUUID(id string) error {
	if !uuidForm.MatchString(id) {
		return ErrBadID.With("a command id must be a UUID in lower case, %q is none", short([]byte(id))).At("id")
	}
	return nil
}

// CheckAddress tells whether an edge can join with an address. The error is ErrBadValue.
func CheckAddress(addr, field string) error {
	if !isHostPort(addr, true) {
		return ErrBadValue.With("%q: want HOST:PORT, host names in lower case", addr).At(field)
	}
	return nil
}

// CheckEnvelope validates what stands around a command.
func CheckEnvelope(env Envelope) error {
	if err := CheckUUID(env.ID); err != nil {
		return err
	}
	if err := checkLine(env.Actor, "actor"); err != nil {
		return err
	}
	if err := checkLine(env.Traceparent, "traceparent"); err != nil {
		return err
	}
	if err := checkLine(reasonOf(env.Command), "reason"); err != nil {
		return err
	}
	return checkLine(env.Reason, "reason")
}

func checkPolicy(p *Policy, field string) error {
	if err := p.Gate.normalize(join(field, "gate")); err != nil {
		return err
	}
	switch {
	case p.Ownership != "available" && p.Ownership != "exclusive":
		return ErrBadValue.With("%q: want available or exclusive", p.Ownership).At(join(field, "ownership"))
	case p.Lease < Duration(15*time.Second) || p.Lease > Duration(10*time.Minute):
		return ErrBadValue.With("want 15s to 10m").At(join(field, "lease"))
	case p.Hold < Duration(100*time.Millisecond) || p.Hold > Duration(time.Minute):
		return ErrBadValue.With("want 100ms to 1m").At(join(field, "hold"))
	case p.CloseCode != 1001 && (p.CloseCode < 1012 || p.CloseCode > 1013) && (p.CloseCode < 3000 || p.CloseCode > 4999):
		return ErrBadValue.With("%d: want 1001, 1012, 1013 or 3000 to 4999", p.CloseCode).At(join(field, "closeCode"))
	case p.EvictRate < 0 || p.EvictRate > MaxRate:
		return ErrBadValue.With("want 0 to %d", MaxRate).At(join(field, "evictRate"))
	}
	return nil
}

func (t *UnitType) normalize(field string) error {
	if !unitTypeForm.MatchString(t.Name) {
		return ErrBadName.With("%q: want a letter and up to 63 letters, digits, _ or -", t.Name).At(join(field, "name"))
	}
	if t.Slots < 1 || t.Slots > 1<<20 {
		return ErrBadSlots.With("%d: want 1 to %d", t.Slots, 1<<20).At(join(field, "slots"))
	}
	if err := t.Substring.Check(); err != nil {
		return ErrBadValue.With("%v", err).At(join(field, "substring"))
	}
	if len(t.RouterID) == 0 {
		t.RouterID = []string{"header:routerId", "cookie:routerId", "query:routerId"}
	}
	if len(t.RouterID) > maxSources {
		return ErrBadValue.With("%d sources, at most %d are allowed", len(t.RouterID), maxSources).At(join(field, "routerId"))
	}
	for i, src := range t.RouterID {
		if !isSource(src) {
			return ErrBadValue.With("%q: want header:NAME, cookie:NAME, query:NAME, path:N (the N-th segment, from 1) or subprotocol", src).At(fmt.Sprintf("%s[%d]", join(field, "routerId"), i))
		}
	}
	if t.Unmarked == "" {
		t.Unmarked = "local"
	}
	if !slices.Contains([]string{"local", "reject", "split"}, t.Unmarked) {
		return ErrBadValue.With("%q: want local, reject or split", t.Unmarked).At(join(field, "unmarked"))
	}
	return t.checkForm(field)
}

// isSource tells whether s names a place where a routerId may stand.
func isSource(s string) bool {
	from, name, _ := strings.Cut(s, ":")
	switch from {
	case "header", "cookie", "query":
		return tokenForm.MatchString(name)
	case "path":
		return segmentForm.MatchString(name)
	}
	return s == "subprotocol"
}

func (u *Unit) normalize(field string) error {
	if err := CheckID(u.ID, join(field, "id")); err != nil {
		return err
	}
	return checkLine(u.Name, join(field, "name"))
}

func checkProtocol(p *string, field string) error {
	if *p == "" {
		*p = "websocket"
	}
	if *p != "websocket" {
		return ErrUnsupported.With("%q: only websocket is there", *p).At(join(field, "protocol"))
	}
	return nil
}

func (c *Cluster) normalize(field string) error {
	if err := CheckID(c.ID, join(field, "id")); err != nil {
		return err
	}
	if c.Unit == "" {
		return ErrMissingField.With("a cluster belongs to a unit").At(join(field, "unit"))
	}
	if len(c.Instances) > maxInstances {
		return ErrBadValue.With("%d edges, at most %d are allowed", len(c.Instances), maxInstances).At(join(field, "instances"))
	}
	for i, id := range c.Instances {
		if err := CheckID(id, fmt.Sprintf("%s[%d]", join(field, "instances"), i)); err != nil {
			return err
		}
	}
	return checkProtocol(&c.Protocol, field)
}

func (l *LoadBalancer) normalize(field string) error {
	if err := CheckID(l.ID, join(field, "id")); err != nil {
		return err
	}
	if l.Cluster == "" {
		return ErrMissingField.With("a load balancer stands before a cluster").At(join(field, "cluster"))
	}
	if !isHost(l.Address) {
		return ErrBadValue.With("%q is no IP address or host name", l.Address).At(join(field, "address"))
	}
	return nil
}

// maxCloseName bounds a sub-domain that clients are told in a Close frame, whose text has at most 123 bytes.
const maxCloseName = 123 - len("wss://") - len("/")

func (d *Domain) normalize(field string) error {
	if !hostForm.MatchString(d.Host) || len(d.Host) > 253 {
		return ErrBadName.With("%q is no host name in lower case", d.Host).At(join(field, "host"))
	}
	if err := checkProtocol(&d.Protocol, field); err != nil {
		return err
	}
	if err := oneOf(&d.Scheme, join(field, "scheme"), "auto", "http", "https", "ws", "wss", "protocol-relative"); err != nil {
		return err
	}
	if err := oneOf(&d.Correction, join(field, "correction"), "redirect", "close", "proxy"); err != nil {
		return err
	}
	if err := oneOf(&d.DNS.Provider, join(field, "dns.provider"), "none", "rfc2136", "alidns"); err != nil {
		return err
	}
	if len(d.Units) == 0 {
		return ErrMissingField.With("a domain needs at least one unit").At(join(field, "units"))
	}
	units, taken := map[string]DomainUnit{}, map[string]string{}
	for _, id := range sortedKeys(d.Units) {
		u, at := d.Units[id], join(field, "units."+id)
		if u.Cluster == "" {
			return ErrMissingField.With("the effective cluster is required").At(join(at, "cluster"))
		}
		if u.Subdomain == "" {
			u.Subdomain = id + "." + d.Host
		}
		if !isHostPort(u.Subdomain, false) {
			return ErrBadValue.With("%q is no host name, with or without a port", u.Subdomain).At(join(at, "subdomain"))
		}
		if d.Correction == "close" && len(u.Subdomain) > maxCloseName {
			return ErrBadValue.With("%d bytes: wss://, the sub-domain and a slash have to fit into a Close frame, so that it may have %d", len(u.Subdomain), maxCloseName).At(join(at, "subdomain"))
		}
		if other, ok := taken[u.Subdomain]; ok { // a redirect there would come back for ever
			return ErrDuplicateName.With("%s is the sub-domain of unit %q already", u.Subdomain, other).At(join(at, "subdomain"))
		}
		units[id], taken[u.Subdomain] = u, id
	}
	d.Units = units
	if err := d.checkDNS(join(field, "dns")); err != nil {
		return err
	}
	return d.normalizeURIs(field)
}

// checkDNS wants one zone that holds all the names, where somebody publishes them.
func (d *Domain) checkDNS(field string) error {
	zone := d.DNS.Zone
	switch {
	case zone == "" && d.DNS.Provider == "none":
		return nil
	case d.DNS.Provider == "none":
		return ErrBadValue.With("nobody is to publish it: say which provider, or leave the zone out").At(join(field, "zone"))
	case zone == "":
		return ErrMissingField.With("say in which zone the names are published").At(join(field, "zone"))
	case len(zone) > 253 || !hostForm.MatchString(zone):
		return ErrBadValue.With("%q: want the name of a zone in lower case, without a dot at its end", zone).At(join(field, "zone"))
	}
	for _, name := range d.Names() {
		if name != zone && !strings.HasSuffix(name, "."+zone) {
			return ErrBadValue.With("%s does not lie in zone %s", name, zone).At(join(field, "zone"))
		}
	}
	return nil
}

func (d *Domain) normalizeURIs(field string) error {
	if len(d.URIs) == 0 || len(d.URIs) > maxURIs {
		return ErrBadValue.With("a domain has 1 to %d URIs", maxURIs).At(join(field, "uris"))
	}
	seen := map[string]string{}   // by what it matches
	d.URIs = slices.Clone(d.URIs) // the caller's stay as they are
	for i, u := range d.URIs {
		at := fmt.Sprintf("%s[%d]", join(field, "uris"), i)
		path, err := matchablePath(u.Path)
		if err != nil {
			return ErrBadValue.With("%q: %v", u.Path, err).At(join(at, "path"))
		}
		d.URIs[i].Path = path
		prefix := strings.TrimSuffix(path, "/") // a path matches on segment borders, with or without a final slash
		if other, ok := seen[prefix]; ok {
			return ErrDuplicateName.With("the path %s stands here already, as %s: only the first one could ever match", u.Path, other).At(join(at, "path"))
		}
		seen[prefix] = u.Path
		for _, unit := range sortedKeys(u.Origins) {
			origins, at := u.Origins[unit], join(at, "origins."+unit)
			if _, ok := d.Units[unit]; !ok {
				return ErrUnknownUnit.With("the domain is not in unit %q", unit).At(at)
			}
			if len(origins) == 0 || len(origins) > maxOrigins {
				return ErrBadValue.With("%d origins: want 1 to %d", len(origins), maxOrigins).At(at)
			}
			for _, o := range origins {
				if !isHostPort(o, true) {
					return ErrBadValue.With("%q: want HOST:PORT, several with commas between them", o).At(at)
				}
			}
		}
		if err := d.URIs[i].normalizeHealth(at); err != nil {
			return err
		}
	}
	return nil
}

// matchablePath is the normal form of a path that requests are to be matched with.
func matchablePath(path string) (string, error) {
	if !pathForm.MatchString(path) || len(path) > 1024 {
		return "", errors.New("no absolute path")
	}
	if path, err := NormalPath(path); err != nil || !HasParameters(path) {
		return path, err
	}
	return "", errors.New(`a segment has parameters (";"), which servers may take off: match without them`)
}

func oneOf(v *string, field string, allowed ...string) error {
	if *v == "" {
		*v = allowed[0]
	}
	if !slices.Contains(allowed, *v) {
		return ErrBadValue.With("%q: want %s", *v, strings.Join(allowed, ", ")).At(field)
	}
	return nil
}

// isHost accepts a host name in lower case or an IP address. An IPv6 zone may hold any byte and would end up in a
// Location header, so it is no part of an address here.
func isHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == ""
	}
	return len(s) <= 253 && hostForm.MatchString(s)
}

// isHostPort accepts HOST:PORT and, unless the port is required, HOST. Only IPv6 addresses stand in brackets.
func isHostPort(s string, needPort bool) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return !needPort && isHost(s) && !strings.Contains(s, ":")
	}
	if strings.HasPrefix(s, "[") != strings.Contains(host, ":") || len(port) > len("65535") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && isHost(host)
}
