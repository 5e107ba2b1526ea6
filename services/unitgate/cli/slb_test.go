package cli_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

const kubeToken = "eyJhbGciOi.secret.token"

// kubeAPI starts a Kubernetes API server for a script, with one Service: KUBE is its URL, and kube.token and kube.ca lie in
// the script's directory.
func kubeAPI(e *testscript.Env) error {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+kubeToken || r.URL.Path != "/api/v1/namespaces/edge/services" {
			http.Error(w, `{"kind":"Status","message":"Unauthorized","code":401}`, http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"kind":"ServiceList","apiVersion":"v1","metadata":{},"items":[{"metadata":{"name":"slb-kube","annotations":{"unitgate.io/cluster":"ws-bj-2"}},`+
			`"spec":{"type":"LoadBalancer"},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.77"}]}}}]}`)
	}))
	e.Defer(s.Close)
	e.Setenv("KUBE", s.URL)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(e.WorkDir, "kube.ca"), ca, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(e.WorkDir, "kube.token"), []byte(kubeToken), 0o600)
}
