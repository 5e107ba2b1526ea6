//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"time"

	"github.com/unitgate/unitgate/integration/bench/crew"
)

// target is something that clients can reach the origins through.
type target interface {
	// start starts n proxies before the origins and returns once they serve. Whoever asks for less than a whole
	// comparison's load gives perProxy: the sessions that one of them must be able to take.
	start(ctx context.Context, n int, origins []string) (*site, error)
}

// site is a target that serves.
type site struct {
	addrs     []string // HOST:PORT of each proxy
	processes []*crew.Process
	secure    []string // HOST:PORT of each proxy for TLS
	// secureStreams is that for streams: nginx takes the size of a buffer from its listener.
	secureStreams []string
	admin         []string // HOST:PORT of each edge's admin listener; empty for others
	unwatch       func()   // ends what looks at it; nil: nothing does
}

func (s *site) add(p *crew.Process, addr, secure, secureStreams string) {
	s.processes, s.addrs = append(s.processes, p), append(s.addrs, addr)
	s.secure, s.secureStreams = append(s.secure, secure), append(s.secureStreams, secureStreams)
}

func (s *site) pids() []int {
	var out []int
	for _, p := range s.processes {
		out = append(out, p.PID)
	}
	return out
}

// stopWithin is what a proxy has for ending by itself; sessions have ended before, so it is not for them.
const stopWithin = 5 * time.Second

func (s *site) stop() {
	if s.unwatch != nil {
		s.unwatch()
	}
	for _, p := range s.processes {
		p.Stop(stopWithin)
	}
}

// direct has no proxy: what the machine, the load generator and the origin can do by themselves.
type direct struct{}

func (direct) start(_ context.Context, n int, origins []string) (*site, error) {
	if n != 1 {
		return nil, fmt.Errorf("%d of nothing", n)
	}
	return &site{addrs: origins}, nil
}

// freeAddr is an address that nobody listens on, with a port below those that the kernel gives to clients.
func freeAddr() (string, error) {
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("no free port between 20000 and 32000")
}

// listens says whether an address can be connected to.
func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// find looks for a program on the PATH, and where distributions keep servers.
func find(name, given string) string {
	if given != "" {
		return given
	}
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	return ""
}
