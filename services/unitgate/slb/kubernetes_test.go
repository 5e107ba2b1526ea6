package slb_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/services/unitgate/slb"
)

const token = "eyJhbGciOi.secret.token"

// service is a v1 Service as an API server of 1.31 writes it.
func service(name, typ, marks, ingress string) string {
	return fmt.Sprintf(`{"kind":"Service","apiVersion":"v1","metadata":{"name":%q,"namespace":"edge","uid":"5f0c6f1e-3a44-4b7e-9a5b-2f1f0a8f6d11",
"resourceVersion":"4711","creationTimestamp":"2026-11-01T08:00:00Z","labels":{"app":"unitgate"},"annotations":{%s},"finalizers":["service.kubernetes.io/load-balancer-cleanup"]},
"spec":{"ports":[{"name":"ws","protocol":"TCP","port":80,"targetPort":7101,"nodePort":31101}],"selector":{"app":"unitgate-edge"},"clusterIP":"10.96.12.7",
"clusterIPs":["10.96.12.7"],"type":%q,"sessionAffinity":"None","externalTrafficPolicy":"Local","healthCheckNodePort":30211,"ipFamilies":["IPv4"],
"ipFamilyPolicy":"SingleStack","allocateLoadBalancerNodePorts":true,"internalTrafficPolicy":"Cluster"},"status":{"loadBalancer":{%s}}}`, name, marks, typ, ingress)
}

// apiServer speaks the part of the Kubernetes API that is used, over TLS, and refuses whoever has not the token.
func apiServer(t *testing.T, pages ...string) slb.Kubernetes {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fail := func(code int, reason, message string) {
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":%q,"reason":%q,"code":%d}`, message, reason, code)
		}
		var page int
		_, _ = fmt.Sscan(r.URL.Query().Get("continue"), &page)
		switch name, one := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/edge/services/"); {
		case r.Header.Get("Authorization") != "Bearer "+token:
			fail(http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		case one && name == "hz":
			fmt.Fprint(w, service("hz", "LoadBalancer", "", `"ingress":[{"ip":"203.0.113.10","ipMode":"VIP"}]`))
		case one && name == "bj":
			fmt.Fprint(w, service("bj", "LoadBalancer", `"unitgate.io/cluster":"ws-bj-2","unitgate.io/loadbalancer":"slb-bj-1"`, `"ingress":[{"ip":"203.0.113.20"}]`))
		case one && name == "inner":
			fmt.Fprint(w, service("inner", "ClusterIP", "", ""))
		case one && name == "away":
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		case one:
			fail(http.StatusNotFound, "NotFound", fmt.Sprintf("services %q not found", name))
		case r.URL.Path != "/api/v1/namespaces/edge/services":
			fail(http.StatusForbidden, "Forbidden", `services is forbidden: User "system:serviceaccount:edge:default" cannot list resource "services" in API group "" in the namespace "other"`)
		case r.URL.Query().Get("limit") == "":
			fail(http.StatusBadRequest, "BadRequest", "no limit")
		default:
			next := ""
			if page+1 < len(pages) {
				next = fmt.Sprintf(`,"continue":"%d","remainingItemCount":1`, page+1)
			}
			fmt.Fprintf(w, `{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"4712"%s},"items":[%s]}`, next, pages[page])
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it are its business
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	k := slb.Kubernetes{Namespace: "edge", Server: s.URL, TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.crt")}
	write(t, k.TokenFile, token+"\n")
	write(t, k.CAFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	return k
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// All pages are read, Services of other types are left out, and the marks say id and cluster.
func TestKubernetesList(t *testing.T) {
	k := apiServer(t,
		service("hz", "LoadBalancer", `"unitgate.io/cluster":"ws-hz-2"`, `"ingress":[{"ip":"203.0.113.10","ipMode":"VIP","ports":[{"port":80,"protocol":"TCP"}]},{"ip":"2001:db8::10"}]`)+","+
			service("kubernetes", "ClusterIP", "", ""),
		service("bj", "LoadBalancer", `"unitgate.io/cluster":"ws-bj-2","unitgate.io/loadbalancer":"slb-bj-1"`, `"ingress":[{"hostname":"A1B2.elb.amazonaws.com."}]`)+","+
			service("new", "LoadBalancer", `"unitgate.io/cluster":"ws-bj-2"`, "")+","+service("foreign", "LoadBalancer", "", `"ingress":[{"ip":"203.0.113.99"}]`))
	if err := k.Check(); err != nil {
		t.Fatal(err)
	}
	got, err := k.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range got {
		lines = append(lines, fmt.Sprint(r.ID, " ", r.Cluster, " ", r.Addresses, " ", r.Marked))
	}
	want := []string{"hz ws-hz-2 [203.0.113.10 2001:db8::10] true", "slb-bj-1 ws-bj-2 [a1b2.elb.amazonaws.com] true", "new ws-bj-2 [] true", "foreign  [203.0.113.99] false"}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if !k.Covers("whatever") {
		t.Error("a namespace lists all there is")
	}
}

func TestKubernetesOneService(t *testing.T) {
	k := apiServer(t)
	k.Service = "hz"
	got, err := k.Read(t.Context())
	if err != nil || len(got) != 1 || got[0].ID != "hz" || !got[0].Marked || got[0].Addresses[0] != "203.0.113.10" {
		t.Errorf("%+v %v", got, err)
	}
	// It is about what is recorded of this Service, whatever that is called, and about nothing else.
	k.Service = "bj"
	if got, err = k.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := slb.Compare(recorded("slb-bj-1 ws-bj-2 203.0.113.20", "slb-bj-1-2 ws-bj-2 203.0.113.21", "bj ws-hz-2 203.0.113.30"), got, k.Covers, true)
	if want := []string{"bj ws-hz-2 203.0.113.30", "slb-bj-1 ws-bj-2 203.0.113.20"}; err != nil || !slices.Equal(text(c.LoadBalancers), want) {
		t.Errorf("%q, %v; want %q", text(c.LoadBalancers), err, want)
	}
}

// What goes wrong is said with what to do about it, and never with the token.
func TestKubernetesFailures(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, k *slb.Kubernetes)
		want   string
	}{
		"wrong token":    {func(t *testing.T, k *slb.Kubernetes) { write(t, k.TokenFile, token+"x") }, "401 Unauthorized: Unauthorized; is the token"},
		"not allowed":    {func(_ *testing.T, k *slb.Kubernetes) { k.Namespace = "other" }, "403 Forbidden: services is forbidden"},
		"no service":     {func(_ *testing.T, k *slb.Kubernetes) { k.Service = "mars" }, `services "mars" not found`},
		"another type":   {func(_ *testing.T, k *slb.Kubernetes) { k.Service = "inner" }, "of type ClusterIP"},
		"redirect":       {func(_ *testing.T, k *slb.Kubernetes) { k.Service = "away" }, "302 Found"},
		"no token":       {func(_ *testing.T, k *slb.Kubernetes) { k.TokenFile += ".gone" }, "no such file"},
		"line in token":  {func(t *testing.T, k *slb.Kubernetes) { write(t, k.TokenFile, token+"\n\n"+token) }, "Kubernetes API"},
		"no authority":   {func(t *testing.T, k *slb.Kubernetes) { write(t, k.CAFile, "nonsense") }, "no certificate in PEM"},
		"unknown server": {func(_ *testing.T, k *slb.Kubernetes) { k.Server = "https://127.0.0.1:1" }, "connection refused"},
		"no pod":         {func(_ *testing.T, k *slb.Kubernetes) { k.Server = "" }, "--kube-server"},
		"another authority": {func(t *testing.T, k *slb.Kubernetes) {
			other := apiServer(t) // of the same test certificate: only the name differs
			k.Server = strings.Replace(other.Server, "127.0.0.1", "localhost", 1)
		}, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			k := apiServer(t, "")
			c.change(t, &k)
			got, err := k.Read(t.Context())
			if err == nil || !slb.ErrSource.Is(err) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), token) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestKubernetesCheck(t *testing.T) {
	for _, k := range []slb.Kubernetes{
		{}, {Namespace: "../../secrets"}, {Namespace: "edge", Service: "a/b"}, {Namespace: "edge", Server: "http://127.0.0.1:6443"},
		{Namespace: "edge", Server: "https://user:word@host"}, {Namespace: "edge", Server: "https://host/api"}, {Namespace: "edge", Server: "https://"},
	} {
		if k.Check() == nil {
			t.Errorf("%+v", k)
		}
	}
}
