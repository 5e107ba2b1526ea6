package dns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/libdns/libdns"
	"github.com/libdns/rfc2136"
)

// Provider is what is needed of a libdns provider.
type Provider interface {
	libdns.RecordGetter
	libdns.RecordSetter
	libdns.RecordDeleter
}

// Settings say how a control plane reaches the providers. Credentials come from files or the environment, and are in no
// event, log or argument.
type Settings struct {
	RFC2136Server  string // HOST[:PORT] of the zones' primary
	RFC2136KeyFile string // of its TSIG key: [ALGORITHM:]NAME:SECRET, hmac-sha256 by default; as nsupdate -y takes it
	AliDNSKeyFile  string // ID:SECRET of an access key
}

// RFC2136KeyVariable and AliDNSKeyVariable may hold what the files hold.
const (
	RFC2136KeyVariable = "UNITGATE_DNS_RFC2136_KEY"
	AliDNSKeyVariable  = "UNITGATE_DNS_ALIDNS_KEY"
)

// errNoProvider says that a control plane is not set up for a domain's provider.
var errNoProvider = errors.New("this control plane is not set up for it")

// Open makes the providers that the settings allow, by name.
func (s Settings) Open() (map[string]Provider, error) {
	out := map[string]Provider{}
	if s.RFC2136Server != "" {
		key, err := secret(s.RFC2136KeyFile, RFC2136KeyVariable)
		if err != nil {
			return nil, fmt.Errorf("key of the DNS server %s: %w", s.RFC2136Server, err)
		}
		parts := strings.Split(key, ":")
		if len(parts) == 2 {
			parts = append([]string{"hmac-sha256"}, parts...)
		}
		if len(parts) != 3 || parts[1] == "" || parts[2] == "" {
			return nil, fmt.Errorf("key of the DNS server %s: want [ALGORITHM:]NAME:SECRET", s.RFC2136Server)
		}
		server := s.RFC2136Server
		if _, _, err := net.SplitHostPort(server); err != nil {
			server = net.JoinHostPort(server, "53")
		}
		out["rfc2136"] = primaryServer{&rfc2136.Provider{Server: server, KeyAlg: parts[0], KeyName: parts[1], Key: parts[2]}, time.Now}
	}
	if s.AliDNSKeyFile != "" || os.Getenv(AliDNSKeyVariable) != "" {
		key, err := secret(s.AliDNSKeyFile, AliDNSKeyVariable)
		if err != nil {
			return nil, fmt.Errorf("key of alidns: %w", err)
		}
		id, word, ok := strings.Cut(key, ":")
		if !ok || id == "" || word == "" {
			return nil, errors.New("key of alidns: want ID:SECRET")
		}
		out["alidns"] = &aliDNS{id: id, secret: word}
	}
	return out, nil
}

// secret is the content of a file, or of a variable if there is no file.
func secret(file, variable string) (string, error) {
	if file == "" {
		if v := strings.TrimSpace(os.Getenv(variable)); v != "" {
			return v, nil
		}
		return "", fmt.Errorf("neither a file nor %s is set", variable)
	}
	b, err := os.ReadFile(file)
	return strings.TrimSpace(string(b)), err
}
