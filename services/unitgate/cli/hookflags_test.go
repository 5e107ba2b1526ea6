package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each hook of each namespace has files of its own; one that cannot be read is an error
// that names no path, and none is none.
func TestFilesOfHooks(t *testing.T) {
	h := hookFlags{dir: t.TempDir()}
	for name, text := range map[string]string{
		"shop.tell": "a key of its own\n", "shop.tell.url": " https://chat.example/TOKEN\n", "shop.empty": "", "shop.large": strings.Repeat("x", maxHookSecret+1),
	} {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(h.dir, "shop.folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	own, err := h.own("shop", "tell")
	if err != nil || string(own.Key) != "a key of its own" || own.URL != "https://chat.example/TOKEN" {
		t.Errorf("%+v, %v", own, err)
	}
	for _, of := range [][2]string{{"shop", "ask"}, {"other", "tell"}} {
		if own, err := h.own(of[0], of[1]); err != nil || len(own.Key) > 0 || own.URL != "" {
			t.Errorf("%s: %+v, %v", of, own, err)
		}
	}
	for _, hook := range []string{"empty", "large", "folder"} {
		if own, err := h.own("shop", hook); err == nil || strings.Contains(err.Error(), h.dir) {
			t.Errorf("%s: %+v, %v", hook, own, err)
		}
	}
}
