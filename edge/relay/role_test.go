package relay

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Some tests need processes of their own: to measure the memory of a relay without that of its peers, or because one
// process may not open enough descriptors. Such a process is this test binary again, in a role, and does what it is
// called to do, one call after the other.
const roleVariable = "UNITGATE_TEST_ROLE"

// call is what a role is asked to do, answer what it says. A field that a call does not need is left out.
type call struct {
	Do       string
	Addrs    []string
	Target   string
	N        int
	First    int
	Parallel int
	Bytes    int64
	Split    uint32
	Rate     int
	Young    time.Duration
}

type answer struct {
	Err    string
	Addr   string
	N      int
	Bytes  int64
	Heap   int64
	RSS    int64
	Counts Counts
	At     []time.Time
	Shed   int64
	Rest   int           // engines that do not accept for a while
	CPU    time.Duration // that the process has used so far
}

// role is a process in a role.
type role struct {
	t    testing.TB
	name string
	in   *json.Encoder
	out  *json.Decoder
}

func startRole(t testing.TB, name string) *role {
	t.Helper()
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestInARole$", "-test.timeout=20m")
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	cmd.ExtraFiles = []*os.File{theirs} // its standard output is the test framework's
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, said.String())
		}
		_ = ours.Close()
	})
	return &role{t: t, name: name, in: json.NewEncoder(stdin), out: json.NewDecoder(ours)}
}

// begin asks without waiting for the answer, which end takes.
func (r *role) begin(c call) {
	r.t.Helper()
	if err := r.in.Encode(c); err != nil {
		r.t.Fatalf("%s: %v", r.name, err)
	}
}

func (r *role) end() answer {
	r.t.Helper()
	var a answer
	if err := r.out.Decode(&a); err != nil {
		r.t.Fatalf("%s: %v", r.name, err)
	}
	if a.Err != "" {
		r.t.Fatalf("%s: %s", r.name, a.Err)
	}
	return a
}

func (r *role) do(c call) answer {
	r.t.Helper()
	r.begin(c)
	return r.end()
}

// TestInARole is the process of a role; among the other tests it does nothing.
func TestInARole(t *testing.T) {
	var handle func(call) (answer, error)
	switch os.Getenv(roleVariable) {
	case "":
		return
	case "edge":
		handle = (&edgeRole{t: t}).handle
	case "crowd":
		handle = (&crowd{t: t}).handle
	}
	out := json.NewEncoder(os.NewFile(3, "answers"))
	for in := json.NewDecoder(bufio.NewReader(os.Stdin)); ; {
		var c call
		if err := in.Decode(&c); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		a, err := handle(c)
		a.CPU = cpuTime()
		if err != nil {
			a.Err = err.Error()
		}
		if err := out.Encode(a); err != nil {
			t.Fatal(err)
		}
	}
}

// edgeRole is a relay alone in its process.
type edgeRole struct {
	t *testing.T
	f *fixture
}

func (r *edgeRole) handle(c call) (answer, error) {
	switch c.Do {
	case "start":
		if err := limitDescriptors(c.N); err != nil {
			return answer{}, err
		}
		r.f = start(r.t, Config{HandshakeTimeout: time.Hour, young: c.Young}, c.Addrs...) // who is silent stays, however slow the machine is
		if c.Target == "long" {
			for _, e := range r.f.engines {
				e.post(func() { e.adopt.fast = false })
			}
		}
		r.f.own()
		return answer{Addr: r.f.Addrs()[0]}, nil
	case "limit":
		return answer{}, limitDescriptors(c.N)
	case "descriptors":
		return answer{N: freeDescriptors()}, nil
	case "fence":
		r.f.fence(c.Split)
	case "evict":
		r.f.Evict(testType, c.Rate)
	case "drain":
		// Not polled: asking would take the time that is measured.
		for r.f.counts().Victims > 0 {
			<-r.f.Changed()
		}
		return answer{Counts: r.f.counts(), At: []time.Time{time.Now()}}, nil
	case "tidy memory":
		debug.FreeOSMemory()
		fallthrough
	case "memory":
		heap, rss, err := footprint()
		return answer{Heap: heap, RSS: rss, N: r.f.pausedLegs(), Counts: r.f.counts()}, err
	case "counts":
		got := r.f.Readings()
		return answer{Counts: r.f.counts(), N: r.f.pausedLegs(), Shed: got.Shed, Rest: r.f.sum(func(e *engine) int {
			if e.resting.in != nil {
				return 1
			}
			return 0
		})}, nil
	default:
		return answer{}, fmt.Errorf("what is %q?", c.Do)
	}
	return answer{Counts: r.f.counts()}, nil
}

// limitDescriptors lets the process have n descriptors; 0: as many as before.
func limitDescriptors(n int) error {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if err != nil || n == 0 {
		return err
	}
	limit.Cur = uint64(n)
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// freeDescriptors is how many more the process can have.
func freeDescriptors() int {
	var fds []int
	for {
		fd, err := syscall.Dup(2)
		if err != nil {
			break
		}
		fds = append(fds, fd)
	}
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
	return len(fds)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// footprint is what the process holds of the heap, its stacks included, and its resident private memory, as it is: with
// the garbage that the collector has not come to.
func footprint() (heap, rss int64, err error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	rss, err = strconv.ParseInt(kb, 10, 64)
	return int64(memory()), rss << 10, err
}
