package sock

import "encoding/binary"

// Opcodes, RFC 6455 section 5.2.
const (
	OpBinary = 2
	OpClose  = 8
	OpPing   = 9
	OpPong   = 10
)

// Mask is the masking key of every frame that a client sends (section 5.3). What it masks is no secret.
var Mask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// Frame is the head of a frame, and where it stands.
type Frame struct {
	Op     byte
	Masked bool
	Key    [4]byte
	Head   int // bytes before the payload
	Size   int // bytes of the payload
}

// ParseFrame reads the head of a frame; ok is false while it is not complete.
func ParseFrame(b []byte) (f Frame, ok bool) {
	if len(b) < 2 {
		return f, false
	}
	f.Op, f.Masked, f.Head, f.Size = b[0]&0x0f, b[1]&0x80 != 0, 2, int(b[1]&0x7f)
	switch f.Size {
	case 126:
		f.Head = 4
	case 127:
		f.Head = 10
	}
	key := f.Head
	if f.Masked {
		f.Head += 4
	}
	if len(b) < f.Head {
		return f, false
	}
	switch f.Size {
	case 126:
		f.Size = int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		f.Size = int(binary.BigEndian.Uint64(b[2:]))
	}
	if f.Masked {
		copy(f.Key[:], b[key:])
	}
	return f, true
}

// AppendFrame appends a whole binary or Close frame, masked as a client's if asked.
func AppendFrame(dst []byte, op byte, masked bool, payload []byte) []byte {
	dst = AppendHead(dst, op, masked, len(payload))
	at := len(dst)
	dst = append(dst, payload...)
	if masked {
		Unmask(dst[at:], Mask)
	}
	return dst
}

// AppendHead appends the head of a final frame.
func AppendHead(dst []byte, op byte, masked bool, size int) []byte {
	var bit byte
	if masked {
		bit = 0x80
	}
	dst = append(dst, 0x80|op)
	switch {
	case size < 126:
		dst = append(dst, bit|byte(size))
	case size <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, bit|126), uint16(size))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, bit|127), uint64(size))
	}
	if masked {
		dst = append(dst, Mask[:]...)
	}
	return dst
}

// Unmask masks or unmasks a payload in place.
func Unmask(b []byte, key [4]byte) {
	for i := range b {
		b[i] ^= key[i&3]
	}
}
