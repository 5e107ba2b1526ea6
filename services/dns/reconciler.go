package dns

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libdns/libdns"

	"github.com/unitgate/unitgate/events"
)

const (
	lookEvery  = time.Minute // at zones that nothing has asked to change
	onceWait   = 30 * time.Second
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// States is where the state is read: projector.Projector is one.
type States interface {
	State() *events.State
	Changed() <-chan struct{} // closed when State changes
}

// Reconciler keeps the zones of one namespace as its active domains want them.
type Reconciler struct {
	namespace string
	states    States
	providers map[string]Provider
	leading   func() bool // only one process of a namespace writes
	log       *slog.Logger

	mu     sync.Mutex         // guards what follows
	failed map[string]string  // zone -> why it was not brought up to date, as last logged
	zones  map[[2]string]bool // provider and zone: has been wanted since this process started, so that something may be left there
}

// New makes a Reconciler; Run starts it.
func New(namespace string, states States, providers map[string]Provider, leading func() bool, log *slog.Logger) *Reconciler {
	return &Reconciler{namespace: namespace, states: states, providers: providers, leading: leading, log: log, failed: map[string]string{}, zones: map[[2]string]bool{}}
}

// Run reconciles after every change of the state and every minute, as long as this process leads, until ctx ends. After a
// failure it tries again, later each time.
func (r *Reconciler) Run(ctx context.Context) {
	retry := firstRetry
	seen := uint64(0)
	for {
		changed := r.states.Changed()
		wait := time.Second // for the office, when this process does not lead
		if r.leading() {
			s := r.states.State()
			if s.ConfigVersion != seen {
				retry = firstRetry
			}
			seen = s.ConfigVersion
			if r.Reconcile(ctx, s) {
				retry, wait = firstRetry, lookEvery
			} else {
				wait = retry/2 + rand.N(retry)
				retry = min(2*retry, lastRetry)
			}
		}
		for again := true; again; { // a state that changed no configuration asks for nothing
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
				again = false
			case <-changed:
				changed = r.states.Changed()
				again = r.states.State().ConfigVersion == seen
			}
		}
	}
}

// Reconcile looks at every zone once and mends what it may. It reports whether all is as it should be, foreign names and
// problems of the configuration apart, which only people can mend.
func (r *Reconciler) Reconcile(ctx context.Context, s *events.State) bool {
	ok := true
	for _, z := range r.withFormer(Want(s)) {
		err := r.zone(ctx, z)
		if err != nil {
			ok = false
		}
		r.note(z, err)
	}
	return ok
}

// withFormer adds zones in which nothing is wanted any more, until they have been cleaned up.
func (r *Reconciler) withFormer(want []Zone) []Zone {
	r.mu.Lock()
	defer r.mu.Unlock()
	former := maps.Clone(r.zones)
	for _, z := range want {
		key := [2]string{z.Provider, z.Name}
		r.zones[key] = true
		delete(former, key)
	}
	for key := range former {
		want = append(want, Zone{Provider: key[0], Name: key[1]})
	}
	return want
}

// note logs what has changed.
func (r *Reconciler) note(z Zone, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	why := ""
	if err != nil {
		why = err.Error()
	}
	switch was := r.failed[z.Name]; {
	case was == why:
	case why == "":
		r.log.Info("DNS zone is up to date again", "zone", z.Name)
	default:
		r.log.Warn("DNS zone is not up to date, trying again", "zone", z.Name, "provider", z.Provider, "err", why)
	}
	r.failed[z.Name] = why
	if why == "" && len(z.Sets)+len(z.Problems) == 0 {
		delete(r.zones, [2]string{z.Provider, z.Name})
		delete(r.failed, z.Name)
	}
}

func (r *Reconciler) zone(ctx context.Context, z Zone) error {
	ctx, cancel := context.WithTimeout(ctx, onceWait)
	defer cancel()
	p, ok := r.providers[z.Provider]
	if !ok {
		return fmt.Errorf("provider %s: %w", z.Provider, errNoProvider)
	}
	records, err := p.GetRecords(ctx, z.Name+".")
	if err != nil {
		return fmt.Errorf("read the zone: %w", err)
	}
	for _, d := range Compare(r.namespace, z, records) {
		c, ok := changeOf(r.namespace, z.Name, d)
		if !ok {
			continue
		}
		if err := apply(ctx, p, z.Name+".", c); err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
		r.log.Info("DNS name published", "zone", z.Name, "name", d.Name, "was", d.State, "wanted", d.Wanted, "before", d.There)
	}
	return nil
}

func apply(ctx context.Context, p Provider, zone string, c change) error {
	var err error
	step := func(what string, f func(context.Context, string, []libdns.Record) ([]libdns.Record, error), records ...libdns.Record) {
		if err == nil && len(records) > 0 {
			if _, err = f(ctx, zone, records); err != nil {
				err = fmt.Errorf("%s: %w", what, err)
			}
		}
	}
	if c.Marker != nil {
		step("set the marker", p.SetRecords, *c.Marker)
	}
	step("delete records", p.DeleteRecords, c.Delete...)
	step("set records", p.SetRecords, c.Set...)
	if c.Unmark != nil {
		step("delete the marker", p.DeleteRecords, *c.Unmark)
	}
	return err
}

// Standing is how one zone stands at this moment.
type Standing struct {
	Zone
	Names []Difference `json:"names"`
	Error string       `json:"error,omitempty"` // why it cannot be said: Names is empty then
}

// Show asks the providers how every zone stands, and changes nothing.
func (r *Reconciler) Show(ctx context.Context, s *events.State) []Standing {
	zones := Want(s)
	out := make([]Standing, len(zones))
	var all sync.WaitGroup
	for i, z := range zones {
		all.Go(func() {
			out[i] = Standing{Zone: z, Names: []Difference{}}
			p, ok := r.providers[z.Provider]
			if !ok {
				out[i].Error = fmt.Sprintf("provider %s: %v; known here: %v", z.Provider, errNoProvider, slices.Sorted(maps.Keys(r.providers)))
				return
			}
			records, err := p.GetRecords(ctx, z.Name+".")
			if err != nil {
				out[i].Error = err.Error()
				return
			}
			out[i].Names = Compare(r.namespace, z, records)
		})
	}
	all.Wait()
	return out
}
