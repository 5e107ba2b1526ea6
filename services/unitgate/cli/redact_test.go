package cli

import (
	"net/url"
	"strings"
	"testing"
)

// Secrets never reach output or logs, whatever form a server's URL has.
func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"nats://127.0.0.1:4222":                  "nats://127.0.0.1:4222",
		"nats://bob:S3CRET@h:1":                  "nats://***@h:1",
		"nats://S3CRET@h:1":                      "nats://***@h:1",
		"bob:S3CRET@h:1":                         "***@h:1",
		"bob:S3CRET@h1,nats://a:S3CRET@h2":       "***@h1,nats://***@h2",
		"nats:/bob:S3CRET@h":                     "***@h",
		"nats://bob:S3//CRET@x@h:1,nats://h2:42": "nats://***@h:1,nats://h2:42",
	} {
		if got := redact(in); got != want || strings.Contains(got, "S3") {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
	_, err := url.Parse(strings.Join([]string{"nats://bob:S3", "zzCRET@h"}, "%"))
	if got := because(err); strings.Contains(got, "S3") {
		t.Errorf("the cause quotes the URL: %s", got)
	}
}
