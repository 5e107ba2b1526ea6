// Package bench measures the whole system through what its users have: commands in, edges that have applied them. These
// are Go benchmarks; README.md has the figures, and how they were taken. Below it, the program compare measures the edge's
// data path against other proxies, with a load generator (load) and an origin (origin) on bare epoll (sock), as
// processes of their own (crew).
package bench
