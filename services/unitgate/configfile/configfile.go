// Package configfile reads the YAML config file of a namespace into an events.Config, strictly: unknown and doubled keys,
// wrong types, anchors, tags and further documents are errors, and every error knows its line.
//
// The file is read as plain data: only whole decimal numbers and true and false have a type, everything else is the text
// as it stands there. So `0-5997`, `12:30` and `2026-01-02` are what they look like, never times or octal numbers.
//
// Nothing here has state of its own; a File is immutable and safe for concurrent use.
package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/unitgate/unitgate/events"
)

const (
	// MaxSize bounds a config file, in bytes.
	MaxSize = 16 << 20

	// maxDepth bounds the nesting; the deepest value that a config has is at 6.
	maxDepth = 32
)

// What is wrong with a file as YAML. What is wrong with its content are errors of package events.
var ErrBadYAML = &events.Error{Code: "bad_yaml"} // not YAML, or YAML that a config file may not use

// Error is an error with its place in the file.
type Error struct {
	Cause *events.Error // Field is the path into the config
	File  string
	Line  int // counted from 1; 0: no single line
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Cause.Error()
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Cause.Error())
}

// Unwrap gives the error without its place.
func (e *Error) Unwrap() error { return e.Cause }

// File is a config file that was read without an error.
type File struct {
	Name   string
	Config events.Config
	root   *yaml.Node // the document's value
}

// Read reads the file with this name, or stdin if it is "-". Errors are those of Parse and of the file system.
func Read(name string, stdin io.Reader) (*File, error) {
	in := stdin
	if name == "-" {
		name = "stdin"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return Parse(name, data)
}

// Parse reads a config file's content; name is for errors, which are *Error. What the config refers to and whether its
// rules are complete is not looked at: that is events.PlanConfig's work, whose errors Locate gives their place.
func Parse(name string, data []byte) (*File, error) {
	f := &File{Name: name}
	if len(data) > MaxSize {
		return nil, f.at(0, events.ErrTooLarge.With("the file has more than %d MiB", MaxSize>>20))
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, f.syntax(err)
	}
	if len(doc.Content) == 0 {
		return nil, f.at(0, events.ErrMissingField.With("the file is empty: a config names at least its namespace").At("namespace"))
	}
	f.root = doc.Content[0]
	if err := f.single(dec); err != nil {
		return nil, err
	}
	if err := f.decode(); err != nil {
		return nil, err
	}
	if err := events.CheckID(f.Config.Namespace, "namespace"); err != nil {
		return nil, f.Locate(err)
	}
	return f, nil
}

// single refuses further documents.
func (f *File) single(dec *yaml.Decoder) error {
	var more yaml.Node
	err := dec.Decode(&more)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return f.syntax(err)
	}
	return f.at(more.Line, ErrBadYAML.With("a second document begins here: a file holds one namespace"))
}

// decode fills Config from the nodes.
func (f *File) decode() error {
	j, err := f.json(nil)
	if err != nil {
		return err
	}
	err = events.DecodeStrict(j, &f.Config)
	if err == nil {
		return nil
	}
	return f.Locate(f.hint(err))
}

// hint says more about a plain number or truth value that stands where text is wanted: what the config would say of it
// in quotes decides.
func (f *File) hint(err error) error {
	var e *events.Error
	if !errors.As(err, &e) || e.Code != events.ErrBadType.Code {
		return err
	}
	n, exact := f.find(e.Field)
	if !exact || !typed(n) {
		return err
	}
	j, jerr := f.json(n)
	if jerr != nil {
		return err
	}
	var quoted *events.Error
	if errors.As(events.DecodeStrict(j, new(events.Config)), &quoted) && quoted.Field == e.Field {
		if quoted.Code == e.Code {
			return err // it is wrong as text, too
		}
		return quoted
	}
	return e.With("%s is not a string: quote it, %q", n.Value, n.Value).At(e.Field)
}

// Locate adds file and line to what is wrong with this config: an error of PlanConfig, or of the control plane for a
// config.apply with it. Other errors are returned as they are.
func (f *File) Locate(err error) error {
	var e *events.Error
	if !errors.As(err, &e) {
		return err
	}
	field := strings.TrimPrefix(e.Field, "config.")
	line := 0
	if field != "" {
		n, _ := f.find(field)
		line = n.Line
	}
	return f.at(line, e.At(field))
}

func (f *File) at(line int, e *events.Error) *Error {
	return &Error{Cause: e, File: f.Name, Line: line}
}

var yamlLine = regexp.MustCompile(`^line (\d+): (.*)$`)

// syntax gives an error of the YAML parser its line.
func (f *File) syntax(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1]) // digits; one too long is no line
		text = m[2]
	}
	return f.at(line, ErrBadYAML.With("%s", text))
}
