package relay

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// farSide is a network namespace with clients, linked to that of the test's own thread: a machine that can be cut off
// without a FIN or a RST. What is done in it is done by one thread.
type farSide struct {
	t    *testing.T
	do   chan func()
	near string // address of the test's side
}

// newFarSide moves the test's goroutine, with a thread of its own, into a new network namespace, which it never leaves,
// and links that to a second one. Other goroutines stay where they were: open here what shall be reached by way of the
// link, before it what shall not.
func newFarSide(t *testing.T) *farSide {
	t.Helper()
	needRootAndTools(t, "ip", "nft")
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal("unshare:", err)
	}
	far := &farSide{t: t, do: make(chan func()), near: "192.0.2.1"}
	started, ended := make(chan error), make(chan struct{})
	tid := 0
	go func() {
		defer close(ended)
		runtime.LockOSThread() // as above
		tid = unix.Gettid()
		started <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range far.do {
			f()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal("unshare:", err)
	}
	t.Cleanup(func() { close(far.do); <-ended })
	command(t, "ip", "link", "set", "lo", "up")
	command(t, "ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", fmt.Sprint(tid))
	command(t, "ip", "addr", "add", far.near+"/24", "dev", "near")
	command(t, "ip", "link", "set", "near", "up")
	far.run(func() {
		command(t, "ip", "addr", "add", "192.0.2.2/24", "dev", "far")
		command(t, "ip", "link", "set", "far", "up")
	})
	return far
}

// run has f done in the far side.
func (far *farSide) run(f func()) {
	far.t.Helper()
	done := make(chan struct{})
	far.do <- func() { defer close(done); f() }
	<-done
	if far.t.Failed() {
		far.t.FailNow()
	}
}

// dial connects from there.
func (far *farSide) dial(addr string) (c net.Conn, err error) {
	far.run(func() { c, err = net.Dial("tcp", addr) })
	return c, err
}

// cut makes the kernel there drop whatever belongs to a connection.
func (far *farSide) cut(conns ...net.Conn) {
	far.t.Helper()
	var ports []string
	for _, c := range conns {
		ports = append(ports, fmt.Sprint(c.LocalAddr().(*net.TCPAddr).Port))
	}
	set := "{ " + strings.Join(ports, ", ") + " }"
	far.run(func() {
		for _, line := range []string{
			"add table ip cut",
			"add chain ip cut in { type filter hook input priority 0 ; }",
			"add chain ip cut out { type filter hook output priority 0 ; }",
			"add rule ip cut in tcp dport " + set + " drop",
			"add rule ip cut out tcp sport " + set + " drop",
		} {
			command(far.t, "nft", line)
		}
	})
}

func command(t *testing.T, name string, args ...string) {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v %s", name, args, err, out)
	}
}

// needRootAndTools skips the test where it cannot run.
func needRootAndTools(t *testing.T, tools ...string) {
	t.Helper()
	missing := ""
	if os.Getuid() != 0 {
		missing = "root, for network namespaces"
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing = tool + " (Debian packages iproute2, nftables)"
		}
	}
	switch {
	case missing == "":
	case os.Getenv("UNITGATE_REQUIRE_ALL") != "":
		t.Fatal("UNITGATE_REQUIRE_ALL is set, and there is no " + missing)
	default:
		t.Skip("needs " + missing)
	}
}
