// Package soak lets real edges work for a long time under everything at once, and looks at what is left of it: sessions,
// descriptors, goroutines, memory. `go test` gives it seconds; UNITGATE_SOAK=10m gives it ten minutes and full size.
package soak
