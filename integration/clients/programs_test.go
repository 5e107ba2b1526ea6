package clients

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/unitgate/unitgate/integration/harness"
)

// event is one thing that a client saw. The JSON names are those of the clients in testdata.
type event struct {
	Event   string `json:"event"` // corrected, connected, message, closed, error
	To      string `json:"to,omitempty"`
	Data    string `json:"data,omitempty"`
	Code    int    `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// trail is what one client saw so far. Any goroutine may use it.
type trail interface{ events(t *testing.T) []event }

// order is what a client is to do; for the mode see integration/testdata/wsclient/course.mjs.
type order struct {
	mode, entry, routerID string
	roots                 *x509.CertPool // for the client in Go; the others take SSL_CERT_FILE, NODE_EXTRA_CA_CERTS, or anything
	source                string         // of the Node clients, "cookie": the routerId stands in one; "": in a header field
}

// program starts one kind of client for each order, and returns their trails in that order.
type program struct {
	name  string
	start func(t *testing.T, orders []order) []trail
}

// programs are all kinds, as far as they are installed; what is missing is said once each, or fails the test where
// everything is required.
func programs(t *testing.T) []program {
	t.Helper()
	all := []program{{"coder/websocket", startGo}}
	add := func(name string, installed func(t *testing.T) (start func(*testing.T, []order) []trail)) {
		t.Run("have "+name, func(t *testing.T) { all = append(all, program{name, installed(t)}) })
	}
	add("npm ws", haveNode("ws", "table.mjs"))
	add("npm websocket", haveNode("websocket", "table-websocket.mjs"))
	add("Python websockets", havePython("websockets", "python3-websockets", "client.py"))
	add("Python websocket-client", havePython("websocket", "python3-websocket", "client_websocket.py"))
	add("Python aiohttp", havePython("aiohttp", "python3-aiohttp", "client_aiohttp.py"))
	add("Chromium", haveChromium)
	return all
}

// lines are the trail of a process that writes its events to its standard output.
type lines struct{ *harness.Process }

func (l lines) events(t *testing.T) []event {
	t.Helper()
	var out []event
	for _, line := range l.Stdout.Lines() {
		if line == "" {
			continue
		}
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s said %q: %v", l.Name, line, err)
		}
		out = append(out, e)
	}
	return out
}

func haveNode(name, script string) func(*testing.T) func(*testing.T, []order) []trail {
	return func(t *testing.T) func(*testing.T, []order) []trail {
		t.Helper()
		node, err := exec.LookPath("node")
		if err != nil {
			harness.Missing(t, "there is no node on the PATH")
		}
		dir := filepath.Join("..", "testdata", "wsclient")
		if _, err := os.Stat(filepath.Join(dir, "node_modules", name)); err != nil {
			harness.Missing(t, "the npm package "+name+" is missing: npm ci --prefix integration/testdata/wsclient")
		}
		return eachAsAProcess(dir, node, script)
	}
}

// havePython finds Debian's Python, for which Debian packages these modules, or another one that has the module.
func havePython(module, debian, script string) func(*testing.T) func(*testing.T, []order) []trail {
	return func(t *testing.T) func(*testing.T, []order) []trail {
		t.Helper()
		for _, python := range []string{"/usr/bin/python3", "python3"} {
			if exec.Command(python, "-c", "import "+module).Run() == nil {
				return eachAsAProcess("testdata", python, script)
			}
		}
		harness.Missing(t, "no python3 here has "+module+": apt-get install "+debian)
		return nil
	}
}

func eachAsAProcess(dir, program, script string) func(*testing.T, []order) []trail {
	return func(t *testing.T, orders []order) []trail {
		t.Helper()
		var out []trail
		for _, o := range orders {
			args := []string{script, o.mode, o.entry, o.routerID}
			if o.source != "" {
				args = append(args, o.source)
			}
			out = append(out, lines{harness.StartProgram(t, dir, program, args...)})
		}
		return out
	}
}

func haveChromium(t *testing.T) func(*testing.T, []order) []trail {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return func(t *testing.T, orders []order) []trail {
				t.Helper()
				return startChromium(t, path, orders)
			}
		}
	}
	harness.Missing(t, "there is no chromium on the PATH: apt-get install chromium")
	return nil
}

//go:embed testdata/page.html testdata/host.html
var pages embed.FS

// startChromium opens all the clients as frames of one page of one browser; they post what they see.
func startChromium(t *testing.T, browser string, orders []order) []trail {
	t.Helper()
	seen := map[string]*memory{}
	mux := http.NewServeMux()
	for _, name := range []string{"page", "host"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			text, err := pages.ReadFile("testdata/" + name + ".html")
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write(text)
		})
	}
	mux.HandleFunc("POST /log", func(_ http.ResponseWriter, r *http.Request) {
		var e event
		if json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&e) == nil {
			seen[r.FormValue("routerId")].saw(e)
		}
	})
	query := url.Values{}
	var out []trail
	for _, o := range orders {
		m := &memory{}
		seen[o.routerID], out = m, append(out, m)
		query.Add("page", "/page?"+url.Values{"mode": {o.mode}, "entry": {o.entry}, "routerId": {o.routerID}}.Encode())
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	p := harness.StartProgram(t, "", browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--ignore-certificate-errors", "--remote-debugging-port=0",
		"--user-data-dir="+t.TempDir(), server.URL+"/host?"+query.Encode())
	t.Cleanup(func() { // its helpers as well, before their directory goes
		for syscall.Kill(-p.PID, syscall.SIGKILL) == nil && p.Running() {
			time.Sleep(10 * time.Millisecond)
		}
	})
	return out
}

// memory is the trail of a client that tells of itself.
type memory struct {
	mu   sync.Mutex
	seen []event
}

func (m *memory) saw(e event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = append(m.seen, e)
}

func (m *memory) events(*testing.T) []event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]event(nil), m.seen...)
}

func startGo(t *testing.T, orders []order) []trail {
	t.Helper()
	var out []trail
	for _, o := range orders {
		g := &goClient{order: o, url: o.entry}
		out = append(out, g)
		go g.run(t.Context())
	}
	return out
}

// goClient is coder/websocket. The goroutine of run owns url.
type goClient struct {
	memory
	order
	url string
}

// again is the pause before the next connection.
const again = 200 * time.Millisecond

func (g *goClient) run(ctx context.Context) {
	for ctx.Err() == nil {
		switch closed := g.connect(ctx); {
		case g.mode == "once":
			return
		case closed.Code == 4302 && g.mode == "close":
			to, err := url.Parse(closed.Reason)
			own, err2 := url.Parse(g.url)
			if err := errors.Join(err, err2); err != nil {
				g.saw(event{Event: "error", Message: err.Error()})
				return
			}
			own.Scheme, own.Host = to.Scheme, to.Host
			g.url = own.String()
			g.saw(event{Event: "corrected", To: g.url})
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// connect lives with one connection, and returns the Close that ended it, if it was one.
func (g *goClient) connect(ctx context.Context) (closed websocket.CloseError) {
	if g.mode == "locate" {
		if err := g.locate(ctx); err != nil {
			g.saw(event{Event: "error", Message: err.Error()})
			return closed
		}
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: g.roots}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	if g.mode == "close" || g.mode == "plain" {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	ws, _, err := websocket.Dial(ctx, g.url, &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: http.Header{"Routerid": {g.routerID}}, Subprotocols: []string{"chat"},
	})
	if err != nil {
		g.saw(event{Event: "error", Message: err.Error()})
		return closed
	}
	defer ws.CloseNow()
	g.saw(event{Event: "connected"})
	for {
		_, text, err := ws.Read(ctx)
		if err != nil {
			errors.As(err, &closed)
			g.saw(event{Event: "closed", Code: int(closed.Code), Reason: closed.Reason})
			return closed
		}
		g.saw(event{Event: "message", Data: string(text)})
	}
}

func (g *goClient) locate(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.Replace(g.entry, "ws", "http", 1)+".unitgate/locate?routerId="+g.routerID, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		URL string `json:"url"`
	}
	if err := json.NewDecoder(bufio.NewReader(resp.Body)).Decode(&answer); err != nil {
		return err
	}
	g.url = answer.URL
	g.saw(event{Event: "corrected", To: g.url})
	return nil
}
