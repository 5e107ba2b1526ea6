package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func openHome(t *testing.T, path string) *Home {
	t.Helper()
	h, err := OpenHome(path)
	if err == nil {
		err = h.Lock()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Unlock() })
	return h
}

func must(t *testing.T) func(d *StateDir, err error) *StateDir {
	return func(d *StateDir, err error) *StateDir {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

// An edge that starts again is the same edge; the youngest one if there are several.
func TestHomeResumes(t *testing.T) {
	path := t.TempDir()
	h := openHome(t, path)
	first := must(t)(h.Resume(""))
	id, identity := first.ID(), first.Identity()
	_ = first.Close()
	again := must(t)(h.Resume(""))
	if again.ID() != id || again.Identity() != identity {
		t.Errorf("%s, then %s", id, again.ID())
	}
	_ = again.Close()
	second := must(t)(h.Found(""))
	_ = second.Close()
	young := time.Now().Add(time.Minute)
	if err := os.Chtimes(filepath.Join(path, second.ID(), idFile), young, young); err != nil {
		t.Fatal(err)
	}
	if d := must(t)(h.Resume("")); d.ID() != second.ID() {
		t.Errorf("the older one: %s", d.ID())
	} else { // it is in use now
		defer d.Close()
	}
	if d := must(t)(h.Resume("")); d.ID() != id {
		t.Errorf("%s while %s is in use and %s is free", d.ID(), second.ID(), id)
	} else {
		defer d.Close()
	}
	if d := must(t)(h.Resume("")); d.ID() == id || d.ID() == second.ID() {
		t.Errorf("%s is in use", d.ID())
	} else {
		_ = d.Close()
	}
}

// With an id it is that edge or, where nobody was before, a new one; never one beside the remains of another.
func TestHomeOfAnID(t *testing.T) {
	h := openHome(t, t.TempDir())
	if _, err := h.Resume("../x"); err == nil {
		t.Error("an id that is a path")
	}
	d := must(t)(h.Resume("bj-1"))
	if _, err := h.Resume("bj-1"); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	next := must(t)(h.Found("bj-2")) // beside it, by a take-over
	_ = next.Close()
	_ = d.Close()
	if d = must(t)(h.Resume("bj-2")); d.ID() != "bj-2" {
		t.Error(d.ID())
	}
	_ = d.Close()
	if _, err := h.Resume("bj-3"); !errors.Is(err, ErrOtherID) {
		t.Error(err)
	}
}

// One process has the lock; one that it shares it with has it, too, and keeps it.
func TestHomeLock(t *testing.T) {
	path := t.TempDir()
	h := openHome(t, path)
	other, err := OpenHome(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Lock(); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "process ") {
		t.Fatal(err)
	}
	f, err := h.Share()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Inherit(f); err != nil {
		t.Fatal(err)
	}
	_ = h.Unlock()
	_ = h.Unlock()
	if err := h.Lock(); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	_ = other.Unlock()
	if err := h.Lock(); err != nil {
		t.Fatal(err)
	}

	foreign, err := openHome(t, t.TempDir()).Share()
	if err == nil {
		err = other.Inherit(foreign)
	}
	if err == nil {
		t.Error("the lock of another directory")
	}
}

// Leftovers are the directories of processes that are gone. What somebody uses, or has just begun, is none.
func TestHomeLeftovers(t *testing.T) {
	path := t.TempDir()
	h := openHome(t, path)
	own, used, dead := must(t)(h.Found("own")), must(t)(h.Found("used")), must(t)(h.Found("dead"))
	defer own.Close()
	defer used.Close()
	_ = dead.Close()
	for _, name := range []string{"beginning", "broken-off", gonePrefix + "x"} {
		if err := os.Mkdir(filepath.Join(path, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * halfMade)
	if err := os.Chtimes(filepath.Join(path, "broken-off"), old, old); err != nil {
		t.Fatal(err)
	}
	left, err := h.Leftovers("own")
	if err != nil || len(left) != 1 || left[0].ID() != "dead" {
		t.Fatal(left, err)
	}
	if err := left[0].Remove(); err != nil {
		t.Fatal(err)
	}
	if got, want := ls(t, path), []string{"beginning", "lock", "own", "used"}; !slices.Equal(got, want) {
		t.Errorf("%v are left, want %v", got, want)
	}
}

func ls(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// The directory of a version that knew no hand-overs is taken over with its id and its state, also when moving it was
// cut off.
func TestHomeOfAnOlderVersion(t *testing.T) {
	for _, moved := range [][]string{nil, {ownFile}, {ownFile, stateFile}} {
		path := t.TempDir()
		old := must(t)(OpenStateDir(path, "bj-1"))
		if err := os.Remove(filepath.Join(path, seedFile)); err != nil { // there was none
			t.Fatal(err)
		}
		s := newWorld(t, nil).state
		if _, err := old.Save("e", s); err != nil {
			t.Fatal(err)
		}
		h, err := OpenHome(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Lock(); !errors.Is(err, ErrLocked) {
			t.Fatalf("the older version runs: %v", err)
		}
		_ = old.Close()
		for _, name := range moved {
			to := filepath.Join(path, "bj-1", name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.Rename(filepath.Join(path, name), to)); err != nil {
				t.Fatal(err)
			}
		}
		h = openHome(t, path)
		d := must(t)(h.Resume(""))
		saved, err := d.Load()
		if d.ID() != "bj-1" || d.Identity() != old.Identity() || err != nil || saved.State.Hash() != s.Hash() || d.Key() == nil {
			t.Errorf("%s %s %v", d.ID(), d.Identity(), err)
		}
		_ = d.Close()
		if got := ls(t, path); !slices.Equal(got, []string{"bj-1", "lock"}) {
			t.Errorf("%v", got)
		}
	}
}
