package command

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// Who gives up after a sending that was not answered says what the last answer was.
func TestGivingUpSaysWhy(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // so that it looks nowhere
	talk := &talk{entity: "cutover", verb: "preview", id: "an-id", unanswered: 1}
	_, err := talk.give(ctx, Outcome{Error: ErrUnavailable.With("no space left on device")}, nil)
	if !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), "an-id") {
		t.Errorf("%v", err)
	}
}
