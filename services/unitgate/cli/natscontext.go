package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	natsbus "github.com/unitgate/unitgate/events/bus"
)

// natsContext is a context of the nats CLI: what `nats context save` writes to $XDG_CONFIG_HOME/nats/context/NAME.json, or
// under ~/.config. The format is that of natscontext in github.com/nats-io/jsm.go; read here, since that package would
// bring a second JetStream client and much else along. In paths, ~ and $VARIABLES stand for what they do there.
type natsContext struct {
	URL      string `json:"url"` // several with commas between them
	User     string `json:"user"`
	Password string `json:"password"`
	Token    string `json:"token"`
	Creds    string `json:"creds"`     // path
	NKey     string `json:"nkey"`      // path of a seed
	UserJWT  string `json:"user_jwt"`  // together with UserSeed
	UserSeed string `json:"user_seed"` //
	Cert     string `json:"cert"`      // path, together with Key
	Key      string `json:"key"`       // path
	CA       string `json:"ca"`        // path
	TLSFirst bool   `json:"tls_first"`
	Inbox    string `json:"inbox_prefix"`
	NSC      string `json:"nsc"`         // not supported, as the next two
	Proxy    string `json:"socks_proxy"` //
	Prefix   string `json:"jetstream_api_prefix"`
	Domain   string `json:"jetstream_domain"`
}

// useContext takes server and credentials from --context, where no flag says otherwise. Errors never show a value.
func (c *cli) useContext() error {
	if c.context == "" {
		return nil
	}
	x, err := readContext(c.context)
	if err != nil {
		return usage("--context %s: %w", c.context, err)
	}
	if x.URL != "" && !c.serverSet {
		c.server = x.URL
	}
	if c.auth, err = x.options(c.creds != "" || c.nkey != "", c.tlsCA != ""); err != nil {
		return usage("--context %s: %w", c.context, err)
	}
	return nil
}

// useKey reads the seed of --nkey, or --creds. The errors never show what the file holds.
func (c *cli) useKey() error {
	if c.nkey != "" && c.creds != "" {
		return usage("--nkey and --creds: give one of them")
	}
	if c.nkey != "" {
		o, err := natsbus.WithSeed(c.nkey)
		if err != nil {
			return usage("--nkey %s: %w", c.nkey, err)
		}
		c.auth = append(c.auth, o...)
	}
	if c.creds != "" {
		o, err := natsbus.WithCredentials(c.creds)
		if err != nil {
			return usage("--creds %s: %w", c.creds, err)
		}
		c.auth = append(c.auth, o...)
	}
	return nil
}

func contextDir() (string, error) {
	base := os.Getenv("XDG_CONFIG_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		base = filepath.Join(home, ".config")
	}
	return filepath.Join(base, "nats", "context"), nil
}

func readContext(name string) (*natsContext, error) {
	if strings.Contains(name, "..") || strings.ContainsAny(name, `/\`) {
		return nil, errors.New("that is no name of a context")
	}
	dir, err := contextDir()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no such context in %s%s", dir, known(dir))
	}
	if err != nil {
		return nil, err
	}
	x := &natsContext{}
	if err := json.Unmarshal(b, x); err != nil {
		return nil, fmt.Errorf("%s is damaged: save it again with `nats context save`", filepath.Join(dir, name+".json")) // the cause may quote a secret
	}
	for field, value := range map[string]string{"nsc": x.NSC, "socks_proxy": x.Proxy, "jetstream_api_prefix": x.Prefix, "jetstream_domain": x.Domain} {
		if value != "" {
			return nil, fmt.Errorf("%s is not supported here", field)
		}
	}
	return x, nil
}

// known lists the contexts that there are.
func known(dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		return ": `nats context save` makes one"
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".json")
	}
	slices.Sort(files)
	return ", only " + strings.Join(files, ", ")
}

// options are the connection's; credentials and authority that flags give are left out.
func (x *natsContext) options(creds, ca bool) ([]nats.Option, error) {
	var o []nats.Option
	switch {
	case creds:
	case x.User != "":
		o = append(o, nats.UserInfo(x.User, x.Password))
	case strings.HasPrefix(x.Creds, "op://"):
		return nil, errors.New("credentials in 1Password are not supported here: write them to a file, and give --creds FILE")
	case x.Creds != "":
		creds, err := natsbus.WithCredentials(expand(x.Creds))
		if err != nil {
			return nil, unusable("creds", "credentials", err)
		}
		o = append(o, creds...)
	case x.NKey != "":
		nkey, err := natsbus.WithSeed(expand(x.NKey))
		if err != nil {
			return nil, unusable("nkey", "seed", err)
		}
		o = append(o, nkey...)
	case x.UserJWT != "" && x.UserSeed != "":
		o = append(o, nats.UserJWTAndSeed(x.UserJWT, x.UserSeed))
	case x.Token != "":
		o = append(o, nats.Token(x.Token))
	}
	if x.Cert != "" && x.Key != "" {
		o = append(o, nats.ClientCert(expand(x.Cert), expand(x.Key)))
	}
	if x.CA != "" && !ca {
		o = append(o, nats.RootCAs(expand(x.CA)))
	}
	if x.TLSFirst {
		o = append(o, nats.TLSHandshakeFirst())
	}
	if x.Inbox != "" {
		o = append(o, nats.CustomInboxPrefix(x.Inbox))
	}
	return o, nil
}

// unusable is why a file that a context names cannot be used. It shows no path that is none: a secret may stand there.
func unusable(field, what string, err error) error {
	if errors.Is(err, natsbus.ErrExposed) {
		return fmt.Errorf("the file of %s: %w", field, err)
	}
	return fmt.Errorf("the file of %s holds no %s that can be used", field, what)
}

func expand(path string) string {
	path = os.ExpandEnv(path)
	if home, err := os.UserHomeDir(); err == nil && (path == "~" || strings.HasPrefix(path, "~/")) {
		return home + path[1:]
	}
	return path
}
