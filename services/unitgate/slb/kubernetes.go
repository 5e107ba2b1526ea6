package slb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

// Marks of a Service, as annotations or labels; annotations go first.
const (
	ClusterMark = "unitgate.io/cluster"      // the cluster that the Service leads to
	IDMark      = "unitgate.io/loadbalancer" // the id under which it is recorded; without it the Service's name
)

// Where a pod finds the API server and its own credentials.
const (
	podToken = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // a path
	podCA    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
)

const (
	apiWait = 15 * time.Second // for all pages
	apiPage = 500              // Services in one
)

// Kubernetes are the Services of type LoadBalancer of a namespace, or one of them, as the API server has them.
type Kubernetes struct {
	Namespace string
	Service   string // "": all of them
	Server    string // https://HOST:PORT; "": as the pod's environment says
	TokenFile string // "": the pod's own; read for each question, since such tokens are renewed
	CAFile    string // "": the pod's own
}

// kubeName is RFC 1123's label, as namespaces and Services have it.
var kubeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Check refuses names that would lead elsewhere in the API, and a server that is not asked by TLS: the token goes to it.
func (k Kubernetes) Check() error {
	if !kubeName.MatchString(k.Namespace) || k.Service != "" && !kubeName.MatchString(k.Service) {
		return errors.New("want kubernetes:NAMESPACE or kubernetes:NAMESPACE/SERVICE")
	}
	if k.Server == "" {
		return nil
	}
	u, err := url.Parse(k.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return errors.New("want https://HOST:PORT for the Kubernetes API server")
	}
	return nil
}

// service is what is read of a v1 Service.
type service struct {
	Metadata struct {
		Name        string            `json:"name"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Type string `json:"type"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []struct {
				IP       string `json:"ip"`
				Hostname string `json:"hostname"`
			} `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

// serviceList is what is read of a v1 ServiceList.
type serviceList struct {
	Metadata struct {
		Continue string `json:"continue"`
	} `json:"metadata"`
	Items []service `json:"items"`
}

// Read implements Source.
func (k Kubernetes) Read(ctx context.Context) ([]Reported, error) {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	c, err := k.client()
	if err != nil {
		return nil, err
	}
	defer c.http.CloseIdleConnections()
	path := "/api/v1/namespaces/" + k.Namespace + "/services"
	if k.Service != "" {
		var s service
		if err := c.get(ctx, path+"/"+k.Service, &s); err != nil {
			return nil, err
		}
		if s.Spec.Type != "LoadBalancer" {
			return nil, ErrSource.With("service %s/%s is of type %s, not LoadBalancer", k.Namespace, k.Service, s.Spec.Type)
		}
		return []Reported{k.reported(s)}, nil
	}
	var out []Reported
	for next := ""; ; {
		var page serviceList
		if err := c.get(ctx, fmt.Sprintf("%s?limit=%d&continue=%s", path, apiPage, url.QueryEscape(next)), &page); err != nil {
			return nil, err
		}
		for _, s := range page.Items {
			if s.Spec.Type == "LoadBalancer" {
				out = append(out, k.reported(s))
			}
		}
		if next = page.Metadata.Continue; next == "" {
			return out, nil
		}
	}
}

// Covers implements Source: one Service says nothing about others.
func (k Kubernetes) Covers(string) bool { return k.Service == "" }

func (k Kubernetes) reported(s service) Reported {
	mark := func(name string) string {
		if v := s.Metadata.Annotations[name]; v != "" {
			return v
		}
		return s.Metadata.Labels[name]
	}
	r := Reported{ID: s.Metadata.Name, Cluster: mark(ClusterMark), Place: "service " + k.Namespace + "/" + s.Metadata.Name, Marked: k.Service != ""}
	if id := mark(IDMark); id != "" {
		r.ID, r.Marked = id, true
	}
	r.Marked = r.Marked || r.Cluster != ""
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			r.Addresses = append(r.Addresses, in.IP)
		} else if in.Hostname != "" {
			r.Addresses = append(r.Addresses, strings.ToLower(strings.TrimSuffix(in.Hostname, ".")))
		}
	}
	return r
}

// api asks one server.
type api struct {
	http   *http.Client
	server string
	token  string
}

func (k Kubernetes) client() (*api, error) {
	server := strings.TrimSuffix(k.Server, "/")
	if server == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT_HTTPS")
		if host == "" {
			return nil, ErrSource.With("this is no pod: say where the API server is, with --kube-server, --kube-token-file and --kube-ca-file")
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		if port == "" {
			port = "443"
		}
		server = "https://" + host + ":" + port
	}
	token, err := os.ReadFile(orElse(k.TokenFile, podToken))
	if err != nil {
		return nil, ErrSource.With("the token of the Kubernetes API: %v", err)
	}
	ca, err := os.ReadFile(orElse(k.CAFile, podCA))
	if err != nil {
		return nil, ErrSource.With("the certificate authority of the Kubernetes API: %v", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, ErrSource.With("%s holds no certificate in PEM", orElse(k.CAFile, podCA))
	}
	return &api{
		server: server, token: strings.TrimSpace(string(token)),
		http: &http.Client{
			Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
		},
	}, nil
}

func orElse(file, usual string) string {
	if file != "" {
		return file
	}
	return usual
}

// get asks for one object. Nothing that it says holds the token.
func (a *api) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.server+path, nil)
	if err != nil {
		return ErrSource.With("the Kubernetes API server: %v", err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Accept", "application/json")
	resp, err := a.http.Do(req)
	if err != nil {
		return ErrSource.With("the Kubernetes API: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxFile+1))
	switch {
	case err != nil:
		return ErrSource.With("the Kubernetes API: %v", err)
	case len(body) > maxFile:
		return ErrSource.With("the Kubernetes API answers with more than %d MiB", maxFile>>20)
	case resp.StatusCode != http.StatusOK:
		return ErrSource.With("the Kubernetes API answers %s%s", resp.Status, because(resp.StatusCode, body))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return ErrSource.With("the Kubernetes API's answer to %s: %v", path, err)
	}
	return nil
}

// because is what a v1 Status says, and what to do about it.
func because(code int, body []byte) string {
	var status struct {
		Message string `json:"message"`
	}
	text := ""
	if json.Unmarshal(body, &status) == nil && status.Message != "" {
		text = ": " + status.Message
	}
	switch code {
	case http.StatusUnauthorized:
		text += "; is the token in the file the right one, and not expired?"
	case http.StatusForbidden:
		text += "; the account needs get and list of services"
	case http.StatusGone:
		text += "; the list changed while it was read: repeat it"
	}
	return text
}
