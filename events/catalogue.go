package events

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// entry ties a command's names to its type and to the event that it makes.
type entry struct {
	entity, verb, past string
	internal           bool // only the control plane's own processes may give it
	command            Command
	bound              Bound // of one from outside
}

// entries is the catalogue of commands: the entities and verbs of the subjects.
func entries() []entry {
	return []entry{
		{"namespace", "create", "created", false, CreateNamespace{}, partBound},
		{"config", "apply", "applied", false, ApplyConfig{}, bulkBound},
		{"unit", "put", "put", false, PutUnit{}, lineBound},
		{"cluster", "put", "put", false, PutCluster{}, partBound},
		{"loadbalancer", "put", "put", false, PutLoadBalancer{}, lineBound},
		{"domain", "put", "put", false, PutDomain{}, domainBound},
		{"domain", "activate", "activated", false, ActivateDomain{}, lineBound},
		{"domain", "deactivate", "deactivated", false, DeactivateDomain{}, lineBound},
		{"domain", "remove", "removed", false, RemoveDomain{}, lineBound},
		{"unit", "remove", "removed", false, RemoveUnit{}, lineBound},
		{"cluster", "remove", "removed", false, RemoveCluster{}, lineBound},
		{"loadbalancer", "remove", "removed", false, RemoveLoadBalancer{}, lineBound},
		{"rules", "init", "initialized", false, InitRules{}, bulkBound},
		{"edge", "join", "joined", false, JoinEdge{}, edgeBound},
		{"edge", "leave", "left", false, LeaveEdge{}, edgeBound},
		{"edge", "retire", "retired", false, RetireEdge{}, lineBound},
		{"driver", "takeoffice", "tookoffice", true, TakeOffice{}, Bound{}},
		{"cutover", "preview", "proposed", false, PreviewCutover{}, bulkBound},
		{"cutover", "check", "checked", false, CheckCutover{}, lineBound},
		{"cutover", "retry", "retried", false, RetryCheck{}, lineBound},
		{"cutover", "skip", "skipped", false, SkipCheck{}, lineBound},
		{"cutover", "start", "started", false, StartCutover{}, lineBound},
		{"cutover", "pause", "paused", false, PauseCutover{}, lineBound},
		{"cutover", "resume", "resumed", false, ResumeCutover{}, lineBound},
		{"cutover", "abort", "aborted", false, AbortCutover{}, lineBound},
		{"wave", "fence", "fenced", true, FenceWave{}, Bound{}},
		{"wave", "commit", "committed", true, CommitWave{}, Bound{}},
		{"cutover", "rollback", "rolledback", false, RollbackCutover{}, lineBound},
		{"wave", "judge", "judged", true, JudgeWave{}, Bound{}},
		{"cutover", "complete", "completed", true, CompleteCutover{}, Bound{}},
		{"command", "refuse", "refused", true, RefuseCommand{}, Bound{}},
		{"cutover", "fail", "failed", true, FailCutover{}, Bound{}},
		{"cutover", "hook", "hooked", true, RecordHook{}, Bound{}},
		{"cutover", "report", "reported", true, ReportCutover{}, Bound{}},
		{"ownership", "establish", "established", true, EstablishOwnership{}, Bound{}},
	}
}

// Name is where a command stands in the subjects: its entity, its verb, and the verb of its event.
type Name struct{ Entity, Verb, Past string }

// NameOf is the name of a command.
func NameOf(c Command) Name {
	t := reflect.TypeOf(c)
	for _, e := range entries() {
		if reflect.TypeOf(e.command) == t {
			return Name{e.entity, e.verb, e.past}
		}
	}
	panic(fmt.Sprintf("events: %T is not in the catalogue", c))
}

// Names are the commands that come from outside.
func Names() []Name {
	var out []Name
	for _, e := range entries() {
		if !e.internal {
			out = append(out, Name{e.entity, e.verb, e.past})
		}
	}
	return out
}

// FindName is the name of a command that comes from outside, and whether there is one.
func FindName(entity, verb string) (Name, bool) {
	for _, n := range Names() {
		if n.Entity == entity && n.Verb == verb {
			return n, true
		}
	}
	return Name{}, false
}

// DecodeCommand reads a command's data strictly: unknown or doubled keys and wrong types are errors that name the field, and
// so is what exceeds the command's bound. Commands that belong to the driver are not accepted. Errors are *Error.
func DecodeCommand(entity, verb string, data []byte) (Command, error) {
	for _, e := range entries() {
		if e.entity != entity || e.verb != verb || e.internal {
			continue
		}
		if err := e.bound.CheckSize(entity, verb, len(data)); err != nil {
			return nil, err
		}
		data, err := e.bound.unpack(entity, verb, data)
		if err != nil {
			return nil, err
		}
		v := reflect.New(reflect.TypeOf(e.command))
		if err := decodeStrict(data, v.Interface(), maxCommand); err != nil {
			return nil, err
		}
		return v.Elem().Interface().(Command), nil
	}
	return nil, ErrBadCommand.With("there is no command %s.%s", entity, verb)
}

// eventTypes are all events, by their name on the wire.
func eventTypes() map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for _, e := range []Event{
		NamespaceCreated{}, ConfigApplied{}, UnitPut{}, ClusterPut{}, LoadBalancerPut{}, DomainPut{}, DomainActivated{},
		DomainRemoved{}, RulesInitialized{}, EdgeJoined{}, EdgeLeft{}, EdgeRetired{}, DriverTookOffice{},
		CutoverProposed{}, CutoverChecked{}, CutoverSkipped{}, CutoverStarted{}, CutoverPaused{}, CutoverResumed{},
		CutoverAborted{}, WaveFenced{}, WaveCommitted{}, CutoverCompleted{},
		CutoverRolledBack{}, WaveJudged{}, CutoverFailed{}, HookCalled{}, CutoverReported{}, OwnershipEstablished{}, CommandRefused{},
		DomainDeactivated{}, UnitRemoved{}, ClusterRemoved{}, LoadBalancerRemoved{},
	} {
		m[reflect.TypeOf(e).Name()] = reflect.TypeOf(e)
	}
	return m
}

var wireTypes = eventTypes() // read-only

// NewRecord is the record that stores what env's command led to, as the successor of s. Seq and Prev follow from s.
// The error is ErrTooLarge.
func NewRecord(s *State, env Envelope, e Event, now time.Time) (Record, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return Record{}, fmt.Errorf("encode %T: %w", e, err)
	}
	if len(data) > maxUnpacked { // it may pack well, and nobody would unpack it
		return Record{}, ErrTooLarge.With("the event would have %d bytes before it is packed, at most %d are allowed", len(data), maxUnpacked)
	}
	if data = Pack(data); len(data) > MaxEventSize {
		return Record{}, ErrTooLarge.With("the event would have %d bytes, at most %d are allowed", len(data), MaxEventSize)
	}
	name := NameOf(env.Command)
	return Record{
		Seq: s.Seq + 1, Entity: name.Entity, Verb: name.Past, CommandID: env.ID,
		Type: reflect.TypeOf(e).Name(), Schema: SchemaVersion, Time: now.UTC(),
		Actor: env.Actor, Reason: env.why(), Traceparent: env.Traceparent, Prev: s.Chain, Data: data,
	}, nil
}

// Event decodes the record. Unknown types and newer schemas are errors: a reader that does not understand an event
// must stop, not skip it.
func (r *Record) Event() (Event, error) {
	t, ok := wireTypes[r.Type]
	if !ok {
		return nil, fmt.Errorf("record %d: unknown event type %q: a newer version wrote it", r.Seq, r.Type)
	}
	if r.Schema != SchemaVersion {
		return nil, fmt.Errorf("record %d: schema %d of %s, this version knows %d", r.Seq, r.Schema, r.Type, SchemaVersion)
	}
	v := reflect.New(t)
	data, err := Unpack(r.Data)
	if err == nil {
		err = json.Unmarshal(data, v.Interface())
	}
	if err != nil {
		return nil, fmt.Errorf("record %d: %s: %w", r.Seq, r.Type, err)
	}
	return v.Elem().Interface().(Event), nil
}
