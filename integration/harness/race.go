//go:build race

package harness

// Race says whether the tests, and so the binary, run under the race detector.
const Race = true
