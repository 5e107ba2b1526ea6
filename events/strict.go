package events

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/unitgate/unitgate/events/routing"
)

// DecodeStrict reads one JSON value into the struct that into points to. Unlike encoding/json it refuses unknown keys,
// keys in another case, doubled keys, null and anything behind the value, and names the field of what is wrong.
// Text that is no UTF-8 is refused too: encoding/json would store something else than was sent. Nothing is copied or made
// before all of it was found good and within the bounds of bounds.go.
// Errors are *Error. On an error *into is unchanged.
func DecodeStrict(data []byte, into any) error { return decodeStrict(data, into, maxDecoded) }

// decodeStrict is DecodeStrict for a value of at most so many bytes of memory, see strict.spend.
func decodeStrict(data []byte, into any, most int) error {
	if !utf8.Valid(data) {
		return ErrBadCommand.With("not JSON: the text is no UTF-8")
	}
	t := reflect.TypeOf(into).Elem()
	s := strict{data: data, most: most, fields: map[reflect.Type]*fieldSet{}}
	if err := s.whole(t); err != nil {
		return err
	}
	v := reflect.New(t)
	if err := json.Unmarshal(data, v.Interface()); err != nil {
		return ErrBadCommand.With("%v", err)
	}
	reflect.ValueOf(into).Elem().Set(v.Elem())
	return nil
}

// strict checks JSON against a type. It goes over the text once. One goroutine uses it.
type strict struct {
	data   []byte
	pos    int    // of the next byte
	path   []step // to the value that is being read
	spent  int    // bytes of memory that what was read takes, about
	most   int    // of them
	fields map[reflect.Type]*fieldSet
}

// step is one step of a path: a key, or an index.
type step struct {
	key   string // "": an index, or the empty key
	index int    // -1: a key
}

// at names the field that is being read.
func (s *strict) at() string {
	path := ""
	for _, p := range s.path {
		if p.index >= 0 {
			path += "[" + strconv.Itoa(p.index) + "]"
		} else {
			path = join(path, p.key)
		}
	}
	return path
}

func (s *strict) notJSON(why string) error { return ErrBadCommand.With("not JSON: %s", why).At(s.at()) }

// spend counts memory: what lists, objects and texts take when they are made of the JSON. `{}` may become a structure of
// a hundred bytes, and an object of one key a map of four hundred.
func (s *strict) spend(n int) error {
	if s.spent += n; s.spent > s.most {
		return ErrTooLarge.With("what it decodes to takes more than %d bytes of memory: send less at a time", s.most).At(s.at())
	}
	return nil
}

func (s *strict) whole(t reflect.Type) error {
	if err := s.value(t); err != nil {
		return err
	}
	if s.space(); s.pos < len(s.data) {
		return ErrBadCommand.With("something follows the value")
	}
	return nil
}

// The interfaces that types read themselves by.
var (
	jsonReader = reflect.TypeFor[json.Unmarshaler]()
	textReader = reflect.TypeFor[encoding.TextUnmarshaler]()
	rawJSON    = reflect.TypeFor[json.RawMessage]()
	originList = reflect.TypeFor[Origins]()
)

func (s *strict) value(t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
		if err := s.spend(int(t.Size())); err != nil {
			return err
		}
	}
	s.space()
	if s.isNull() {
		return ErrBadType.With("null is no value: leave the key out").At(s.at())
	}
	switch own := reflect.PointerTo(t); {
	case t == rawJSON:
		raw, err := s.raw()
		if err != nil {
			return err
		}
		return s.spend(len(raw))
	case own.Implements(jsonReader):
		return s.own(t)
	case own.Implements(textReader):
		return s.text(t)
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.object(t, s.fieldsOf(t))
	case reflect.Map:
		return s.object(t, nil)
	case reflect.Slice:
		return s.list(t.Elem())
	default:
		return s.scalar(t)
	}
}

// raw is the value that begins here.
func (s *strict) raw() ([]byte, error) {
	begin := s.pos
	if err := s.skip(0); err != nil {
		return nil, err
	}
	return s.data[begin:s.pos], nil
}

// own has a type read its JSON.
func (s *strict) own(t reflect.Type) error {
	raw, err := s.raw()
	if err != nil {
		return err
	}
	if err := reflect.New(t).Interface().(json.Unmarshaler).UnmarshalJSON(raw); err != nil {
		return ErrBadValue.With("%v", err).At(s.at())
	}
	return s.spend(len(raw))
}

// text has a type read its text.
func (s *strict) text(t reflect.Type) error {
	raw, err := s.raw()
	if err != nil {
		return err
	}
	if raw[0] != '"' {
		return s.mismatch(raw, reflect.String)
	}
	takes := len(raw) // and a packed list no more
	if t == originList {
		takes += bytes.Count(raw, []byte(",")) * int(t.Elem().Size()) // `,,,` is three empty ones
	}
	if err := s.spend(takes); err != nil {
		return err
	}
	err = reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText(unquote(raw))
	switch {
	case errors.Is(err, routing.ErrBadRange):
		return ErrBadRange.With("%v", err).At(s.at())
	case err != nil:
		return ErrBadValue.With("%v", err).At(s.at())
	}
	return nil
}

func (s *strict) scalar(t reflect.Type) error {
	raw, err := s.raw()
	if err != nil {
		return err
	}
	var ok bool
	switch t.Kind() {
	case reflect.String:
		ok = raw[0] == '"'
		if ok && len(raw) > maxTextInJSON {
			return ErrTooLarge.With("a text of %d bytes, at most %d are allowed", len(raw), maxTextInJSON).At(s.at())
		}
		if err := s.spend(len(raw)); err != nil {
			return err
		}
	case reflect.Bool:
		ok = string(raw) == "true" || string(raw) == "false"
	default: // numbers; nothing else is in our types
		ok = json.Unmarshal(raw, reflect.New(t).Interface()) == nil
	}
	if !ok {
		return s.mismatch(raw, t.Kind())
	}
	return nil
}

// mismatch says what was wanted in place of a value.
func (s *strict) mismatch(raw []byte, kind reflect.Kind) error {
	want := map[reflect.Kind]string{
		reflect.String: "a string", reflect.Bool: "true or false", reflect.Struct: "an object", reflect.Map: "an object", reflect.Slice: "a list",
	}[kind]
	if want == "" {
		want = "a whole number in the range of " + kind.String()
	}
	return ErrBadType.With("%s is not %s", short(raw), want).At(s.at())
}

// opens passes over the bracket that a value of this kind begins with.
func (s *strict) opens(bracket byte, kind reflect.Kind) error {
	if s.pos < len(s.data) && s.data[s.pos] == bracket {
		s.pos++
		return nil
	}
	if len(s.path) == 0 && s.pos < len(s.data) && strings.IndexByte(`{["tf-0123456789`, s.data[s.pos]) >= 0 {
		return s.mismatch(s.data[s.pos:], kind) // whatever follows
	}
	raw, err := s.raw()
	if err != nil {
		return err
	}
	return s.mismatch(raw, kind)
}

// object reads the entries of a structure, or of a map, which has no fields.
func (s *strict) object(t reflect.Type, fields *fieldSet) error {
	if err := s.opens('{', t.Kind()); err != nil {
		return err
	}
	if len(s.path) >= maxDepth {
		return ErrBadCommand.With("nested deeper than %d", maxDepth).At(s.at())
	}
	var seen seenKeys
	if fields != nil {
		seen.fields = make([]bool, len(fields.types))
	}
	for n := 0; ; n++ {
		more, err := s.more(n, '}')
		if err != nil || !more {
			return err
		}
		key, err := s.key()
		if err != nil {
			return err
		}
		s.path = append(s.path, step{key, -1})
		elem, err := s.entry(t, fields, &seen, key, n)
		if err == nil {
			err = s.value(elem)
		}
		if err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
	}
}

// seenKeys are the keys of an object so far: of a structure by their place, of a map by themselves.
type seenKeys struct {
	fields []bool
	keys   map[string]bool
}

// entry is the type of what stands under a key.
func (s *strict) entry(t reflect.Type, fields *fieldSet, seen *seenKeys, key string, n int) (reflect.Type, error) {
	if fields != nil {
		i, ok := fields.index[key]
		switch {
		case !ok:
			return nil, ErrUnknownField.With("unknown key, known are %s", fields.names).At(s.at())
		case seen.fields[i]:
			return nil, ErrDuplicateField.With("the key stands here twice").At(s.at())
		}
		seen.fields[i] = true
		return fields.types[i], nil
	}
	if seen.keys[key] {
		return nil, ErrDuplicateField.With("the key stands here twice").At(s.at())
	}
	if n >= maxEntries {
		return nil, ErrTooLarge.With("more than %d keys in one object", maxEntries).At(s.at())
	}
	if seen.keys == nil {
		seen.keys = map[string]bool{}
	}
	seen.keys[key] = true
	return t.Elem(), s.spend(mapEntry(t, n) + len(key))
}

// mapEntry is about what the n-th entry of a map takes: the first eight share one group, later ones have about twice
// their size.
func mapEntry(t reflect.Type, n int) int {
	size := int(t.Key().Size() + t.Elem().Size())
	switch {
	case n == 0:
		return 64 + 8*size
	case n < 8:
		return 0
	}
	return 2 * size
}

func (s *strict) list(elem reflect.Type) error {
	if err := s.opens('[', reflect.Slice); err != nil {
		return err
	}
	if len(s.path) >= maxDepth {
		return ErrBadCommand.With("nested deeper than %d", maxDepth).At(s.at())
	}
	most := maxEntries
	if elem.Kind() == reflect.String || reflect.PointerTo(elem).Implements(textReader) {
		most = maxLines
	}
	for n := 0; ; n++ {
		more, err := s.more(n, ']')
		if err != nil || !more {
			return err
		}
		if n >= most {
			return ErrTooLarge.With("more than %d values in one list", most).At(s.at())
		}
		s.path = append(s.path, step{index: n})
		if err = s.spend(int(elem.Size())); err == nil {
			err = s.value(elem)
		}
		if err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
	}
}

// fieldSet are the fields of a structure by their JSON names, embedded structures included.
type fieldSet struct {
	index map[string]int
	types []reflect.Type
	names string // for people
}

func (s *strict) fieldsOf(t reflect.Type) *fieldSet {
	if f, ok := s.fields[t]; ok {
		return f
	}
	f, names := &fieldSet{index: map[string]int{}}, []string{}
	for _, v := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(v.Tag.Get("json"), ",")
		if _, twice := f.index[name]; twice || name == "" || name == "-" {
			continue
		}
		f.index[name] = len(f.types)
		f.types, names = append(f.types, v.Type), append(names, name)
	}
	f.names = strings.Join(names, ", ")
	s.fields[t] = f
	return f
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// short is raw as an error message can show it.
func short(raw []byte) string {
	if len(raw) > 40 {
		return strings.ToValidUTF8(string(raw[:40]), "") + "…"
	}
	return string(raw)
}

// unquote is the text of a JSON string.
func unquote(raw []byte) []byte {
	if text := raw[1 : len(raw)-1]; bytes.IndexByte(text, '\\') < 0 {
		return text
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		panic(fmt.Sprintf("events: %s was found to be a string: %v", short(raw), err))
	}
	return []byte(text)
}
