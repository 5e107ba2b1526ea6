package cutover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/outbound"
)

// What a result says is read by every role and stays in the journal, and an operator
// decides whom a hook calls. So it is in our own words: neither the receiver's body, nor
// its reason phrase, nor what a transport quotes of an answer that is no HTTP (the banner
// of a mail server, say) gets there. The one exception is quote.

const maxHookQuote = 160 // bytes of a body

// line is an answer's status in the words of RFC 9110, whatever words came with it.
func line(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// quote is the beginning of a body on one line, with what stands before it. It is for the
// answer "no" of a host that the control plane's allow-list names: its operators read
// why.
func quote(body []byte) string {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(body[:min(len(body), maxHookQuote)]), ""))
	if text = strings.Join(strings.Fields(text), " "); text == "" {
		return ""
	}
	return ": " + text
}

// unanswered says why there is no answer. The error is the same for this process's log,
// without the URL, of which a part may be secret.
func unanswered(ctx context.Context, hook events.Hook, err error) (answered, error) {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	if r := (*outbound.RefusedError)(nil); errors.As(err, &r) {
		return answered{code: events.HookNotAllowed, message: "not called: " + r.Error() + "; --hook-allow of the control plane says what may be called"}, err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return answered{code: events.HookTimeout, message: fmt.Sprintf("no answer within %s", time.Duration(hook.Timeout))}, err
	}
	return answered{code: events.HookUnreachable, message: because(err)}, err
}

// because names a kind of failure.
func because(err error) string {
	var (
		name        *net.DNSError
		authority   x509.UnknownAuthorityError
		host        x509.HostnameError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return "the name of its host does not exist"
	case errors.As(err, &name):
		return "the name of its host cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no way there: host or network unreachable"
	case errors.As(err, &authority):
		return "its certificate is of an authority that is not trusted here"
	case errors.As(err, &host):
		return "its certificate is for another name"
	case errors.As(err, &certificate):
		return "its certificate is not valid"
	case errors.As(err, &record):
		return "it does not speak TLS"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "it broke off the connection"
	case errors.Is(err, context.Canceled):
		return "called off: this process has left office"
	}
	return "no answer that could be read; the log of the control plane says more"
}
