package events

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
)

// Bounds of the packed form of an event, and of a command's data: {"packed":"…"}, base64 of the JSON under DEFLATE
// (RFC 1951). A large configuration is mostly repetition: 200 domains in 64 units are 1.4 MB, and 124 KB packed.
const (
	// packFrom is the size of the JSON from which on it is packed, if that makes it shorter. Below it everybody can read what
	// is in the journal.
	packFrom = 128 << 10
	// maxUnpacked bounds what is unpacked, in bytes.
	maxUnpacked = 8 << 20
)

type packedJSON struct {
	Packed []byte `json:"packed"`
}

// Pack is the form in which the JSON of an event, or of a command's data, travels: as it is, or packed if it is large.
// Whoever makes an event packs it, once; all others only unpack, so that nothing depends on how well that was done.
func Pack(data []byte) []byte {
	if len(data) < packFrom {
		return data
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // the level is valid, and a buffer takes everything
	}
	out, err := json.Marshal(packedJSON{b.Bytes()})
	if err != nil {
		panic(err) // it is bytes
	}
	if len(out) >= len(data) {
		return data
	}
	return out
}

// Unpack undoes Pack. It takes no more memory than an event may, whatever the data says.
func Unpack(data []byte) ([]byte, error) { return unpack(data, maxUnpacked) }

// unpack undoes Pack for data of at most so many bytes.
func unpack(data []byte, most int) ([]byte, error) {
	if !IsPacked(data) {
		return data, nil
	}
	var p packedJSON
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return nil, fmt.Errorf("packed data: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("packed data: something follows it")
	}
	in := bytes.NewReader(p.Packed)
	r := flate.NewReader(in) // reads byte by byte, and so no more than belongs to it
	out, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("packed data: %w", err)
	case len(out) > most:
		return nil, fmt.Errorf("packed data: more than %d bytes", most)
	case in.Len() > 0:
		return nil, fmt.Errorf("packed data: %d bytes follow it", in.Len())
	case IsPacked(out):
		return nil, fmt.Errorf("packed data: it is packed twice")
	}
	return out, nil
}

// IsPacked reports whether data is in the packed form, good or bad.
func IsPacked(data []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{"))
	return ok && bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(`"packed"`))
}

// JSON is the record's event as JSON, unpacked. What cannot be unpacked is returned as it is.
func (r *Record) JSON() []byte {
	b, err := Unpack(r.Data)
	if err != nil {
		return r.Data
	}
	return b
}
