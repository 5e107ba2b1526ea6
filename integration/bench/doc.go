// Package bench measures the whole system through what its users have: commands in, edges that have applied them. It has
// benchmarks only; how the README's figures were taken stands there.
package bench
