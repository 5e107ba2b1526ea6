//go:build race

package relay

// underRace: the race detector's own memory is not told apart from the relay's.
const underRace = true
