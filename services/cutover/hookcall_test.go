package cutover

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/outbound"
)

var testSecret = []byte("a secret of 24 bytes, ok")

// hookTo is the call of a pre hook of a started cutover to a URL.
func hookTo(t *testing.T, url string) CallHook {
	l := newLedger(t)
	l.start(t, 1)
	return CallHook{testNamespace, l.head.Cutovers["c1"], events.Hook{
		Name: "ask", On: "pre", Wait: "success", URL: url, Timeout: events.Duration(300 * time.Millisecond),
	}}
}

// signsWith calls who is on this machine, as the tests' receivers are.
func signsWith(secret []byte) *HookCaller {
	return NewHookCaller(HookConfig{Secret: func() ([]byte, error) { return secret, nil }, To: allow("127.0.0.1")})
}

func allow(list string) *outbound.Policy {
	p, err := outbound.Parse(list)
	if err != nil {
		panic(err)
	}
	return p
}

// callHook is what became of a call, without the words for the log.
func callHook(t *testing.T, h *HookCaller, o CallHook) events.HookResult {
	t.Helper()
	res, _ := h.Call(t.Context(), testEpoch, o)
	return res
}

// A call says what is done to whom, and a receiver that knows the secret can tell that it
// is ours and when it was made.
func TestHookCallIsSigned(t *testing.T) {
	type seen struct {
		header http.Header
		body   []byte
	}
	got := make(chan seen, 2)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- seen{r.Header, b}
		_, _ = io.WriteString(w, "AKIA-SECRET")
	}))
	defer srv.Close()
	h, o := signsWith(testSecret), hookTo(t, srv.URL)
	res := callHook(t, h, o)
	if !res.OK || res.Code != "" || res.Status != 200 || res.Message != "200 OK" || res.Took <= 0 || res.Name != "ask" || res.On != "pre" {
		t.Errorf("result %+v", res)
	}
	first := <-got
	at := first.header.Get("Unitgate-Timestamp")
	if sec, err := strconv.ParseInt(at, 10, 64); err != nil || time.Since(time.Unix(sec, 0)).Abs() > time.Minute {
		t.Errorf("timestamp %q", at)
	}
	if want := "v1=" + Signature(testSecret, at, first.body); first.header.Get("Unitgate-Signature") != want {
		t.Errorf("signature %q, want %q", first.header.Get("Unitgate-Signature"), want)
	}
	key := []byte(HookKey(testSecret, testNamespace, "ask"))
	if want := "v2=" + HookSignature(key, "POST", o.Hook.URL, at, first.body); first.header.Get("Unitgate-Hook-Signature") != want {
		t.Errorf("signature %q, want %q", first.header.Get("Unitgate-Hook-Signature"), want)
	}
	for name, other := range map[string]string{
		"another secret": Signature([]byte("another secret of it"), at, first.body), "another time": Signature(testSecret, at+"0", first.body),
		"another body": Signature(testSecret, at, append(first.body, ' ')),
	} {
		if "v1="+other == first.header.Get("Unitgate-Signature") {
			t.Errorf("%s has the same signature", name)
		}
	}
	var c HookCall
	if err := json.Unmarshal(first.body, &c); err != nil {
		t.Fatal(err)
	}
	cut := c.Cutover
	if c.Namespace != testNamespace || c.Hook != "ask" || c.On != "pre" || cut.ID != "c1" || cut.State != events.Started || cut.Slots != 4 || len(cut.Units) != 2 ||
		cut.Units[0] != (HookUnit{"center", false, true}) || cut.Units[1] != (HookUnit{"unbj", true, false}) || cut.RuleTo != 2 {
		t.Errorf("payload %s", first.body)
	}
	callHook(t, h, o)
	second := <-got
	id := first.header.Get("Unitgate-Delivery")
	if id == "" || id != c.ID || second.header.Get("Unitgate-Delivery") != id {
		t.Errorf("deliveries %q, %q, %q are one", id, c.ID, second.header.Get("Unitgate-Delivery"))
	}
	o.Hook.Name = "other"
	if hookCall(testEpoch, o).ID == id || hookCall("epoch-2", hookTo(t, srv.URL)).ID == id {
		t.Error("two deliveries have one id")
	}
}

// Everything that can become of a call has its code, and nothing of it takes longer than
// the timeout or holds more than its bounds.
func TestHookOutcomes(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	for name, c := range map[string]struct {
		answer        http.HandlerFunc
		status        int
		code, message string
	}{
		"no content": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 204, "", "204 No Content"},
		"says no":    {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not on a Friday", http.StatusConflict) }, 409, events.HookRefused, "409 Conflict: not on a Friday"},
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, 307, events.HookRefused, "redirects are not followed"},
		"never":        {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 0, events.HookTimeout, "no answer within 300ms"},
		"never ends":   {neverEnds, 200, events.HookTimeout, "no answer within 300ms"},
		"endless body": {endlessBody, 200, "", "200 OK"},
		"breaks off":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, events.HookUnreachable, "it broke off the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(drained(c.answer))
			defer srv.Close()
			res := callHook(t, signsWith(testSecret), hookTo(t, srv.URL+"/private-path"))
			if res.OK != (c.code == "") || res.Code != c.code || res.Status != c.status || !strings.Contains(res.Message, c.message) {
				t.Errorf("%+v", res)
			}
			if len(res.Message) > 256 || strings.Contains(res.Message, "private-path") {
				t.Errorf("message %q", res.Message)
			}
		})
	}
}

// drained reads the request first: only then does a server learn that its client has
// left.
func drained(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); h(w, r) })
}

func neverEnds(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(200)
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func endlessBody(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write([]byte(strings.Repeat("x", 4096))); err != nil {
			return
		}
	}
}

// Without a secret, or with a poor one, nothing is sent; nor is the secret ever part of
// what is recorded.
func TestHookWithoutSecret(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was called") }))
	defer srv.Close()
	for name, secret := range map[string]func() ([]byte, error){
		"none":       func() ([]byte, error) { return nil, nil },
		"short":      func() ([]byte, error) { return []byte("hunter2"), nil },
		"unreadable": func() ([]byte, error) { return nil, errors.New("open secret: permission denied") },
	} {
		res := callHook(t, NewHookCaller(HookConfig{Secret: secret, To: allow("127.0.0.1")}), hookTo(t, srv.URL))
		if res.OK || res.Code != events.HookNoSecret || !strings.HasPrefix(res.Message, "not called: ") || strings.Contains(res.Message, "hunter2") {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

// A call ends with the office that made it.
func TestHookCallEndsWithItsOffice(t *testing.T) {
	reached := make(chan struct{})
	srv := httptest.NewServer(drained(func(_ http.ResponseWriter, r *http.Request) { close(reached); <-r.Context().Done() }))
	defer srv.Close()
	o := hookTo(t, srv.URL)
	o.Hook.Timeout = events.Duration(time.Minute)
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-reached; leave() }()
	if res, _ := signsWith(testSecret).Call(ctx, testEpoch, o); res.OK || res.Code != events.HookUnreachable {
		t.Errorf("%+v", res)
	}
}
