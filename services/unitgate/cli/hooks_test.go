package cli_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/unitgate/unitgate/services/cutover"
	"github.com/unitgate/unitgate/services/outbound"
)

const hookSecret = "a secret that nobody sees"

// receiver is what hooks call: /yes answers with the cutover's state and /hooks/TOKEN
// like it, /no refuses, /never does not answer. A call that is not signed as it should is
// refused by all of them.
func receiver() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		at, url := r.Header.Get("Unitgate-Timestamp"), "http://"+r.Host+r.RequestURI
		var c cutover.HookCall
		bad := err != nil || json.Unmarshal(body, &c) != nil
		key := []byte(cutover.HookKey([]byte(hookSecret), "demo", c.Hook))
		if bad || r.Header.Get("Unitgate-Signature") != "v1="+cutover.Signature([]byte(hookSecret), at, body) ||
			r.Header.Get("Unitgate-Hook-Signature") != "v2="+cutover.HookSignature(key, r.Method, url, at, body) {
			http.Error(w, "not signed", http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/yes", "/hooks/TOKEN":
			_, _ = io.WriteString(w, string(c.Cutover.State))
		case "/no":
			http.Error(w, "not on a Friday", http.StatusConflict)
		default:
			<-r.Context().Done()
		}
	}))
}

// expand replaces the environment's variables in a file of the script.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// hookCaller calls who is on this machine. Of one hook it has the whole URL.
func hookCaller(url string) (*cutover.HookCaller, error) {
	to, err := outbound.Parse("127.0.0.1")
	return cutover.NewHookCaller(cutover.HookConfig{
		Secret: func() ([]byte, error) { return []byte(hookSecret), nil }, To: to,
		Own: func(namespace, hook string) (own cutover.HookOwn, _ error) {
			if namespace == "demo" && hook == "chat" {
				own.URL = url + "/hooks/TOKEN"
			}
			return own, nil
		},
	}), err
}
