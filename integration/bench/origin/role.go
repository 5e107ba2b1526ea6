//go:build linux

package origin

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/unitgate/unitgate/integration/bench/crew"
)

// Stats are the counters of an origin.
type Stats struct {
	Open int64 `json:"open"` // connections
	Sent int64 `json:"sent"` // bytes of streams that the kernel took
}

// Serve is the origin's role: it listens on the addresses and answers "addrs" and "stats" until in ends.
func Serve(in io.Reader, out io.Writer, addrs []string) error {
	debug.SetGCPercent(400)
	o, bound, err := New(addrs)
	if err != nil {
		return err
	}
	go func() {
		runtime.LockOSThread()
		if err := o.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "origin:", err)
			os.Exit(1)
		}
	}()
	return crew.Serve(in, out, crew.Handlers{
		"addrs": crew.Handle(func(struct{}) ([]string, error) { return bound, nil }),
		"stats": crew.Handle(func(struct{}) (Stats, error) { return Stats{o.Open.Load(), o.Sent.Load()}, nil }),
	})
}
