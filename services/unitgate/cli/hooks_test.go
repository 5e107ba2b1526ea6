package cli_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/unitgate/unitgate/services/cutover"
)

const hookSecret = "a secret that nobody sees"

// receiver is what hooks call: /yes answers with the cutover's state, /no refuses, /never does not answer. A call that is
// not signed as it should is refused by all of them.
func receiver() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		want := "v1=" + cutover.Signature([]byte(hookSecret), r.Header.Get("Unitgate-Timestamp"), body)
		var c cutover.HookCall
		if err != nil || r.Header.Get("Unitgate-Signature") != want || json.Unmarshal(body, &c) != nil {
			http.Error(w, "not signed", http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/yes":
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
