package relay

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/certs/certstest"
)

// sclient is `openssl s_client`, connected to a relay: a client of another TLS library.
type sclient struct {
	t     *testing.T
	stdin io.WriteCloser
	mu    sync.Mutex // guards what follows
	out   bytes.Buffer
	ended bool
}

func (s *sclient) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

func (s *sclient) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// wait waits for a text in what openssl has written.
func (s *sclient) wait(text string) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(s.said(), text) {
		if time.Now().After(deadline) {
			out := s.said()
			s.t.Fatalf("openssl does not say %.40q but %d bytes: %.2000q", text, len(out), out)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (s *sclient) send(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.stdin, text); err != nil {
		s.t.Error(err) // any goroutine may send
	}
}

// end closes openssl's input, upon which it says close_notify, and waits until it is gone.
func (s *sclient) end() {
	s.t.Helper()
	_ = s.stdin.Close()
	eventually(s.t, "openssl ends", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ended
	})
}

func startOpenSSL(t *testing.T, f *fixture, ca string, args ...string) *sclient {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("UNITGATE_REQUIRE_ALL") == "1" {
			t.Fatal("there is no openssl on the PATH")
		}
		t.Skip("there is no openssl on the PATH")
	}
	args = append([]string{"s_client", "-connect", f.TLSAddrs()[0], "-servername", "edge.example", "-verify_hostname", "edge.example",
		"-CAfile", ca, "-verify_return_error", "-alpn", "h2,http/1.1"}, args...)
	cmd := exec.Command(program, args...)
	s := &sclient{t: t}
	cmd.Stdout, cmd.Stderr = s, s
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	return s
}

func TestOpenSSL(t *testing.T) {
	b := newBackend(t)
	authority := certstest.New(t)
	ca := authority.CAFile()
	var cfg Config
	secure := useTLS(t, &cfg, authority)
	f := start(t, cfg, b.addr())
	f.secure = secure
	f.own()
	for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
		flag := "-" + strings.ToLower(strings.Replace(strings.Replace(version, "v", "", 1), ".", "_", 1))
		open := func(args ...string) (*sclient, *peer) {
			t.Helper()
			s := startOpenSSL(t, f, ca, append(args, flag)...)
			s.send(requestFor("7"))
			o, head := b.next()
			if !strings.Contains(head, "X-Forwarded-Proto: https\r\n") {
				t.Errorf("the origin got %q", head)
			}
			o.send([]byte(switching)...)
			s.wait("101 Switching")
			return s, o
		}
		t.Run(version+"/bulk", func(t *testing.T) {
			s, o := open("-quiet", "-no_ign_eof")
			var text strings.Builder
			for i := 0; text.Len() < 3<<20; i++ {
				fmt.Fprintf(&text, "line %d\n", i)
			}
			go s.send(text.String())
			o.want([]byte(text.String())...)
			o.send([]byte(text.String() + "that is all")...)
			s.wait("that is all")
			if !strings.Contains(s.said(), text.String()) {
				t.Error("other bytes came back")
			}
			s.end()
			o.wantEnd()
		})
		t.Run(version+"/resumption", func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "session")
			for _, want := range []string{"New, " + version, "Reused, " + version} {
				args := []string{"-sess_out", file}
				if strings.HasPrefix(want, "Reused") {
					args = append(args, "-sess_in", file)
				}
				s, o := open(args...)
				s.wait(want)
				s.wait("ALPN protocol: http/1.1")
				o.send([]byte("a last word")...)
				s.wait("a last word")
				s.end()
				o.wantEnd()
			}
		})
	}
	t.Run("key updates", func(t *testing.T) {
		s := startOpenSSL(t, f, ca, "-tls1_3")
		s.wait("Verify return code: 0 (ok)")
		s.send(requestFor("7"))
		o, _ := b.next()
		o.send([]byte(switching)...)
		s.wait("101 Switching")
		for i, command := range []string{"K", "k", "K", "K"} {
			s.send(command + "\n")
			eventually(t, "openssl has updated its keys", func() bool { return strings.Count(s.said(), "KEYUPDATE") == i+1 })
			question, answer := fmt.Sprintf("question %d\n", i), fmt.Sprintf("answer %d\n", i)
			s.send(question)
			o.want([]byte(question)...)
			o.send([]byte(answer)...)
			s.wait(answer)
		}
		o.send([]byte("bye")...)
		_ = o.tcp().CloseWrite()
		s.wait("bye")
		s.wait("closed")
	})
}
