package events

// exclude follows a change of the policy (R13): exclusive ownership counts only when every registered edge holds a lease,
// and after a change of its length the longer one is waited for until that is established anew.
func (s *State) exclude(seq uint64, old, now Policy) {
	switch {
	case now.Ownership != "exclusive":
		s.Exclusive = Exclusive{}
		for id, e := range s.Edges { // under available a retirement is an operator's word, nothing is waited for
			if e.Awaited {
				e.Awaited = false
				s.Edges[id] = e
			}
		}
	case old.Ownership != "exclusive":
		s.Exclusive = Exclusive{Since: seq, Lease: now.Lease}
	case old.Lease != now.Lease:
		s.Exclusive = Exclusive{Since: seq, Fence: s.Exclusive.Fence, Lease: max(s.Exclusive.Lease, now.Lease)}
	}
}

// establish makes exclusive ownership count. The longer one of two lengths is waited for until every edge that may hold a
// lease has said that it holds one of the new length: a retired edge whose silence nobody has recorded says nothing.
func (s *State) establish(seq uint64) error {
	if s.Policy.Ownership != "exclusive" {
		return ErrWrongState.With("ownership is %s", s.Policy.Ownership)
	}
	s.Exclusive.Established = seq
	for _, e := range s.Edges {
		if e.Awaited {
			return nil
		}
	}
	s.Exclusive.Lease = s.Policy.Lease
	return nil
}

// decideEstablish: leases of an earlier policy say nothing about the one in force, which may have come while the command
// was under way: they may be longer, or an edge may serve without any (R13).
func (s *State) decideEstablish(c EstablishOwnership) (Event, error) {
	if s.Policy.Ownership != "exclusive" || s.Exclusive.Counts() {
		return nil, ErrWrongState.With("ownership is %s, established at %d", s.Policy.Ownership, s.Exclusive.Established)
	}
	if c.Since != s.Exclusive.Since {
		return nil, ErrWrongState.With("the leases are of the policy at %d, the one in force is of %d", c.Since, s.Exclusive.Since)
	}
	return OwnershipEstablished{Term: c.Term}, nil
}

// silenced notes which retired edges a commit has found silent: nothing waits for them any more.
func (s *State) silenced(results []EdgeResult) {
	for _, r := range results {
		if e, ok := s.Edges[r.ID]; ok && r.Silent && e.Awaited {
			e.Awaited = false
			s.Edges[r.ID] = e
		}
	}
}
