// Package integration proves what unitgate promises from the outside: it has no
// code of its own, only tests that run the real binary, real edges, a real NATS
// server and WebSocket clients that others wrote, and one that holds the layout.
//
// The tests wait by polling with a deadline, never by sleeping for a guessed time,
// and assert no timings beyond generous bounds. What needs a part that may be
// missing (Node with the npm packages of testdata/wsclient) skips without it;
// UNITGATE_REQUIRE_ALL=1 turns such a skip into a failure.
package integration
