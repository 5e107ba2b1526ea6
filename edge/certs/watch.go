package certs

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// watchInterval is how often files are looked at: a certificate's renewal has days, and two calls of stat cost nothing.
const watchInterval = 2 * time.Second

// version tells one content of a file from the next without reading it. Whoever replaces a file, by writing, renaming
// or a symbolic link, changes at least one of these.
type version struct {
	device, inode uint64
	size          int64
	modified      int64 // nanoseconds since 1970
}

// versions looks at both files, through symbolic links.
func (p *pair) versions() (seen [2]version, err error) {
	for i, name := range []string{p.Cert, p.Key} {
		info, err := os.Stat(name)
		if err != nil {
			return seen, err
		}
		seen[i] = version{size: info.Size(), modified: info.ModTime().UnixNano()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			seen[i].device, seen[i].inode = st.Dev, st.Ino
		}
	}
	return seen, nil
}

// exposed reports that everybody may read the key.
func (p *pair) exposed() bool {
	info, err := os.Stat(p.Key)
	return err == nil && info.Mode().Perm()&0o007 != 0
}

// Watch calls Refresh every two seconds until ctx ends; for a nil Store it returns at once.
func (s *Store) Watch(ctx context.Context) {
	if s == nil {
		return
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.Refresh()
		}
	}
}

// Refresh reads the files that have changed since they were last read. What cannot be used is refused with an error in
// the log, once for each change, and the certificate from before stays in use. One goroutine may call it at a time.
func (s *Store) Refresh() {
	changed := false
	for i := range s.pairs {
		p := &s.pairs[i]
		seen, err := p.versions()
		if err != nil {
			seen = [2]version{} // gone: no version of a file that is there
		}
		if seen == p.seen {
			continue
		}
		if err == nil {
			err = p.load()
		} else {
			p.seen, err = seen, fmt.Errorf("TLS certificate: %w", err)
		}
		if err != nil {
			s.log.Error("the new TLS certificate is refused, the old one stays in use: mend the files, they are read again when they change",
				"file", p.Cert, "notAfter", p.loaded.Leaf.NotAfter, "error", err)
			continue
		}
		changed = true
		s.log.Info("TLS certificate has changed", "file", p.Cert, "names", p.loaded.Leaf.DNSNames, "notAfter", p.loaded.Leaf.NotAfter)
		s.remark(p)
	}
	if changed {
		s.compile()
	}
}
