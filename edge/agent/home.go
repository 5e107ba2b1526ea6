package agent

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unitgate/unitgate/events"
)

// gonePrefix begins the name of a state directory that is being removed. No id can begin so.
const gonePrefix = ".gone-"

// halfMade is how old a directory without an id must be before it counts as what a crash has left: its process may be
// about to write it.
const halfMade = time.Minute

// Home is what --state-dir names: the place of an edge over all of its upgrades. Every process that works in it has a
// StateDir of its own there, named like its id, since one that has handed its sockets over goes on beside its successor
// until its last session ends.
//
// Its lock belongs to whoever has the listening sockets, and goes from process to process with them, as one more
// descriptor: there is no moment at which nobody has it, and with the last process that has it, it is free. One goroutine
// at a time may use a Home, but for Leftovers, which may run beside Share.
type Home struct {
	path string
	lock *os.File // nil: not ours
}

// OpenHome makes the directory if it is not there.
func OpenHome(path string) (*Home, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	return &Home{path: path}, nil
}

// Path is the directory.
func (h *Home) Path() string { return h.path }

// Lock takes the lock, or fails with ErrLocked.
func (h *Home) Lock() (err error) {
	if h.lock, err = acquire(filepath.Join(h.path, lockFile), os.O_CREATE); err != nil {
		return fmt.Errorf("state directory %s: %w", h.path, err)
	}
	return nil
}

// Inherit takes the lock that another process has handed on. It owns f from here on, also if it fails.
func (h *Home) Inherit(f *os.File) error {
	ours, err := os.Stat(filepath.Join(h.path, lockFile))
	var theirs os.FileInfo
	if err == nil {
		theirs, err = f.Stat()
	}
	if err == nil && !os.SameFile(ours, theirs) {
		err = errors.New("it belongs to another directory")
	}
	if err == nil {
		err = hold(f)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("state directory %s: inherited lock: %w", h.path, err), f.Close())
	}
	h.lock = f
	return nil
}

// Share is another descriptor of the lock, which the caller closes or hands on.
func (h *Home) Share() (*os.File, error) {
	rc, err := h.lock.SyscallConn()
	if err != nil {
		return nil, err
	}
	var f *os.File
	if cerr := rc.Control(func(fd uintptr) {
		var n int
		if n, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			f = os.NewFile(uintptr(n), h.lock.Name())
		}
	}); cerr != nil {
		err = cerr
	}
	return f, err
}

// Unlock gives the lock back; whoever shares it keeps it. It may be called again.
func (h *Home) Unlock() error {
	if h.lock == nil {
		return nil
	}
	err := h.lock.Close()
	h.lock = nil
	return err
}

// Resume opens the state directory of the edge that was here last, or makes the first one; with an id, that edge's. The
// lock must be held.
func (h *Home) Resume(id string) (*StateDir, error) {
	if err := h.settle(); err != nil {
		return nil, err
	}
	names, err := h.names()
	if err != nil {
		return nil, err
	}
	if id != "" && slices.Contains(names, id) {
		return OpenStateDir(h.file(id), id)
	}
	for _, name := range names {
		d, err := reopen(h.file(name))
		switch {
		case errors.Is(err, ErrLocked) || errors.Is(err, fs.ErrNotExist): // it ends its sessions, or has just ended
			continue
		case err != nil:
			return nil, err
		case id == "":
			return d, nil
		}
		return nil, errors.Join(fmt.Errorf("state directory %s: %w: its id is %q, not %q; give each edge a directory of its own", h.path, ErrOtherID, name, id), d.Close())
	}
	return h.Found(id)
}

// Found makes a state directory for a new edge; "" gives it an id.
func (h *Home) Found(id string) (*StateDir, error) {
	if id == "" {
		id = "edge-" + strings.ToLower(rand.Text()[:12])
	} else if err := events.CheckID(id, "id"); err != nil { // it becomes a part of a path
		return nil, fmt.Errorf("edge id: %w", err)
	}
	return OpenStateDir(h.file(id), id)
}

// Succession is the word of the edge that was here before (its process runs, and has its state
// directory locked) that the next one takes its place: both are the same user's, in the same
// home, so that the next one can sign for it. "" for an edge of a version without signatures.
func (h *Home) Succession(namespace, old string, next *StateDir) (string, error) {
	if err := events.CheckID(old, "id"); err != nil { // it becomes a part of a path
		return "", fmt.Errorf("the edge to take over from: %w", err)
	}
	before := StateDir{path: h.file(old)}
	if _, err := os.Stat(before.file(seedFile)); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err := before.haveKeys(); err != nil {
		return "", fmt.Errorf("the keys of edge %s: %w", old, err)
	}
	return events.SignSuccession(before.signer, namespace, old, next.ID(), next.PublicKey()), nil
}

// Leftovers opens the state directories that no process uses, except those of the ids that are named, and removes what
// crashes have left half done. The lock must be held. The caller closes or removes what it gets.
func (h *Home) Leftovers(except ...string) ([]*StateDir, error) {
	entries, err := os.ReadDir(h.path)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	var all []*StateDir
	for _, e := range entries {
		switch name := e.Name(); {
		case !e.IsDir() || slices.Contains(except, name):
		case strings.HasPrefix(name, gonePrefix):
			err = errors.Join(err, os.RemoveAll(h.file(name)))
		case events.CheckID(name, "id") != nil: // nothing of ours
		case !h.has(name, idFile):
			if info, ierr := e.Info(); ierr == nil && time.Since(info.ModTime()) > halfMade {
				err = errors.Join(err, h.discard(name))
			}
		default:
			d, rerr := reopen(h.file(name))
			if rerr == nil {
				all = append(all, d)
			} else if !errors.Is(rerr, ErrLocked) && !errors.Is(rerr, fs.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}
	return all, err
}

// discard removes a directory without an id that no process uses.
func (h *Home) discard(name string) error {
	lock, err := acquire(h.file(filepath.Join(name, lockFile)), os.O_CREATE)
	if errors.Is(err, ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(h.file(name)), lock.Close())
}

// names are the ids of the state directories, the youngest first.
func (h *Home) names() ([]string, error) {
	entries, err := os.ReadDir(h.path)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	type made struct {
		name string
		at   time.Time
	}
	var all []made
	for _, e := range entries {
		if info, err := os.Stat(h.file(filepath.Join(e.Name(), idFile))); e.IsDir() && err == nil && events.CheckID(e.Name(), "id") == nil {
			all = append(all, made{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b made) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.name, b.name)) })
	var names []string
	for _, m := range all {
		names = append(names, m.name)
	}
	return names, nil
}

// settle moves what a version without hand-overs has left, the files of its only edge, into a directory of that edge. The
// id comes last: until then a crash leaves what is moved on with the next time.
func (h *Home) settle() error {
	b, err := os.ReadFile(h.file(idFile))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EISDIR) {
		return nil
	}
	id := strings.TrimSpace(string(b))
	if err == nil && events.CheckID(id, "id") != nil {
		err = fmt.Errorf("%w: its id is %.80q", ErrDamaged, id)
	}
	if err == nil {
		err = os.MkdirAll(h.file(id), 0o700)
	}
	for _, name := range []string{lockFile, ownFile, stateFile, idFile} {
		if err != nil {
			break
		}
		to := h.file(filepath.Join(id, name))
		if name == lockFile { // the old one is ours
			err = os.WriteFile(to, nil, 0o600)
		} else if err = os.Rename(h.file(name), to); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("state directory %s: %w", h.path, err)
	}
	return nil
}

func (h *Home) file(name string) string { return filepath.Join(h.path, name) }

func (h *Home) has(name, file string) bool {
	_, err := os.Stat(h.file(filepath.Join(name, file)))
	return err == nil
}
