package cli

import (
	"github.com/choria-io/fisk"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/edge/certs"
)

// tlsFlags are the flags for certificates, which come in pairs.
type tlsFlags struct{ certs, keys []string }

func (f *tlsFlags) add(cmd *fisk.CmdClause, e *edge.Config) {
	cmd.Flag("listen-tls", "address for clients that speak TLS (wss); repeatable").PlaceHolder("HOST:PORT").StringsVar(&e.ListenTLS)
	cmd.Flag("tls-cert", "PEM file with a certificate and its chain, chosen by the name that the client asks for (the first, if none fits) and read again when it changes; repeatable").PlaceHolder("FILE").StringsVar(&f.certs)
	cmd.Flag("tls-key", "PEM file with its private key; as often as --tls-cert, in the same order").PlaceHolder("FILE").StringsVar(&f.keys)
}

// check puts the pairs together.
func (f *tlsFlags) check(e *edge.Config) error {
	for _, addr := range e.ListenTLS {
		if err := checkListen("--listen-tls", addr); err != nil {
			return err
		}
	}
	switch {
	case len(f.certs) != len(f.keys):
		return usage("--tls-cert %d times and --tls-key %d times: want a key for each certificate", len(f.certs), len(f.keys))
	case len(e.ListenTLS) > 0 && len(f.certs) == 0:
		return usage("--listen-tls needs --tls-cert FILE and --tls-key FILE")
	case len(e.ListenTLS) == 0 && len(f.certs) > 0:
		return usage("--tls-cert has no use without --listen-tls HOST:PORT")
	}
	for i := range f.certs {
		e.Certs = append(e.Certs, certs.Files{Cert: f.certs[i], Key: f.keys[i]})
	}
	return nil
}
