package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
	"github.com/unitgate/unitgate/services/unitgate/reader"
	"github.com/unitgate/unitgate/services/unitgate/slb"
)

// Failures of the way to the system, next to those of package command.
var (
	errNoNATS = &events.Error{Code: "no_nats"}
	errUsage  = &events.Error{Code: "usage"}
	errDenied = &events.Error{Code: "denied"} // by the permissions of NATS
)

func usage(format string, args ...any) error {
	return errUsage.With("%s", fmt.Errorf(format, args...).Error())
}

// shown is an error whose command has printed its JSON document all the same.
type shown struct{ error }

func (s shown) Unwrap() error { return s.error }

// failure is an error as it is printed.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Hint    string `json:"hint,omitempty"`
	exit    int
}

func failureOf(err error) failure {
	f := failure{Code: "failed", Message: err.Error(), exit: exitFailed}
	var e *events.Error
	if !errors.As(err, &e) {
		return f
	}
	f = failure{Code: e.Code, Message: e.Message, Field: e.Field, Hint: hint(e.Code), exit: exitOf(e)}
	var inFile *configfile.Error
	if errors.As(err, &inFile) {
		f.File, f.Line = inFile.File, inFile.Line
	}
	return f
}

// exitOf tells a rejection, after which a repetition is rejected again, from a failure and a wrong use.
func exitOf(e *events.Error) int {
	switch e.Code {
	case errUsage.Code:
		return exitUsage
	case errNoNATS.Code, "failed", "internal", command.ErrNoController.Code, command.ErrNoAnswer.Code, command.ErrUnavailable.Code,
		command.ErrBusy.Code, command.ErrStopped.Code, errEnded.Code, reader.ErrBroken.Code, errSilentEdges.Code, slb.ErrSource.Code, errNoOutcome.Code, errPartly.Code:
		return exitFailed
	default:
		return exitRejected
	}
}

// report prints how a command ended and returns the exit code.
func (c *cli) report(err error) int {
	if err == nil {
		return exitDone
	}
	if code, ok := errors.AsType[ended](err); ok {
		return int(code)
	}
	f := failureOf(err)
	place := ""
	if f.File != "" {
		place = f.File + ": "
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d: ", f.File, f.Line)
		}
	}
	if f.Field != "" {
		place += f.Field + ": "
	}
	fmt.Fprintf(c.err, "unitgate: %s: %s%s\n", f.Code, place, f.Message)
	if f.Hint != "" {
		fmt.Fprintf(c.err, "  %s\n", f.Hint)
	}
	if c.json() && !errors.As(err, new(shown)) {
		_ = c.document(map[string]failure{"error": f}) // stdout is gone: the exit code tells
	}
	return f.exit
}

// document prints the command's one JSON document.
func (c *cli) document(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// line prints one of several JSON documents.
func (c *cli) line(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}
