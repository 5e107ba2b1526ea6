package integration_test

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/integration/harness"
)

// TestDeployedTLS starts the three-node config with its includes for TLS uncommented: the servers find each other by
// certificates, and clients that trust their authority sign in; others do not.
func TestDeployedTLS(t *testing.T) {
	t.Parallel()
	config := uncommented(t, "cluster.conf", "./tls.conf", "./tls-routes.conf")
	authority, dir := certstest.New(t), t.TempDir()
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	authority.Issue(cert, key, certstest.Leaf{Names: []string{"127.0.0.1"}, Peer: true})
	keys := harness.DeployedKeys(t, "../deployments/nats")
	keys.Env = append(keys.Env, "NATS_TLS_CERT="+cert, "NATS_TLS_KEY="+key, "NATS_TLS_CA="+authority.CAFile())
	nats := harness.StartDeployed(t, config, 3, keys)
	harness.Start(t, "control", "--nats", nats.URL, "--nkey", keys.Seed("control"), "--tls-ca", authority.CAFile())

	operator := harness.API{NATS: nats.URL, Namespace: "shop", Flags: []string{"--nkey", keys.Seed("operator")}}
	if r := operator.Run(t, "get", "namespaces"); r.Code != 1 || !strings.Contains(r.Stderr, "certificate") {
		t.Errorf("without the authority: %d %s", r.Code, r.Stderr)
	}
	operator.Flags = append(operator.Flags, "--tls-ca", authority.CAFile())
	file := harness.Config{Namespace: "shop", Domain: "shop.example.com", Units: []harness.Unit{{ID: "center", Range: "0-9999", Origins: []string{"127.0.0.1:9"}}}}.File(t)
	harness.Eventually(t, recovers, "a majority of servers stores what a controller writes", func() bool {
		return operator.Run(t, "apply", "-f", file, "--yes").Code == 0
	})
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range nats.Routes {
		u, err := url.Parse(route)
		if err != nil {
			t.Fatal(err)
		}
		if !admits(t, u.Host, &tls.Config{RootCAs: authority.Pool, Certificates: []tls.Certificate{pair}}) {
			t.Errorf("route %s is closed to a server with a certificate", route)
		}
		if admits(t, u.Host, &tls.Config{RootCAs: authority.Pool}) {
			t.Errorf("route %s is open to servers without a certificate", route)
		}
	}
}

// uncommented is a copy of deployments/nats in which a file's includes are no comments any more.
func uncommented(t *testing.T, file string, includes ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../deployments/nats")); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, include := range includes {
		before := string(text)
		text = []byte(strings.Replace(before, "# include "+include, "include "+include, 1))
		if string(text) == before {
			t.Fatalf("%s has no comment with include %s", file, include)
		}
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// admits says whether a server takes up a route with whoever dials with these certificates.
func admits(t *testing.T, addr string, cfg *tls.Config) bool {
	t.Helper()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: within}, Config: cfg}
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n') // a server speaks first, once it has seen the certificate
	return err == nil && strings.HasPrefix(line, "INFO ")
}
