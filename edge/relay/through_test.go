package relay

import (
	"strings"
	"testing"
)

// TestThroughAnEdge runs tests that were written for one edge with clients that come to an edge of another unit: what they
// say of the tunnel, of back-pressure and of evictions holds over the TLS between the two as well.
func TestThroughAnEdge(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"ByteExact":                 TestTunnelIsByteExact,
		"Glued":                     TestBytesGluedToTheHandshake,
		"SingleBytes":               TestRequestAndResponseInSingleBytes,
		"LongHeads":                 TestLongHeadsPass,
		"HalfClose":                 TestHalfClose,
		"HalfCloseWithASlowReader":  TestHalfCloseWithASlowReader,
		"Reset":                     TestResetPassesThrough,
		"ResetAfterTheEnd":          TestResetAfterTheEndTakesNothingAway,
		"Burst":                     TestBurstAndEndForClientsThatReadLater,
		"SlowReader":                TestSlowReaderPausesItsOwnOriginOnly,
		"Flood":                     TestFloodBothWays,
		"Churn":                     TestChurn,
		"OriginsOwnAnswers":         TestOriginsOwnAnswers,
		"ClientLeavesWhileDialling": TestClientLeavesWhileDialling,
		"EvictionInTheMiddle":       TestEvictionInTheMiddleOfAMessage,
		"EvictionOfAClientThatEnds": TestEvictionOfAClientThatJustEnds,
		"SessionsThatEndAreVictims": TestSessionsThatEndAlreadyAreVictims,
		"CutoverUnderChatter":       TestCutoverUnderChatter,
		"EvictionOfAStuckReader":    TestEvictionOfAStuckReader,
		"ClosesThatCross":           TestClosesThatCrossAnEviction,
		"EvictionOfAHalfClosed":     TestEvictionOfAHalfClosedClient,
		"ClosedDescriptor":          TestClosedDescriptorIsNotTouched,
		"Chaos":                     TestChaos,
	} {
		t.Run(name, test)
	}
}

func throughAnEdge(t *testing.T) bool { return strings.HasPrefix(t.Name(), "TestThroughAnEdge/") }

// startFront has clients of f come to an edge of another unit.
func (f *fixture) startFront() {
	f.front = start(f.t, Config{HopKey: hopKeyOf("edge-front")})
	f.front.unit, f.front.id, f.front.correct = "front", "edge-front", "proxy"
	f.front.peers, f.peers = []*fixture{f}, []*fixture{f.front}
	f.front.hold = f.hold
}
