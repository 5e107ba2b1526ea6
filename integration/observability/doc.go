// Package observability holds the tests of what an operator sees: real processes in a real cutover, what they show to
// Prometheus and what they log, and the files in deployments/observability that build on it.
package observability
