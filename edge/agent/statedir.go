package agent

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/unitgate/unitgate/events"
)

// Names in a state directory.
const (
	lockFile  = "lock"       // held by flock while the edge's process lives; contains its process id
	idFile    = "id"         // the edge's id
	ownFile   = "directory"  // the directory's own identity, a UUID
	seedFile  = "seed"       // of both private keys of the edge, in hex, see events.DeriveKeys
	stateFile = "state.json" // the newest state that every poller decided by
	tempFile  = "temp"       // becomes one of the four above by a rename
)

// Errors of a state directory, to be tested with errors.Is.
var (
	// ErrLocked: another process uses the directory.
	ErrLocked = errors.New("another process uses this state directory")
	// ErrOtherID: the directory belongs to an edge with another id.
	ErrOtherID = errors.New("the state directory belongs to another edge")
	// ErrDamaged: something in the directory is not what this program wrote. Its edge must not go on with it: what it
	// had promised is not known any more.
	ErrDamaged = errors.New("state directory is damaged: start the edge with a new directory and a new id (another --id if you give one), " +
		"and retire the old id with edge-retire")
)

// StateDir is the directory in which an edge keeps its id and its newest state: "locked, one process, never cloned; a
// lost one means a new edge id" (R7). It has an identity of its own, which the journal registers with the id, so that a
// new directory under an old id is noticed. One goroutine at a time may use it.
type StateDir struct {
	path     string
	id       string
	identity string
	signer   ed25519.PrivateKey
	key      *ecdh.PrivateKey
	lock     *os.File
	disk     disk
}

// disk is what makes a file survive a crash of the machine; tests see the order.
type disk struct {
	sync   func(*os.File) error
	rename func(from, to string) error
}

// Saved is a state as it was read from a state directory.
type Saved struct {
	Epoch string // of the journal that it came from
	Hash  string // State.Hash
	State *events.State
	At    time.Time // when it was stored, or when it was last known to be the newest one (Mark)
}

// saved is the form of state.json. Hash is over the bytes of State.
type saved struct {
	Epoch string          `json:"epoch"`
	Seq   uint64          `json:"seq"`
	Hash  string          `json:"hash"`
	State json.RawMessage `json:"state"`
}

// OpenStateDir locks the directory, which is made if it is not there, and reads or makes the edge's id. An id that is
// given must be the one stored, if there is one. Close it only when nothing of the edge runs any more.
func OpenStateDir(path, id string) (*StateDir, error) {
	if id != "" {
		if err := events.CheckID(id, "id"); err != nil {
			return nil, fmt.Errorf("edge id: %w", err)
		}
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	return openStateDir(path, id, os.O_CREATE)
}

// reopen opens a state directory that there is, with whatever id it has; fs.ErrNotExist: it has just been removed.
func reopen(path string) (*StateDir, error) {
	return openStateDir(path, filepath.Base(path), 0)
}

// openStateDir makes what is missing if create is os.O_CREATE, and not if it is 0.
func openStateDir(path, id string, create int) (*StateDir, error) {
	lock, err := acquire(filepath.Join(path, lockFile), create)
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w", path, err)
	}
	d := &StateDir{path: path, lock: lock, disk: disk{(*os.File).Sync, os.Rename}}
	if err = d.begin(id, create != 0); err != nil {
		return nil, errors.Join(fmt.Errorf("state directory %s: %w", path, err), d.Close())
	}
	return d, nil
}

// acquire takes the lock, which the kernel drops with the process, however that ends. create is os.O_CREATE, or 0 if the
// file must be there.
func acquire(path string, create int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|create, 0o600)
	if err != nil {
		return nil, err
	}
	if err := hold(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// hold locks a file and notes in it which process has it.
func hold(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock it: %w", err)
		}
		var pid [20]byte
		n, _ := f.ReadAt(pid[:], 0) // only for the message
		return fmt.Errorf("%w: process %s", ErrLocked, bytes.TrimSpace(pid[:n]))
	}
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
	return err
}

// begin reads who the directory belongs to; a new directory gets the wanted id, or a new one if none is wanted. The id
// is written last, so that what a crash leaves half made has none, and is begun anew.
func (d *StateDir) begin(want string, create bool) error {
	var err error
	if d.id, err = d.read(idFile); err != nil {
		return err
	}
	if d.identity, err = d.read(ownFile); err != nil {
		return err
	}
	switch {
	case d.id == "" && create:
		return d.found(want)
	case d.id == "":
		return fs.ErrNotExist
	case events.CheckID(d.id, "id") != nil:
		return fmt.Errorf("%w: its id is %.80q", ErrDamaged, d.id)
	case want != "" && want != d.id:
		return fmt.Errorf("%w: its id is %q, not %q; give each edge a directory of its own", ErrOtherID, d.id, want)
	case events.CheckUUID(d.identity) != nil:
		return fmt.Errorf("%w: its own identity is %.80q", ErrDamaged, d.identity)
	}
	return d.haveKeys()
}

// haveKeys reads the seed of the edge's keys, or draws it. It outlives the process, so that
// the other edges know this one again before the journal does. A directory of a version
// without signatures has no seed: its edge gets new keys, which its next join registers.
func (d *StateDir) haveKeys() error {
	text, err := d.read(seedFile)
	if err != nil {
		return err
	}
	if text != "" {
		seed, err := hex.DecodeString(text)
		if err == nil {
			d.signer, d.key, err = events.DeriveKeys(seed)
		}
		if err != nil {
			return fmt.Errorf("%w: the seed of its keys is none", ErrDamaged)
		}
		return nil
	}
	seed := make([]byte, ed25519.SeedSize)
	for d.signer == nil {
		rand.Read(seed) // never fails, see crypto/rand
		if d.signer, d.key, err = events.DeriveKeys(seed); err != nil && !errors.Is(err, events.ErrSeed) {
			return err
		}
	}
	return d.write(seedFile, fmt.Appendln(nil, hex.EncodeToString(seed)))
}

// found makes a new directory.
func (d *StateDir) found(id string) error {
	if _, err := os.Stat(d.file(stateFile)); err == nil {
		return fmt.Errorf("%w: it has a state and no id", ErrDamaged)
	}
	if id == "" {
		id = "edge-" + strings.ToLower(rand.Text()[:12])
	}
	if err := d.haveKeys(); err != nil {
		return err
	}
	d.id, d.identity = id, events.Fingerprint(d.PublicKey())
	if err := d.write(ownFile, []byte(d.identity+"\n")); err != nil {
		return err
	}
	return d.write(idFile, []byte(d.id+"\n"))
}

// read returns a file's only line, "" if the file is not there. Ours are never empty.
func (d *StateDir) read(name string) (string, error) {
	b, err := os.ReadFile(d.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if line := strings.TrimSuffix(string(b), "\n"); line != "" || err != nil {
		return line, err
	}
	return "", fmt.Errorf("%w: its file %s is empty", ErrDamaged, name)
}

// ID is the edge's id.
func (d *StateDir) ID() string { return d.id }

// Identity is the UUID that the directory was given when it was made: the fingerprint of its
// key, or in one that a version without signatures made, a random one.
func (d *StateDir) Identity() string { return d.identity }

// Key is the edge's private X25519 key: it agrees on secrets with those of other edges.
func (d *StateDir) Key() *ecdh.PrivateKey { return d.key }

// PublicKey is Key's public half in hex, as the journal holds it.
func (d *StateDir) PublicKey() string { return hex.EncodeToString(d.key.PublicKey().Bytes()) }

// Signer is the edge's private Ed25519 key, the other form of Key: it signs what the edge
// says. events.SigningKey makes its public half of PublicKey.
func (d *StateDir) Signer() ed25519.PrivateKey { return d.signer }

// made is when the directory was given its id; zero if that cannot be read.
func (d *StateDir) made() time.Time {
	info, err := os.Stat(d.file(idFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Load reads the stored state; nil if there is none yet. It is checked against its hash: a damaged one is ErrDamaged.
func (d *StateDir) Load() (*Saved, error) {
	info, err := os.Stat(d.file(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(d.file(stateFile))
	}
	if err != nil {
		return nil, fmt.Errorf("stored state: %w", err)
	}
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w: %s", d.file(stateFile), ErrDamaged, fmt.Sprintf(format, args...))
	}
	var f saved
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, damaged("%v", err)
	}
	sum := sha256.Sum256(f.State)
	if got := hex.EncodeToString(sum[:]); got != f.Hash {
		return nil, damaged("the state's hash is %s, it should be %s", got, f.Hash)
	}
	s, err := events.DecodeState(f.State)
	if err != nil {
		return nil, damaged("%v", err)
	}
	if s.Seq != f.Seq || f.Epoch == "" {
		return nil, damaged("sequence %d of epoch %q holds a state of sequence %d", f.Seq, f.Epoch, s.Seq)
	}
	at := info.ModTime()
	if at.After(time.Now()) {
		at = time.Unix(0, 0) // a clock was ahead: nothing is known of how old this is
	}
	return &Saved{Epoch: f.Epoch, Hash: f.Hash, State: s, At: at}, nil
}

// Save stores a state and returns its hash. When it returns nil, the state survives a crash of the machine (R6); after
// an error, the one before is still there.
func (d *StateDir) Save(epoch string, s *events.State) (hash string, err error) {
	raw := s.Encode()
	sum := sha256.Sum256(raw)
	hash = hex.EncodeToString(sum[:])
	b, err := json.Marshal(saved{Epoch: epoch, Seq: s.Seq, Hash: hash, State: raw})
	if err == nil {
		err = d.write(stateFile, b)
	}
	if err != nil {
		return "", fmt.Errorf("store state %d: %w", s.Seq, err)
	}
	return hash, nil
}

// Mark notes that the stored state was known to be the newest one at a time. It is lost in a crash of the machine; then
// the state looks older than it is.
func (d *StateDir) Mark(at time.Time) error { return os.Chtimes(d.file(stateFile), time.Time{}, at) }

// write replaces a file as a whole: after a crash at any moment there is the old one or the new one.
func (d *StateDir) write(name string, b []byte) error {
	f, err := os.OpenFile(d.file(tempFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = d.disk.sync(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.disk.rename(d.file(tempFile), d.file(name)); err != nil {
		return err
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(d.disk.sync(dir), dir.Close()) // without it the rename itself may be lost
}

func (d *StateDir) file(name string) string { return filepath.Join(d.path, name) }

// Close lets another process have the directory.
func (d *StateDir) Close() error { return d.lock.Close() }

// Remove closes the directory and deletes it: its edge has left for good.
func (d *StateDir) Remove() error {
	gone := filepath.Join(filepath.Dir(d.path), gonePrefix+filepath.Base(d.path))
	err := os.Rename(d.path, gone) // whoever looks at it sees all of it, or nothing
	if err == nil {
		err = os.RemoveAll(gone)
	}
	return errors.Join(err, d.Close())
}
