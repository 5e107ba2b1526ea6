package command

import (
	"errors"
	"testing"

	"github.com/unitgate/unitgate/events"
)

// What nobody carries out is refused at the door, with the field that asks for it.
func TestUnsupported(t *testing.T) {
	exclusive, gate := "exclusive", events.Gate{Landed: 90}
	for field, c := range map[string]events.Command{
		"config.policy.gate": events.ApplyConfig{Config: events.Config{Policy: &events.PolicyPatch{Gate: &gate}}},
		"gate":               events.PreviewCutover{Gate: &gate},
	} {
		var e *events.Error
		if err := unsupported(c); !errors.As(err, &e) || e.Code != events.ErrUnsupported.Code || e.Field != field || e.Message == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	available := "available"
	for _, c := range []events.Command{
		events.PreviewCutover{Drain: "unbj", Steps: []int{1, 100}}, events.CreateNamespace{},
		events.CreateNamespace{Policy: &events.PolicyPatch{Ownership: &exclusive}},
		events.ApplyConfig{Config: events.Config{Policy: &events.PolicyPatch{Ownership: &available, Gate: &events.Gate{}}, Hooks: &[]events.Hook{{Name: "page"}}}},
	} {
		if err := unsupported(c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
