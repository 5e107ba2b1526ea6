// Package roles speaks as each role of deployments/nats on every subject that the role
// may use, whatever comes to mind: valid messages, huge ones, packed ones that are huge
// when they are unpacked, repeated, recorded and sent once more, forged in another's
// name, with reply subjects at which the sender may not write. Meanwhile 500 clients talk
// and a cutover goes to and fro. Nothing that a role may say ends a session, moves an
// office, joins or ends an edge, or takes more of a process than it may.
//
// UNITGATE_ROLE_FUZZ=10m runs it for ten minutes; UNITGATE_SEED replays what was said, in
// the order in which each role said it.
package roles
