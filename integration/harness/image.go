package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// imageArg as the first argument turns a test binary into what starts a container: see runInImage.
const imageArg = "run-in-image"

// ImageUser is the user and the group of a program in an image.
const ImageUser = 65532

// Image is a directory as a container's image has it.
type Image struct {
	Root   string
	Mounts map[string]string // directories of this machine by their path in the image; all else is read-only
	Env    []string
}

// Start runs the image's program as a container does: as PID 1 of a pid namespace, with nothing of this machine but the
// network, the mounts and /proc, as a user without rights. It needs root.
func (i Image) Start(t testing.TB, args ...string) *Process {
	t.Helper()
	var mounts []string
	for inside, outside := range i.Mounts {
		mounts = append(mounts, outside+"="+inside)
	}
	command := append([]string{imageArg, i.Root, strings.Join(mounts, ":"), strings.Join(i.Env, "\n")}, args...)
	return startProgram(t, "", syscall.CLONE_NEWPID|syscall.CLONE_NEWNS, program(t), command)
}

// runInImage leaves this machine for a root directory and becomes its /unitgate. It returns only what went wrong.
func runInImage(args []string) int {
	if err := enterImage(args[0], args[1], args[2], args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "harness: image:", err)
	}
	return 1
}

func enterImage(root, mounts, env string, args []string) error {
	runtime.LockOSThread()
	for _, m := range []struct {
		from, to, kind string
		flags          uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE}, // what follows is for this process alone
		{root, root, "", unix.MS_BIND},
		{"proc", filepath.Join(root, "proc"), "proc", 0},
	} {
		if err := unix.Mount(m.from, m.to, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.from, m.to, err)
		}
	}
	for _, m := range strings.FieldsFunc(mounts, func(r rune) bool { return r == ':' }) {
		outside, inside, _ := strings.Cut(m, "=")
		if err := unix.Mount(outside, filepath.Join(root, inside), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", outside, inside, err)
		}
	}
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	for _, step := range []func() error{
		func() error { return unix.Chroot(root) },
		func() error { return unix.Chdir("/") },
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(ImageUser) },
		func() error { return syscall.Setuid(ImageUser) },
		func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) },
		func() error { return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) }, // another user has lost it
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return unix.Exec("/unitgate", append([]string{"/unitgate"}, args...), strings.Split(env, "\n"))
}
