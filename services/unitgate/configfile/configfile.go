// Package configfile reads YAML config files into events.Configs, strictly: unknown and doubled keys, wrong types, anchors
// and tags are errors, and every error knows its line. A file holds one namespace, or several as YAML documents with a
// line `---` between them; lines are counted through the whole file.
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

	// maxDocuments bounds the namespaces of one file.
	maxDocuments = 256
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

// File is one namespace of a config file that was read without an error.
type File struct {
	Name   string // of the file
	Config events.Config
	root   *yaml.Node // the document's value
}

// Read reads the file with this name, or stdin if it is "-": one namespace or several, in the file's order. Errors are
// those of ParseAll and of the file system.
func Read(name string, stdin io.Reader) ([]*File, error) {
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
	return ParseAll(name, data)
}

// Parse is ParseAll where there can be one namespace only.
func Parse(name string, data []byte) (*File, error) {
	files, err := ParseAll(name, data)
	if err != nil {
		return nil, err
	}
	return Single(files)
}

// Single is the only one of a file's namespaces; the error names the second one.
func Single(files []*File) (*File, error) {
	if len(files) > 1 {
		f := files[1]
		return nil, f.at(f.root.Line, ErrBadYAML.With("a second namespace begins here, and only one can be used"))
	}
	return files[0], nil
}

// ParseAll reads a config file's content; name is for errors, which are *Error. What a config refers to and whether its
// rules are complete is not looked at: that is events.PlanConfig's work, whose errors Locate gives their place. Documents
// with nothing but comments are skipped; without an error there is at least one namespace, and none is there twice.
func ParseAll(name string, data []byte) ([]*File, error) {
	whole := &File{Name: name}
	if len(data) > MaxSize {
		return nil, whole.at(0, events.ErrTooLarge.With("the file has more than %d MiB", MaxSize>>20))
	}
	var files []*File
	begins := map[string]int{} // namespace -> line
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF) && len(files) == 0:
			return nil, whole.at(0, events.ErrMissingField.With("the file is empty: a config names at least its namespace").At("namespace"))
		case errors.Is(err, io.EOF):
			return files, nil
		case err != nil:
			return nil, whole.syntax(err)
		case len(files) == maxDocuments:
			return nil, whole.at(doc.Line, events.ErrTooLarge.With("the file has more than %d namespaces", maxDocuments))
		case empty(&doc):
			continue
		}
		f := &File{Name: name, root: doc.Content[0]}
		if err := f.read(); err != nil {
			return nil, err
		}
		if line, ok := begins[f.Config.Namespace]; ok {
			return nil, f.Locate(events.ErrDuplicateName.With("the namespace %q stands in line %d already", f.Config.Namespace, line).At("namespace"))
		}
		at, _ := f.find("namespace")
		begins[f.Config.Namespace] = at.Line
		files = append(files, f)
	}
}

// empty reports whether a document holds nothing but comments.
func empty(doc *yaml.Node) bool {
	return len(doc.Content) == 0 || doc.Content[0].ShortTag() == "!!null" && doc.Content[0].Value == ""
}

// read fills Config from the nodes, and checks under which namespace the rest is to be understood.
func (f *File) read() error {
	if err := f.decode(); err != nil {
		return err
	}
	return f.located(events.CheckID(f.Config.Namespace, "namespace"))
}

// located is Locate of what may be no error.
func (f *File) located(err error) error {
	if err == nil {
		return nil
	}
	return f.Locate(err)
}

// decode fills Config from the nodes.
func (f *File) decode() error {
	j, err := f.json(nil)
	if err != nil {
		return err
	}
	err = events.DecodeStrict(j, &f.Config)
	var e *events.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e) && e.Field == "":
		return f.at(f.root.Line, e) // the document as a whole
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
	if e.Field == "base" { // the version planned against stands in no file
		field = ""
	}
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
