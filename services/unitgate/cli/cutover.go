package cli

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/choria-io/fisk"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/cutover"
)

// cutoverCmd holds the flags and arguments of all cutover commands.
type cutoverCmd struct {
	*cli
	id, check, edge, reason string
	wait, watch, emergency  bool

	unitType, rate, steps string
	gate                  string
	drain, drainTo        string
	ranges, exact         []string
	exactAdd, exactRemove []string
	waves                 int
	interval              time.Duration
}

func (c *cli) addCutover(p parent) {
	x := &cutoverCmd{cli: c}
	group := p.Command("cutover", "Move users between units")
	group.Flag("jaeger", "Jaeger's web address; the trace's own is shown then").Envar("UNITGATE_JAEGER").PlaceHolder("URL").StringVar(&c.jaeger)

	preview := c.command(group, "preview", "Propose a cutover and show what it would move", x.preview)
	preview.Flag("range", "new slots of a unit; together these replace all ranges").PlaceHolder("UNIT=FROM-TO").StringsVar(&x.ranges)
	preview.Flag("exact", "new exact IDs of a unit; lists not named stay; @FILE: one a line, @- from standard input").PlaceHolder("UNIT=ID,ID").StringsVar(&x.exact)
	preview.Flag("exact-add", "exact IDs that a unit's list gets; likewise").PlaceHolder("UNIT=ID,ID").StringsVar(&x.exactAdd)
	preview.Flag("exact-remove", "exact IDs that a unit's list loses, so that their slots decide; likewise").PlaceHolder("UNIT=ID,ID").StringsVar(&x.exactRemove)
	preview.Flag("unit-type", "unit type; the first one if not given").PlaceHolder("NAME").StringVar(&x.unitType)
	preview.Flag("drain", "a unit to empty, instead of ranges and exact IDs").PlaceHolder("UNIT").StringVar(&x.drain)
	preview.Flag("drain-to", "who gets it all; the others in proportion to their slots if not given").PlaceHolder("UNIT").StringVar(&x.drainTo)
	addNumber(preview, "waves", "number of waves; as many as keep one wave's eviction under half of the hold time if not given", &x.waves)
	preview.Flag("steps", "percent of the moving users after each wave, instead of waves").PlaceHolder("1,10,50,100").StringVar(&x.steps)
	preview.Flag("interval", "least time between a wave's commit and the next one's fence").PlaceHolder("5m").DurationVar(&x.interval)
	preview.Flag("gate", "what must be true of a committed wave before the next one; none for none, the policy's if not given").PlaceHolder("landed=90,origin-errors=5").StringVar(&x.gate)
	preview.Flag("rate", "evictions a second and edge, evenly spaced, or max").PlaceHolder("N").StringVar(&x.rate)
	preview.Flag("reason", "goes into the journal").StringVar(&x.reason)

	drain := c.command(group, "drain", "Empty a unit: preview, prechecks and start in one", x.drainNow)
	drain.Arg("unit", "the unit").Required().StringVar(&x.drain)
	drain.Flag("to", "who gets it all; the others in proportion to their slots if not given").PlaceHolder("UNIT").StringVar(&x.drainTo)
	drain.Flag("unit-type", "unit type; the first one if not given").PlaceHolder("NAME").StringVar(&x.unitType)
	drain.Flag("rate", "evictions a second and edge, evenly spaced, or max").PlaceHolder("N").StringVar(&x.rate)
	drain.Flag("emergency", "the unit has failed: skip prechecks that fail, and its edges that say nothing, each on record").UnNegatableBoolVar(&x.emergency)
	drain.Flag("reason", "goes into the journal; an emergency needs one").StringVar(&x.reason)
	drain.Flag("wait", "wait for the end").UnNegatableBoolVar(&x.wait)

	x.verb(group, "check", "Run the prechecks", x.runChecks)
	x.verb(group, "retry", "Run one precheck again", x.retry).Arg("check", "the precheck").Required().StringVar(&x.check)
	skip := x.verb(group, "skip", "Do without a precheck, or without an edge's report", x.skip)
	skip.Arg("check", "the precheck").StringVar(&x.check)
	skip.Flag("edge", "an edge whose report the fenced wave shall not wait for").PlaceHolder("ID").StringVar(&x.edge)
	start := x.verb(group, "start", "Run missing prechecks, then fence, drain and commit", x.start)
	start.Flag("wait", "wait for the end").UnNegatableBoolVar(&x.wait)
	for _, v := range []struct{ name, help string }{
		{"pause", "Return the fenced wave to its owner and stop"},
		{"resume", "Go on with a paused cutover"},
		{"abort", "Return the fenced wave to its owner and end here; committed waves stay"},
	} {
		x.verb(group, v.name, v.help, func(ctx context.Context) error { return x.change(ctx, v.name, idOnly{x.id}) })
	}
	x.verb(group, "rollback", "Propose a cutover back; one with waves left to move ends here", x.rollback)
	x.verb(group, "show", "Show where a cutover stands", x.show).Flag("watch", "go on showing until it ends").UnNegatableBoolVar(&x.watch)
}

// verb adds a command about one cutover.
func (x *cutoverCmd) verb(p parent, name, help string, run func(context.Context) error) *fisk.CmdClause {
	cmd := x.command(p, name, help, run)
	cmd.Arg("id", "the cutover").Required().StringVar(&x.id)
	if name != "show" {
		cmd.Flag("reason", "goes into the journal").StringVar(&x.reason)
	}
	return cmd
}

// idOnly is the data of commands that need nothing but the cutover.
type idOnly struct {
	Cutover string `json:"cutover"`
}

// wanted is the data of cutover.preview. What people wrote goes to the control plane as it is: it says what is wrong.
type wanted struct {
	UnitType string              `json:"unitType,omitempty"`
	Ranges   map[string][]string `json:"ranges,omitempty"`
	Drain    string              `json:"drain,omitempty"`
	DrainTo  string              `json:"drainTo,omitempty"`
	Waves    int                 `json:"waves,omitempty"`
	Steps    []int               `json:"steps,omitempty"`
	Interval *events.Duration    `json:"interval,omitempty"`
	Rate     any                 `json:"rate,omitempty"`
	Gate     *events.Gate        `json:"gate,omitempty"`

	Emergency bool `json:"emergency,omitempty"`

	Exact            map[string][]string       `json:"exact,omitempty"`
	ExactDelta       map[string]routing.Packed `json:"exactDelta,omitempty"`
	ExactAdd         map[string][]string       `json:"exactAdd,omitempty"`
	ExactAddDelta    map[string]routing.Packed `json:"exactAddDelta,omitempty"`
	ExactRemove      map[string][]string       `json:"exactRemove,omitempty"`
	ExactRemoveDelta map[string]routing.Packed `json:"exactRemoveDelta,omitempty"`
}

func (x *cutoverCmd) preview(ctx context.Context) error {
	w := wanted{UnitType: x.unitType, Drain: x.drain, DrainTo: x.drainTo, Waves: x.waves}
	if x.interval != 0 {
		w.Interval = (*events.Duration)(&x.interval)
	}
	var err error
	if w.Steps, err = percentages(x.steps); err != nil {
		return err
	}
	if w.Gate, err = gateOf(x.gate); err != nil {
		return err
	}
	if w.Ranges, err = lists("--range", x.ranges); err != nil {
		return err
	}
	if w.Exact, w.ExactDelta, err = x.idLists("--exact", "exact", x.exact); err != nil {
		return err
	}
	if w.ExactAdd, w.ExactAddDelta, err = x.idLists("--exact-add", "exactAdd", x.exactAdd); err != nil {
		return err
	}
	if w.ExactRemove, w.ExactRemoveDelta, err = x.idLists("--exact-remove", "exactRemove", x.exactRemove); err != nil {
		return err
	}
	if w.Ranges == nil && len(x.exact)+len(x.exactAdd)+len(x.exactRemove) == 0 && w.Drain == "" {
		return usage("say what moves: --range UNIT=FROM-TO for every unit, --exact UNIT=ID (or --exact-add, --exact-remove), or --drain UNIT")
	}
	if w.Rate, err = pace(x.rate); err != nil {
		return err
	}
	return x.propose(ctx, "preview", w)
}

// pace reads --rate; nil if it is not given.
func pace(text string) (any, error) {
	if text == "" {
		return nil, nil
	}
	rate, err := events.ParseRate(text)
	if err != nil {
		return nil, usage("--rate: %w", err)
	}
	return rate, nil
}

// drainNow proposes the drain of a unit and starts it. Where prechecks fail and it is no emergency, the proposal stays.
func (x *cutoverCmd) drainNow(ctx context.Context) error {
	if x.emergency && x.reason == "" {
		return usage("an emergency needs a --reason: it goes into the journal with everything that is skipped for it")
	}
	rate, err := pace(x.rate)
	if err != nil {
		return err
	}
	b, ns, err := x.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	w := wanted{UnitType: x.unitType, Drain: x.drain, DrainTo: x.drainTo, Rate: rate, Emergency: x.emergency}
	if err := x.proposed(ctx, b, ns, "preview", w); err != nil {
		return err
	}
	if !x.json() {
		x.say("%s proposed: everything out of unit %s", x.id, x.drain)
	}
	return x.start(ctx)
}

// rollback shows the way back that it proposed.
func (x *cutoverCmd) rollback(ctx context.Context) error {
	return x.propose(ctx, "rollback", idOnly{x.id})
}

// propose sends a command that makes a cutover, and shows that.
func (x *cutoverCmd) propose(ctx context.Context, verb string, data any) error {
	b, ns, err := x.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	if err := x.proposed(ctx, b, ns, verb, data); err != nil {
		return err
	}
	raw, _, err := x.look(ctx, b, ns) // the same as the other commands show
	if err != nil {
		return err
	}
	return x.present(raw)
}

// proposed sends a command that makes a cutover, which x is about from then on.
func (x *cutoverCmd) proposed(ctx context.Context, b *bus, ns, verb string, data any) error {
	var made struct {
		ID string `json:"id"`
	}
	o, err := b.do(ctx, ns, "cutover", verb, x.reason, data)
	if err == nil {
		err = json.Unmarshal(o.Data, &made)
	}
	x.id = made.ID
	return err
}

// percentages reads "1,10,50,100". Whether they rise to 100 the control plane says.
func percentages(list string) ([]int, error) {
	if list == "" {
		return nil, nil
	}
	var out []int
	for item := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSuffix(item, "%"))
		if err != nil {
			return nil, usage("--steps %q: want percentages with commas between them: 1,10,50,100", list)
		}
		out = append(out, n)
	}
	return out, nil
}

// lists reads UNIT=A,B flags; those of one unit add up. "UNIT=" is an empty list.
func lists(flag string, values []string) (map[string][]string, error) {
	var m map[string][]string
	for _, v := range values {
		unit, list, ok := strings.Cut(v, "=")
		if !ok || unit == "" {
			return nil, usage("%s %q: want UNIT=…", flag, v)
		}
		if m == nil {
			m = map[string][]string{}
		}
		if m[unit] == nil {
			m[unit] = []string{}
		}
		for item := range strings.SplitSeq(list, ",") {
			if item != "" || strings.Contains(list, ",") {
				m[unit] = append(m[unit], item)
			}
		}
	}
	return m, nil
}

// open connects and finds the namespace.
func (c *cli) open(ctx context.Context) (*bus, string, error) {
	b, err := c.connect()
	if err != nil {
		return nil, "", err
	}
	ns, err := b.name(ctx)
	if err != nil {
		b.close()
		return nil, "", err
	}
	return b, ns, nil
}

// change sends one command about the cutover and shows where it stands then.
func (x *cutoverCmd) change(ctx context.Context, verb string, data any) error {
	_, err := x.changed(ctx, verb, data)
	return err
}

// changed is change; it also returns what it has shown.
func (x *cutoverCmd) changed(ctx context.Context, verb string, data any) (cutover.View, error) {
	b, ns, err := x.open(ctx)
	if err != nil {
		return cutover.View{}, err
	}
	defer b.close()
	if _, err := b.do(ctx, ns, "cutover", verb, x.reason, data); err != nil {
		return cutover.View{}, err
	}
	raw, v, err := x.look(ctx, b, ns)
	if err != nil {
		return v, err
	}
	return v, x.present(raw)
}

// look asks where the cutover stands.
func (x *cutoverCmd) look(ctx context.Context, b *bus, ns string) (json.RawMessage, cutover.View, error) {
	var raw json.RawMessage
	var v cutover.View
	err := b.ask(ctx, ns, "cutover", "show", idOnly{x.id}, &raw)
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	return raw, v, err
}

// runChecks fails, after it has shown what was measured, if a precheck fails unskipped.
func (x *cutoverCmd) runChecks(ctx context.Context) error {
	v, err := x.changed(ctx, "check", idOnly{x.id})
	if err != nil {
		return err
	}
	return failed(v, "")
}

func (x *cutoverCmd) retry(ctx context.Context) error {
	v, err := x.changed(ctx, "retry", struct {
		idOnly
		Check string `json:"check"`
	}{idOnly{x.id}, x.check})
	if err != nil {
		return err
	}
	return failed(v, x.check)
}

// failed tells of the prechecks that failed unskipped; only restricts them to one, unless it is "".
func failed(v cutover.View, only string) error {
	var why []string
	for _, k := range v.Checks {
		if k.State == events.Fail && (only == "" || k.ID == only) {
			why = append(why, k.ID+": "+k.Message)
		}
	}
	if why == nil {
		return nil
	}
	return shown{events.ErrPrecheckFailed.With("cutover %s cannot start: %s", v.ID, strings.Join(why, "; "))}
}

func (x *cutoverCmd) skip(ctx context.Context) error {
	if (x.check == "") == (x.edge == "") {
		return usage("name the precheck, or the edge with --edge ID")
	}
	return x.change(ctx, "skip", struct {
		idOnly
		Check string `json:"check,omitempty"`
		Edge  string `json:"edge,omitempty"`
	}{idOnly{x.id}, x.check, x.edge})
}

// present prints a cutover: its JSON as the control plane gave it, or for people.
func (x *cutoverCmd) present(raw json.RawMessage) error {
	if x.json() {
		return x.document(raw)
	}
	var v cutover.View
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	x.describe(v)
	return nil
}
