package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/unitgate/unitgate/integration/harness"
)

// step is one thing that a walkthrough client saw. The JSON names are those of testdata/wsclient.
type step struct {
	Event     string `json:"event"` // connected, message, disconnected, reconnecting, redirecting, error
	Host      string `json:"host"`  // where the client was connecting to
	Location  string `json:"location"`
	Data      string `json:"data"`
	Code      int    `json:"code"`
	Reason    string `json:"reason"`
	Message   string `json:"message"`
	LocalPort int    `json:"localPort"`
}

// walker is one client that goes through the walkthrough: it follows Location, keeps the
// address it was given, and reconnects 1.5 s after an end.
type walker interface {
	steps(t *testing.T) []step
}

// reconnectAfter is the walkthrough's pause.
const reconnectAfter = 1500 * time.Millisecond

type startWalker func(t *testing.T, url, routerID string) walker

// nodeWalker is the npm package ws, driven by testdata/wsclient.
type nodeWalker struct{ *harness.Process }

func startNode(t *testing.T, url, routerID string) walker {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		harness.Missing(t, "there is no node on the PATH")
	}
	dir := filepath.Join("testdata", "wsclient")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "ws")); err != nil {
		harness.Missing(t, "the npm package ws is missing: npm ci --prefix integration/testdata/wsclient")
	}
	return nodeWalker{harness.StartProgram(t, dir, node, "client.mjs", url, routerID)}
}

func (w nodeWalker) steps(t *testing.T) []step {
	t.Helper()
	var out []step
	for _, line := range w.Stdout.Lines() {
		if line == "" {
			continue
		}
		var s step
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("the node client said %q: %v", line, err)
		}
		out = append(out, s)
	}
	return out
}

// connectWalker is `unitgate connect`, which prints the walkthrough's text.
type connectWalker struct{ *harness.Process }

func startConnect(t *testing.T, url, routerID string) walker {
	t.Helper()
	return connectWalker{harness.Start(t, "connect", url, "--router-id", routerID)}
}

var (
	redirectLine = regexp.MustCompile(`^!!! redirecting\.\.\. from\s+(\S+)\s+to\s+(\S+)`)
	closedLine   = regexp.MustCompile(`^disconnected\D*(\d+)?\W*(.*?)\W*$`)
)

func (w connectWalker) steps(t *testing.T) []step {
	t.Helper()
	var out []step
	for _, line := range w.Stdout.Lines() {
		switch {
		case line == "":
		case redirectLine.MatchString(line):
			m := redirectLine.FindStringSubmatch(line)
			out = append(out, step{Event: "redirecting", Host: m[1], Location: m[2]})
		case strings.HasPrefix(line, "connected:"):
			out = append(out, step{Event: "connected"})
		case strings.HasPrefix(line, "msg: "):
			out = append(out, step{Event: "message", Data: strings.TrimSpace(line[len("msg: "):])})
		case strings.HasPrefix(line, "disconnected"):
			m := closedLine.FindStringSubmatch(line)
			code, _ := strconv.Atoi(m[1]) // 0 when the line names none
			out = append(out, step{Event: "disconnected", Code: code, Reason: m[2]})
		case strings.HasPrefix(line, "!!! reconnecting in"):
			out = append(out, step{Event: "reconnecting"})
		default:
			out = append(out, step{Event: "error", Message: line})
		}
	}
	return out
}

// goWalker is coder/websocket.
type goWalker struct {
	mu   sync.Mutex
	seen []step
}

func startGo(t *testing.T, url, routerID string) walker {
	t.Helper()
	w := &goWalker{}
	go w.run(t.Context(), url, routerID)
	return w
}

func (w *goWalker) steps(*testing.T) []step {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]step(nil), w.seen...)
}

func (w *goWalker) saw(s step) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, s)
}

func (w *goWalker) run(ctx context.Context, host, routerID string) {
	// The library would follow by itself: stop it, to see each 302 as the walkthrough's client does.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	options := &websocket.DialOptions{HTTPClient: client, HTTPHeader: http.Header{"Routerid": {routerID}, "Unittype": {"unit_type"}}}
	for ctx.Err() == nil {
		ws, response, err := websocket.Dial(ctx, host, options)
		switch {
		case err == nil:
			w.saw(step{Event: "connected", Host: host})
			w.converse(ctx, ws)
		case response != nil && response.StatusCode/100 == 3:
			location := response.Header.Get("Location")
			w.saw(step{Event: "redirecting", Host: host, Location: location})
			host = location
			continue
		default:
			w.saw(step{Event: "error", Message: err.Error()})
		}
		w.saw(step{Event: "reconnecting"})
		select {
		case <-ctx.Done():
		case <-time.After(reconnectAfter):
		}
	}
}

func (w *goWalker) converse(ctx context.Context, ws *websocket.Conn) {
	defer ws.CloseNow()
	err := ws.Write(ctx, websocket.MessageText, []byte(strconv.FormatInt(time.Now().UnixMilli(), 10)))
	for err == nil {
		var text []byte
		if _, text, err = ws.Read(ctx); err == nil {
			w.saw(step{Event: "message", Data: string(text)})
		}
	}
	end := step{Event: "disconnected", Code: int(websocket.StatusAbnormalClosure)}
	if closed, ok := errors.AsType[websocket.CloseError](err); ok {
		end.Code, end.Reason = int(closed.Code), closed.Reason
	}
	w.saw(end)
}
