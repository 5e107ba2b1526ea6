package events

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/unitgate/unitgate/events/routing"
)

// DecodeStrict reads one JSON value into the struct that into points to. Unlike encoding/json it refuses unknown keys,
// keys in another case, doubled keys, null and anything behind the value, and names the field of what is wrong.
// Text that is no UTF-8 is refused too: encoding/json would store something else than was sent.
// Errors are *Error. On an error *into is unchanged.
func DecodeStrict(data []byte, into any) error {
	if !utf8.Valid(data) {
		return ErrBadCommand.With("not JSON: the text is no UTF-8")
	}
	t := reflect.TypeOf(into).Elem()
	if err := checkJSON(data, t, ""); err != nil {
		return err
	}
	v := reflect.New(t)
	if err := json.Unmarshal(data, v.Interface()); err != nil {
		return ErrBadCommand.With("%v", err)
	}
	reflect.ValueOf(into).Elem().Set(v.Elem())
	return nil
}

func checkJSON(raw []byte, t reflect.Type, path string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if string(bytes.TrimSpace(raw)) == "null" {
		return ErrBadType.With("null is no value: leave the key out").At(path)
	}
	switch v := reflect.New(t).Interface().(type) {
	case json.Unmarshaler:
		if err := v.UnmarshalJSON(raw); err != nil {
			return ErrBadValue.With("%v", err).At(path)
		}
		return nil
	case encoding.TextUnmarshaler:
		return checkText(raw, v, path)
	}
	switch t.Kind() {
	case reflect.Struct:
		return checkObject(raw, path, func(key string) (reflect.Type, error) { return fieldType(t, key) })
	case reflect.Map:
		return checkObject(raw, path, func(string) (reflect.Type, error) { return t.Elem(), nil })
	case reflect.Slice:
		return checkArray(raw, t.Elem(), path)
	default:
		if err := json.Unmarshal(raw, reflect.New(t).Interface()); err != nil {
			return badScalar(raw, t, path, err)
		}
		return nil
	}
}

func badScalar(raw []byte, t reflect.Type, path string, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return ErrBadCommand.With("not JSON: %v", err).At(path)
	}
	want := map[reflect.Kind]string{reflect.String: "a string", reflect.Bool: "true or false"}[t.Kind()]
	if want == "" {
		want = "a whole number in the range of " + t.Kind().String()
	}
	return ErrBadType.With("%s is not %s", short(raw), want).At(path)
}

func checkText(raw []byte, into encoding.TextUnmarshaler, path string) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return badScalar(raw, reflect.TypeFor[string](), path, err)
	}
	if err := into.UnmarshalText([]byte(s)); err != nil {
		if errors.Is(err, routing.ErrBadRange) {
			return ErrBadRange.With("%v", err).At(path)
		}
		return ErrBadValue.With("%v", err).At(path)
	}
	return nil
}

func checkObject(raw []byte, path string, typeOf func(key string) (reflect.Type, error)) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := opening(dec, '{', "an object", raw, path); err != nil {
		return err
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return ErrBadCommand.With("not JSON: %v", err).At(path)
		}
		key := tok.(string) // the decoder accepts nothing else here
		at := join(path, key)
		if seen[key] {
			return ErrDuplicateField.With("the key stands here twice").At(at)
		}
		seen[key] = true
		t, err := typeOf(key)
		if err != nil {
			return ErrUnknownField.With("%v", err).At(at)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return ErrBadCommand.With("not JSON: %v", err).At(at)
		}
		if err := checkJSON(value, t, at); err != nil {
			return err
		}
	}
	return closing(dec, path)
}

func checkArray(raw []byte, elem reflect.Type, path string) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := opening(dec, '[', "a list", raw, path); err != nil {
		return err
	}
	for i := 0; dec.More(); i++ {
		at := fmt.Sprintf("%s[%d]", path, i)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return ErrBadCommand.With("not JSON: %v", err).At(at)
		}
		if err := checkJSON(value, elem, at); err != nil {
			return err
		}
	}
	return closing(dec, path)
}

func opening(dec *json.Decoder, delim json.Delim, want string, raw []byte, path string) error {
	tok, err := dec.Token()
	if err != nil {
		return ErrBadCommand.With("not JSON: %v", err).At(path)
	}
	if tok != delim {
		return ErrBadType.With("%s is not %s", short(raw), want).At(path)
	}
	return nil
}

func closing(dec *json.Decoder, path string) error {
	if _, err := dec.Token(); err != nil {
		return ErrBadCommand.With("not JSON: %v", err).At(path)
	}
	if _, err := dec.Token(); err != io.EOF {
		return ErrBadCommand.With("something follows the value").At(path)
	}
	return nil
}

// fieldType finds a struct's field by its exact JSON name, embedded structs included.
func fieldType(t reflect.Type, key string) (reflect.Type, error) {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		if name == key {
			return f.Type, nil
		}
		names = append(names, name)
	}
	return nil, fmt.Errorf("unknown key, known are %s", strings.Join(names, ", "))
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
