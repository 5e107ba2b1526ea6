//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// profile fetches CPU profiles of the edges, if they are wanted, for as long as a measurement takes. The function that
// it returns waits for them.
func (m *measurement) profile(ctx context.Context) func() error {
	if m.pprof == "" || len(m.site.admin) == 0 {
		return func() error { return nil }
	}
	errs := make([]error, len(m.site.admin))
	var all sync.WaitGroup
	for i, admin := range m.site.admin {
		all.Go(func() {
			seconds := max(1, int(m.duration.Seconds()))
			b, err := get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, seconds))
			if err == nil {
				err = os.MkdirAll(m.pprof, 0o755)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(m.pprof, fmt.Sprintf("%s-edge%d.pprof", m.name, i+1)), b, 0o644)
			}
			errs[i] = err
		})
	}
	return func() error {
		all.Wait()
		return errors.Join(errs...)
	}
}
