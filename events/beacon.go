package events

import "time"

// Beacon is what the control plane says of a journal's head on `unitgate.beacon.<namespace>`: whenever the driver's office
// was renewed (every second) and right after each event. Only the controller whose driver is in office sends it, and signs
// it with the key that the journal holds of its office: what anybody else sends there, or sends once more, is believed by
// nobody. It is no truth: whoever hears it asks the journal for what is missing.
//
// Age is what staleness is measured by. Only a write that a quorum acknowledged proves that a server still belongs to the
// living cluster, and the renewal of the office is such a write: Age ago, just before the last acknowledged renewal was
// sent, the journal held nothing beyond Seq, because its leader was asked for the head after the renewal had been
// acknowledged and Seq is at least its answer. What this does not prove: the office and the journal are two streams, so a
// leader of the journal that has lost its majority while the controller reaches it and a majority of the office's replicas
// (a partition that is not clean, or replicas on other servers) may still vouch for a head that has moved, for as long as
// the server takes to notice.
type Beacon struct {
	Namespace string    `json:"namespace"`
	Epoch     string    `json:"epoch"` // of the journal that Seq counts in
	Seq       uint64    `json:"seq"`   // the sender's newest event
	Hash      string    `json:"hash"`  // Record.Hash of it; "" exactly when Seq is 0
	Time      time.Time `json:"time"`  // when it was sent, on the sender's clock: for people, nothing is computed with it
	Age       Duration  `json:"age"`   // how old the proof was when it was sent, on the sender's monotonic clock
	Up        Duration  `json:"up"`    // how long the sender had run when it was sent, on that clock: more with each beacon
	Sign      []byte    `json:"sign"`  // Ed25519, with the key of the office (Office.Key), over the other fields
}

// BeaconEvery is about how often a beacon comes while nothing happens.
const BeaconEvery = time.Second

// BeaconSubject is where the beacons of a namespace come.
func BeaconSubject(namespace string) string { return "unitgate.beacon." + namespace }

// EdgeStatus is an EdgeReport with what the edge knows of the head: what it publishes as its report and, with more fields,
// answers to the question "status".
type EdgeStatus struct {
	EdgeReport
	Head uint64 `json:"head"` // newest sequence that the journal told the edge of
	// Staleness is how long ago, in seconds, the edge last knew that it had all there was, see Beacon. It swings between
	// 0 and about 2 s while all is well, is understated by the time that a beacon travels, and grows whenever nobody
	// vouches: without the bus, without a quorum, without a control plane, and behind the head.
	Staleness float64 `json:"staleness"`
	// Lease is for how many seconds the edge may serve, as text: "27.3". "0": it has no lease and serves nobody; "": ownership
	// is available, so that it needs none.
	Lease  string `json:"lease"`
	Broken string `json:"broken"` // why the edge does not follow the journal any more; "": it does
	// Down are origins of the edge's unit, as the active domains name them, that its probes hold for down, with the reason;
	// at most MaxProbes. A version before says nothing of them.
	Down map[string]string `json:"down"`
}
