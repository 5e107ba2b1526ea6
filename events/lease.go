package events

import "time"

// Times of the lease protocol, beside Policy.Lease, which is L.
const (
	// LeaseEvery is how often an edge asks for a lease (R2).
	LeaseEvery = 2 * time.Second

	// LeaseMargin is m: for how long beyond L a driver must have granted an edge nothing before it takes it for silent (R5).
	// L + m >= L(1+r)/(1-r) + s(1+r) for a clock-rate error r and the time s from the end of a lease to the last byte that
	// the edge hands to its kernel. An edge lets go before the end, so that s is next to nothing: then m allows for r up to
	// 3 % at L = 15 s, 1.6 % at 30 s and 0.08 % at 10 min.
	LeaseMargin = time.Second
)

// LeaseRequest is what an edge asks on `unitgate.edge.<namespace>.<unit>.<edge id>.lease`, every LeaseEvery while its
// policy is exclusive ownership (R2). It repeats the edge's report, which counts as one (R6). The driver in office
// answers, nobody else.
type LeaseRequest struct {
	EdgeReport
	Nonce uint64 `json:"nonce"` // counts this incarnation's requests from 1; a grant is for the newest one only
	// Held is L of the lease that the edge holds as it asks, 0 if it holds none: exclusive ownership counts once every
	// registered edge holds a lease (R13).
	Held Duration `json:"held"`
}

// LeaseAnswerSubject is what the signature of an answer names in place of a subject.
func LeaseAnswerSubject(namespace, edge string) string {
	return "unitgate.lease.answer." + namespace + "." + edge
}

// LeaseAnswer is a grant, or a refusal that says why. It echoes what it answers, and an edge takes it for nothing else.
// The office signs it (SignMessage) for LeaseAnswerSubject: the subject on which it travels is an inbox, whose name
// changes on the way.
type LeaseAnswer struct {
	Namespace   string   `json:"namespace"`
	Epoch       string   `json:"epoch"`
	Edge        string   `json:"edge"`
	Incarnation string   `json:"incarnation"`
	Nonce       uint64   `json:"nonce"`
	Term        uint64   `json:"term"`            // in which the driver answers (R1)
	Lease       Duration `json:"lease,omitempty"` // L, from the moment before the request was sent; 0: refused
	Refused     *Error   `json:"refused,omitempty"`
	Needs       uint64   `json:"needs,omitempty"` // of a refusal: the sequence that the edge has to apply first (R4); 0: that is not it
}
