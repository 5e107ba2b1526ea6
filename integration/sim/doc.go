// Package sim plays cutovers with the real machines of both sides on a simulated network: drivers (services/cutover),
// agents (edge/agent), what a handshake is answered by an edge's view (edge/handshake, edge/session), and the core's
// Decide and Evolve. Modelled is what has no pure form: the journal, the office's key, disks, clocks, the network, and of
// the relay its pollers with their sessions, dials and held handshakes.
//
// Everything happens in one goroutine in the order of one seeded queue, so that a seed replays exactly. Faults come at any
// moment and also aimed at the phases of a cutover; see faults.go. After each thing that happens the guarantees are
// checked against what the journal says, see check.go; when the faults have ended, everything has to converge, see end.go.
//
//	go test ./integration/sim -run TestSeed -seed 17 -v     # replay with its trace
//	UNITGATE_SIM_RUNS=10000 go test ./integration/sim -run TestSeeds -v -timeout 60m
//
// Run may be called by any number of goroutines; a world belongs to one.
package sim
