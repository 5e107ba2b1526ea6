package cutover

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

const (
	// MinHookSecret is the least length of the secret that signs calls, in bytes.
	MinHookSecret = 16

	maxHookAnswer = 16 << 10 // of an answer's body; what is behind that is not read
	maxHookQuote  = 160      // of it that a result quotes
)

// HookCaller calls the hooks of cutovers: POST of a HookCall, signed. It may be used by any number of goroutines.
//
// The headers of a call are Unitgate-Delivery, which is the same for every call of one hook of one cutover;
// Unitgate-Timestamp, in seconds of Unix time; and Unitgate-Signature, "v1=" and the hex HMAC-SHA256 of the timestamp, a
// dot and the body. A receiver compares the signature, refuses timestamps that are minutes away from its own clock, and
// takes a delivery that it knows for the same one.
type HookCaller struct {
	secret func() ([]byte, error)
	now    func() time.Time
	client *http.Client
}

// NewHookCaller makes a caller that signs with what secret returns at the time of a call.
func NewHookCaller(secret func() ([]byte, error)) *HookCaller {
	return &HookCaller{secret: secret, now: time.Now, client: &http.Client{
		// A signed body goes where the configuration says and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second,
			MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
		},
	}}
}

// HookCall is what a hook is told. Its JSON is a contract.
type HookCall struct {
	ID        string      `json:"id"` // of the delivery: a repeat has the same one
	Namespace string      `json:"namespace"`
	Hook      string      `json:"hook"`
	On        string      `json:"on"` // pre or post
	Cutover   HookCutover `json:"cutover"`
}

// HookCutover is the cutover that a hook is called for.
type HookCutover struct {
	ID         string              `json:"id"`
	State      events.CutoverState `json:"state"` // started, or how it has ended
	UnitType   string              `json:"unitType"`
	RuleFrom   uint64              `json:"ruleFrom"`
	RuleTo     uint64              `json:"ruleTo"`
	Units      []HookUnit          `json:"units"` // those that lose or gain users, by id
	Slots      int                 `json:"slots"` // that move
	ExactIDs   int                 `json:"exactIds"`
	Sessions   int                 `json:"sessions"` // that moved keys had when it was proposed
	Drain      string              `json:"drain,omitempty"`
	RollbackOf string              `json:"rollbackOf,omitempty"`
	Reason     *events.Why         `json:"reason,omitempty"` // of a pause or an early end
	Actor      string              `json:"actor"`
	TraceID    string              `json:"traceId,omitempty"`
}

// HookUnit is one side of a cutover.
type HookUnit struct {
	ID    string `json:"id"`
	Loses bool   `json:"loses"` // it gives users away
	Gains bool   `json:"gains"`
}

// hookCall is what a hook is told of a cutover.
func hookCall(epoch string, o CallHook) HookCall {
	c, d := o.Cutover, routing.Compare(o.Cutover.From, o.Cutover.To)
	units := map[string]HookUnit{}
	d.Sides(func(source, target string) {
		s, t := units[source], units[target]
		s.ID, s.Loses, t.ID, t.Gains = source, true, target, true
		units[source], units[target] = s, t
	})
	delivery := strings.Join([]string{"unitgate hook", epoch, o.Namespace, c.ID, o.Hook.On, o.Hook.Name}, "\n")
	return HookCall{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(delivery)).String(), Namespace: o.Namespace, Hook: o.Hook.Name, On: o.Hook.On,
		Cutover: HookCutover{
			ID: c.ID, State: c.State, UnitType: c.UnitType, RuleFrom: c.RuleFrom, RuleTo: c.RuleTo,
			Units: slices.SortedFunc(maps.Values(units), func(a, b HookUnit) int { return strings.Compare(a.ID, b.ID) }),
			Slots: d.Slots(), ExactIDs: d.Exact.Len(), Sessions: c.Counted.Sessions,
			Drain: c.Drain, RollbackOf: c.RollbackOf, Reason: c.Why, Actor: c.Actor, TraceID: traceID(c.Traceparent),
		},
	}
}

// Call calls a hook of a cutover in the journal of that epoch, for as long as the hook's timeout allows.
func (h *HookCaller) Call(ctx context.Context, epoch string, o CallHook) events.HookResult {
	res := events.HookResult{Name: o.Hook.Name, On: o.Hook.On}
	begun := time.Now()
	res.Status, res.Code, res.Message = h.call(ctx, hookCall(epoch, o), o)
	res.OK, res.Took = res.Code == "", events.Duration(time.Since(begun).Round(time.Microsecond))
	return res
}

func (h *HookCaller) call(ctx context.Context, c HookCall, o CallHook) (status int, code, message string) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.Hook.Timeout))
	defer cancel()
	req, err := h.request(ctx, c, o)
	if err != nil {
		return 0, events.HookNoSecret, err.Error()
	}
	answer, err := h.client.Do(req)
	if err != nil {
		code, message = h.unanswered(ctx, o.Hook, err)
		return 0, code, message
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxHookAnswer))
	switch said := quote(body); {
	case answer.StatusCode >= 300 && answer.StatusCode < 400:
		return answer.StatusCode, events.HookRefused, fmt.Sprintf("%s: redirects are not followed, give the hook its final URL", answer.Status)
	case answer.StatusCode < 200 || answer.StatusCode > 299:
		return answer.StatusCode, events.HookRefused, answer.Status + said
	case err != nil: // it was cut off in the middle, or took too long
		code, message = h.unanswered(ctx, o.Hook, err)
		return answer.StatusCode, code, message
	default:
		return answer.StatusCode, "", answer.Status + said
	}
}

// request is the signed call. The error says why it cannot be signed.
func (h *HookCaller) request(ctx context.Context, c HookCall, o CallHook) (*http.Request, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	secret, err := h.secret()
	switch {
	case err != nil:
		return nil, fmt.Errorf("not called: the secret that signs calls cannot be had: %w", err)
	case len(secret) == 0:
		return nil, errors.New("not called: start the control plane with --hook-secret-file, or UNITGATE_HOOK_SECRET, so that calls can be signed")
	case len(secret) < MinHookSecret:
		return nil, fmt.Errorf("not called: the secret that signs calls has %d bytes, at least %d are wanted", len(secret), MinHookSecret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.Hook.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("not called: the URL is none") // the configuration was checked: it cannot be
	}
	at := strconv.FormatInt(h.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "unitgate")
	req.Header.Set("Unitgate-Delivery", c.ID)
	req.Header.Set("Unitgate-Timestamp", at)
	req.Header.Set("Unitgate-Signature", "v1="+Signature(secret, at, body))
	if t, ok := o.Cutover.Trace(); ok {
		req.Header.Set("Traceparent", t.Traceparent())
	}
	return req, nil
}

// Signature is what a receiver compares: the hex HMAC-SHA256 under the secret of the timestamp, a dot and the body.
func Signature(secret []byte, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s", timestamp, body)
	return hex.EncodeToString(mac.Sum(nil))
}

// unanswered says why there is no answer, without the URL: what stands in it may be somebody's business alone.
func (h *HookCaller) unanswered(ctx context.Context, hook events.Hook, err error) (code, message string) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return events.HookTimeout, fmt.Sprintf("no answer within %s", time.Duration(hook.Timeout))
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return events.HookUnreachable, err.Error()
}

// quote is the beginning of an answer's body on one line, with what stands before it.
func quote(body []byte) string {
	line := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(body[:min(len(body), maxHookQuote)]), ""))
	if line = strings.Join(strings.Fields(line), " "); line == "" {
		return ""
	}
	return ": " + line
}
