//go:build linux

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"text/template"

	"github.com/unitgate/unitgate/integration/bench/crew"
	"github.com/unitgate/unitgate/integration/bench/load"
	"github.com/unitgate/unitgate/integration/bench/origin"
)

//go:embed nginx.conf
var nginxConf string

//go:embed haproxy.cfg
var haproxyCfg string

// rival is a proxy that is configured by a file.
type rival struct {
	name    string
	program string
	config  *template.Template
	args    func(file, dir string) []string // to run in the foreground
	check   func(file, dir string) []string // to check the file only
	dir     string
	opts    *options
	cert    certificate
}

// settings fill in a config file.
type settings struct {
	Dir, Addr, Host          string
	Secure, SecureStreams    string // addresses for TLS; of HAProxy they are the same
	Cert, Key, Both          string
	StreamPath               string
	Origins                  []string
	Threads, Files, Sessions int
	BufSize                  int
}

func newNginx(o *options, cert certificate, dir string) *rival {
	args := func(file, dir string) []string { return []string{"-p", dir, "-c", file, "-e", "stderr"} }
	return &rival{
		name: targetNginx, program: find("nginx", o.nginx), config: template.Must(template.New("nginx").Parse(nginxConf)), dir: dir, opts: o, cert: cert,
		args: args, check: func(file, dir string) []string { return append(args(file, dir), "-t", "-q") },
	}
}

func newHAProxy(o *options, cert certificate, dir string) *rival {
	return &rival{
		name: targetHAProxy, program: find("haproxy", o.haproxy), config: template.Must(template.New("haproxy").Parse(haproxyCfg)), dir: dir, opts: o, cert: cert,
		args:  func(file, _ string) []string { return []string{"-db", "-f", file} },
		check: func(file, _ string) []string { return []string{"-c", "-q", "-f", file} },
	}
}

// write writes the config of proxy i, which listens at three addresses (two of them for TLS), and returns its file and directory.
func (r *rival) write(i int, at [3]string, origins []string) (file, dir string, err error) {
	dir = filepath.Join(r.dir, fmt.Sprintf("%s-%d", r.name, i))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", err
	}
	var text bytes.Buffer
	err = r.config.Execute(&text, settings{
		Dir: dir, Addr: at[0], Secure: at[1], SecureStreams: at[2], Cert: r.cert.cert, Key: r.cert.key, Both: r.cert.both, Host: load.Host, StreamPath: origin.StreamPath, Origins: origins, Threads: r.opts.threads,
		Files: min(r.opts.files, 20_000), Sessions: r.opts.perProxy() + 100, BufSize: r.opts.bufsize,
	})
	if err != nil {
		return "", "", err
	}
	file = filepath.Join(dir, "config")
	return file, dir, os.WriteFile(file, text.Bytes(), 0o600)
}

// verify has the program check its config.
func (r *rival) verify(ctx context.Context) error {
	file, dir, err := r.write(0, [3]string{"127.0.0.1:18080", "127.0.0.1:18082", "127.0.0.1:18083"}, []string{"127.0.0.1:18081", "127.0.0.2:18081"})
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, r.program, r.check(file, dir)...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s refuses its config: %w\n%s", r.name, err, out)
	}
	return nil
}

func (r *rival) start(ctx context.Context, n int, origins []string) (*site, error) {
	s := &site{}
	for i := range n {
		if err := r.startOne(ctx, s, i, origins); err != nil {
			s.stop()
			return nil, err
		}
	}
	return s, nil
}

func (r *rival) startOne(ctx context.Context, s *site, i int, origins []string) error {
	var at [3]string
	for k := range at {
		var err error
		if at[k], err = freeAddr(); err != nil {
			return err
		}
	}
	file, dir, err := r.write(i, at, origins)
	if err != nil {
		return err
	}
	p, err := crew.Start(crew.Spec{Name: fmt.Sprintf("%s %d", r.name, i), Program: r.program, Args: r.args(file, dir)})
	if err != nil {
		return err
	}
	s.add(p, at[0], at[1], at[2])
	return p.AwaitReady(ctx, func() bool { return listens(at[0]) && listens(at[1]) && listens(at[2]) })
}

var versionText = regexp.MustCompile(`\d+\.\d+\.\d+\S*`)

// version is what the program says of itself.
func (r *rival) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, r.program, "-v").CombinedOutput()
	if err != nil {
		return "unknown"
	}
	return versionText.FindString(string(out))
}
