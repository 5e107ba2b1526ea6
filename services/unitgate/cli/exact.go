package cli

import (
	"io"
	"os"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// maxIDFile bounds a file of exact IDs, in bytes: as many as there may be, of the length that they may have.
const maxIDFile = routing.MaxExact * (routing.MaxRouterID + 2)

// idLists reads the values of a flag UNIT=ID,ID or UNIT=@FILE, and packs the long lists. field is where they stand in the
// command. An ID that begins with @ goes in a file, or behind another one.
func (x *cutoverCmd) idLists(flag, field string, values []string) (short map[string][]string, long map[string]routing.Packed, err error) {
	var plain []string
	files := map[string][]string{}
	for _, v := range values {
		unit, list, ok := strings.Cut(v, "=")
		name, file := strings.CutPrefix(list, "@")
		if !ok || unit == "" || !file {
			plain = append(plain, v)
			continue
		}
		ids, err := x.idFile(flag, name)
		if err != nil {
			return nil, nil, err
		}
		files[unit] = append(files[unit], ids...)
	}
	all, err := lists(flag, plain)
	if err != nil {
		return nil, nil, err
	}
	if all == nil {
		all = map[string][]string{}
	}
	for unit, ids := range files {
		all[unit] = append(append([]string{}, all[unit]...), ids...)
	}
	return events.PackLists(all, field)
}

// idFile reads a file with one exact ID a line. Empty lines, and the spaces around an ID, do not count.
func (x *cutoverCmd) idFile(flag, name string) ([]string, error) {
	in := x.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usage("%s: %w", flag, err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxIDFile+1))
	if err != nil {
		return nil, usage("%s: %s: %w", flag, name, err)
	}
	if len(b) > maxIDFile {
		return nil, events.ErrTooLarge.With("%s: %s has more than %d MiB", flag, name, maxIDFile>>20)
	}
	var ids []string
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(string(b), byteOrderMark)) { // spreadsheets begin a file with one
		n++
		id := strings.TrimSpace(line)
		if id == "" {
			continue
		}
		if err := routing.CheckRouterID(id); err != nil {
			return nil, events.ErrBadRouterID.With("%s: %s:%d: %.300q: %v", flag, name, n, id, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

const byteOrderMark = "\ufeff"
