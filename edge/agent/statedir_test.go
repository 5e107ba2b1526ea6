package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events"
)

func openDir(t *testing.T, path, id string) *StateDir {
	t.Helper()
	d, err := OpenStateDir(path, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// An id is made once, fits the naming rules, and stays; --id names it in a new directory.
func TestIDIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dir")
	d := openDir(t, path, "")
	id := d.ID()
	if err := events.CheckID(id, "id"); err != nil || len(id) > 20 {
		t.Errorf("%q: %v", id, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if again := openDir(t, path, id); again.ID() != id || again.Identity() != d.Identity() || events.CheckUUID(d.Identity()) != nil {
		t.Errorf("%q became %q, %q became %q", id, again.ID(), d.Identity(), again.Identity())
	}
	if other := openDir(t, t.TempDir(), ""); other.ID() == id {
		t.Error("two directories got one id")
	}
	if named, lost := openDir(t, t.TempDir(), "bj-7"), openDir(t, t.TempDir(), "bj-7"); named.ID() != "bj-7" || named.Identity() == lost.Identity() {
		t.Errorf("--id bj-7 became %q in %s and in %s", named.ID(), named.Identity(), lost.Identity())
	}
}

func TestOtherIDIsRefused(t *testing.T) {
	path := t.TempDir()
	if err := openDir(t, path, "bj-1").Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStateDir(path, "bj-2"); !errors.Is(err, ErrOtherID) || !strings.Contains(err.Error(), `"bj-1"`) {
		t.Errorf("got %v", err)
	}
	if _, err := OpenStateDir(t.TempDir(), "No Good"); !errors.Is(err, events.ErrBadName) {
		t.Errorf("got %v", err)
	}
	openDir(t, path, "bj-1") // a refusal keeps no lock
}

// TestHoldStateDir is the other process of the next test, not a test.
func TestHoldStateDir(t *testing.T) {
	path := os.Getenv("UNITGATE_TEST_HOLD")
	if path == "" {
		return
	}
	openDir(t, path, "")
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent lets go
}

// "Locked, one process" (R7): a second process is refused while the first lives, and admitted when it was killed.
func TestSecondProcessIsRefused(t *testing.T) {
	path := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHoldStateDir$")
	cmd.Env = append(os.Environ(), "UNITGATE_TEST_HOLD="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatal(line, err)
	}
	_, err = OpenStateDir(path, "")
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("process ", cmd.Process.Pid)) {
		t.Errorf("got %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	openDir(t, path, "")
}

func TestStateRoundTrip(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path, "bj-1")
	if s, err := d.Load(); s != nil || err != nil {
		t.Fatal(s, err)
	}
	w := newWorld(t, nil)
	w.join("hz-1", "center", "ws-hz", "127.0.0.1:7101")
	id := w.begin(6381, 7)
	first := w.state.Clone()
	s := w.fence(id)
	for _, s := range []*events.State{first, s} {
		if hash, err := d.Save("E1", s); err != nil || hash != s.Hash() {
			t.Fatal(hash, err)
		}
	}
	if err := os.WriteFile(filepath.Join(path, tempFile), []byte("torn"), 0o600); err != nil { // left by a crash
		t.Fatal(err)
	}
	_ = d.Close()
	got, err := openDir(t, path, "").Load()
	if err != nil || got.Epoch != "E1" || got.Hash != s.Hash() || got.State.Hash() != s.Hash() || got.At.IsZero() {
		t.Fatalf("%+v, %v", got, err)
	}
	// The fold goes on from it as from the original.
	w.state = got.State
	w.commit(id)
}

// R6, "after fsync": the new content is on disk before the rename makes it the file, and the rename is on disk before
// Save returns; where one of them fails, Save does.
func TestSaveIsOnDisk(t *testing.T) {
	for fails, want := range map[string]string{"": "sync temp, rename, sync directory", "sync temp": "sync temp", "rename": "sync temp, rename", "sync directory": "sync temp, rename, sync directory"} {
		d := openDir(t, t.TempDir(), "bj-1")
		state := newWorld(t, nil).state
		var did []string
		step := func(what string) error {
			if did = append(did, what); what == fails {
				return errors.New("the disk fails")
			}
			return nil
		}
		complete := func(name string) {
			b, err := os.ReadFile(d.file(name))
			if err != nil || !strings.Contains(string(b), state.Hash()) || !strings.HasSuffix(string(b), "}") {
				t.Errorf("%v: %s holds %q, %v", did, name, b, err)
			}
		}
		d.disk = disk{
			sync: func(f *os.File) error {
				if f.Name() == d.path {
					complete(stateFile)
					return step("sync directory")
				}
				complete(filepath.Base(f.Name()))
				return step("sync " + filepath.Base(f.Name()))
			},
			rename: func(from, to string) error { return errors.Join(step("rename"), os.Rename(from, to)) },
		}
		_, err := d.Save("E1", state)
		if got := strings.Join(did, ", "); got != want || (err != nil) != (fails != "") {
			t.Errorf("failing %q: %s, want %s; %v", fails, got, want, err)
		}
	}
}

// A save that fails leaves what there was.
func TestFailedSaveLeavesTheOldState(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path, "bj-1")
	w := newWorld(t, nil)
	if _, err := d.Save("E1", w.state); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(path, tempFile), 0o700); err != nil { // stands in the way
		t.Fatal(err)
	}
	if _, err := d.Save("E1", w.join("bj-1", "unbj", "ws-bj", "127.0.0.1:7201")); err == nil {
		t.Fatal("saved")
	}
	if s, err := d.Load(); err != nil || s.State.Seq != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// Whatever happens to state.json is noticed, and the error says what to do.
func TestDamagedStateIsRefused(t *testing.T) {
	whole := func() []byte {
		d := openDir(t, t.TempDir(), "bj-1")
		if _, err := d.Save("E1", newWorld(t, nil).state); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(d.file(stateFile))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}()
	swap := func(old, new string) []byte {
		s := strings.Replace(string(whole), old, new, 1)
		if s == string(whole) {
			t.Fatalf("%q is not in the file", old)
		}
		return []byte(s)
	}
	for name, b := range map[string][]byte{
		"empty": {}, "torn": whole[:len(whole)/2], "last byte missing": whole[:len(whole)-1], "not JSON": []byte("hello"),
		"a rule lost": swap(`"0-5997"`, `"0-5996"`), "a sound value changed": swap(`"closeCode":1012`, `"closeCode":1013`), "the sequence changed": swap(`"seq":1`, `"seq":2`), "the epoch lost": swap(`"epoch":"E1"`, `"epoch":""`),
	} {
		d := openDir(t, t.TempDir(), "bj-1")
		if err := os.WriteFile(d.file(stateFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := d.Load(); s != nil || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "a new directory and a new id") {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

// An id that is damaged, or lost beside a state, is not replaced by a new one in silence: the journal waits for the old one.
func TestDamagedIDIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"torn":      func(path string) error { return os.WriteFile(filepath.Join(path, idFile), nil, 0o600) },
		"not an id": func(path string) error { return os.WriteFile(filepath.Join(path, idFile), []byte("A B\n"), 0o600) },
		"state, no id": func(path string) error {
			return errors.Join(os.Remove(filepath.Join(path, idFile)), os.WriteFile(filepath.Join(path, stateFile), nil, 0o600))
		},
		"no identity":   func(path string) error { return os.Remove(filepath.Join(path, ownFile)) },
		"torn identity": func(path string) error { return os.WriteFile(filepath.Join(path, ownFile), []byte("d1\n"), 0o600) },
	} {
		path := madeDir(t, "bj-1")
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenStateDir(path, ""); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
