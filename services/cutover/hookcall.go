package cutover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/outbound"
)

const maxHookAnswer = 16 << 10 // of an answer's body; what is behind that is not read

// HookConfig says how hooks are called.
type HookConfig struct {
	// Secret is the secret from which the keys of all hooks follow, read for each call.
	// Nil, or an empty one: there is none, and a hook without a key of its own is not
	// called.
	Secret func() ([]byte, error)
	Own    func(namespace, hook string) (HookOwn, error) // what one hook has of its own; nil: nothing
	To     *outbound.Policy                              // whom hooks may call; nil: its default
}

// HookCaller calls the hooks of cutovers: POST of a HookCall, signed (see HookKey and
// HookSignature). It may be used by any number of goroutines.
//
// The headers of a call are Unitgate-Delivery, which is the same for every call of one
// hook of one cutover; Unitgate-Timestamp, in seconds of Unix time; and
// Unitgate-Hook-Signature, "v2=" and the HookSignature. A receiver compares the
// signature, refuses timestamps that are minutes away from its own clock, and takes a
// delivery that it knows for the same one. Unitgate-Signature ("v1=" and the Signature)
// is for receivers from before the second form: it is left out once a hook has a key of
// its own.
type HookCaller struct {
	cfg    HookConfig
	now    func() time.Time
	client *http.Client
}

// NewHookCaller makes a caller.
func NewHookCaller(cfg HookConfig) *HookCaller {
	return &HookCaller{cfg: cfg, now: time.Now, client: &http.Client{
		// A signed body goes where the configuration says and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     cfg.To.Transport(),
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

// Call calls a hook of a cutover in the journal of that epoch, for as long as the hook's
// timeout allows. The error is for the log of this process alone: why there is no answer,
// in the words of those who found out. The result, which every role reads in the journal,
// says nothing that a receiver chose to say (see hooktold.go).
func (h *HookCaller) Call(ctx context.Context, epoch string, o CallHook) (events.HookResult, error) {
	res := events.HookResult{Name: o.Hook.Name, On: o.Hook.On}
	begun := time.Now()
	said, err := h.call(ctx, hookCall(epoch, o), o)
	res.Status, res.Code, res.Message = said.status, said.code, said.message
	res.OK, res.Took = res.Code == "", events.Duration(time.Since(begun).Round(time.Microsecond))
	return res, err
}

// answered is what a result says of a call.
type answered struct {
	status        int
	code, message string
}

func (h *HookCaller) call(ctx context.Context, c HookCall, o CallHook) (answered, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.Hook.Timeout))
	defer cancel()
	req, err := h.request(ctx, c, o)
	if err != nil {
		return answered{code: events.HookNoSecret, message: "not called: " + err.Error()}, nil
	}
	answer, err := h.client.Do(req)
	if err != nil {
		return unanswered(ctx, o.Hook, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxHookAnswer))
	switch status := answer.StatusCode; {
	case status >= 300 && status < 400:
		return answered{status, events.HookRefused, line(status) + ": redirects are not followed, give the hook its final URL"}, nil
	case status < 200 || status > 299:
		t := answered{status, events.HookRefused, line(status)}
		if h.cfg.To.Names(req.URL.Hostname()) {
			t.message += quote(body)
		}
		return t, nil
	case err != nil: // it was cut off in the middle, or took too long
		t, err := unanswered(ctx, o.Hook, err)
		t.status = status
		return t, err
	default:
		return answered{status: status, message: line(status)}, nil
	}
}

// request is the signed call. The error says why it cannot be signed.
func (h *HookCaller) request(ctx context.Context, c HookCall, o CallHook) (*http.Request, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	s, err := h.sealing(c.Namespace, o.Hook)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the URL is none") // the configuration was checked: it cannot be
	}
	at := strconv.FormatInt(h.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "unitgate")
	req.Header.Set("Unitgate-Delivery", c.ID)
	req.Header.Set("Unitgate-Timestamp", at)
	req.Header.Set("Unitgate-Hook-Signature", "v2="+HookSignature(s.key, http.MethodPost, s.url, at, body))
	if len(s.shared) > 0 {
		req.Header.Set("Unitgate-Signature", "v1="+Signature(s.shared, at, body))
	}
	if t, ok := o.Cutover.Trace(); ok {
		req.Header.Set("Traceparent", t.Traceparent())
	}
	return req, nil
}
