package events

import (
	"fmt"
	"net"
	"strings"
)

// soundDomains checks drafts and active versions: what they refer to exists, and no host name is claimed twice.
func (s *State) soundDomains() error {
	active, newest := map[string]string{}, map[string]string{} // host name -> the domain that answers for it
	for _, host := range sortedKeys(s.Domains) {
		d := s.Domains[host]
		for _, v := range []*Domain{d.Active, d.Draft} {
			if v == nil {
				continue
			}
			if err := s.soundDomain(v); err != nil {
				return err
			}
		}
		if err := claim(newest, d.Newest()); err != nil {
			return err
		}
		if d.Active == nil {
			continue
		}
		if err := claim(active, d.Active); err != nil {
			return err
		}
		if err := s.complete(d.Active); err != nil {
			return err
		}
	}
	return nil
}

// claim notes the names that d answers for, none of which another domain may answer for.
func claim(names map[string]string, d *Domain) error {
	for _, name := range d.Names() {
		if other, ok := names[name]; ok && other != d.Host {
			return ErrDuplicateName.With("%s already answers for %s", other, name).At(fmt.Sprintf("domains[%s]", d.Host))
		}
		names[name] = d.Host
	}
	return nil
}

// Names are the host names without port that the domain answers for: its own and its sub-domains'.
func (d *Domain) Names() []string {
	names := []string{d.Host}
	for _, id := range sortedKeys(d.Units) {
		names = append(names, HostOnly(d.Units[id].Subdomain))
	}
	return names
}

// HostOnly drops the port, if there is one, and the brackets of an IPv6 address.
func HostOnly(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return strings.Trim(hostport, "[]")
}

func (s *State) soundDomain(d *Domain) error {
	at := fmt.Sprintf("domains[%s]", d.Host)
	if _, ok := s.UnitType(d.UnitType); !ok {
		return ErrUnknownUnitType.With("there is no unit type %q", d.UnitType).At(at + ".unitType")
	}
	for _, id := range sortedKeys(d.Units) {
		at := at + ".units." + id
		if _, ok := s.Units[id]; !ok {
			return ErrUnknownUnit.With("there is no unit %q", id).At(at)
		}
		c, ok := s.Clusters[d.Units[id].Cluster]
		if !ok {
			return ErrUnknownCluster.With("there is no cluster %q", d.Units[id].Cluster).At(at + ".cluster")
		}
		if c.Unit != id {
			return ErrUnknownCluster.With("cluster %q belongs to unit %q", c.ID, c.Unit).At(at + ".cluster")
		}
	}
	return nil
}

// complete checks what an edge needs to redirect: every unit that owns something of the domain's unit type is in the
// domain, and so has a sub-domain.
func (s *State) complete(d *Domain) error {
	t, _ := s.UnitType(d.UnitType)
	r, ok := s.Rules[t.Name]
	if !ok {
		return nil // clients get a clear answer until the rules are set
	}
	for _, unit := range r.Current.Units() {
		if _, ok := d.Units[unit]; !ok {
			return ErrUnknownUnit.With("unit %q owns slots of %q but is not in the domain", unit, t.Name).At(fmt.Sprintf("domains[%s].units", d.Host))
		}
	}
	return nil
}
