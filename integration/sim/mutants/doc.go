// Package mutants takes one rule of the protocol away at a time, from a copy of the real code, and holds that a test
// notices: the simulation for most, a package's own test for what the simulation only models.
//
//	UNITGATE_MUTANTS=1 go test ./integration/sim/mutants -v        # all of them, with what caught each and at which seed
//	UNITGATE_MUTANTS=1 go test ./integration/sim/mutants -v -run TestMutants/no-took-office
//
// Without the variable only one thing is checked: that every text which a mutant replaces still stands in the code, once.
package mutants
