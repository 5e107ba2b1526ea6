package relay

// tracker follows the frame headers of one direction of a WebSocket connection without storing anything of it, so that
// a frame can be put between two others (RFC 6455 section 5.2 gives the layout, 5.4 says where messages end: "control
// frames MAY be injected in the middle of a fragmented message", so they do not end one).
//
// It believes every header, also an invalid one: what the peers send each other is their affair. A 64-bit length with
// the top bit set, which section 5.2 forbids, merely makes a frame whose end is never reached.
// The zero value stands at the beginning of the connection.
type tracker struct {
	left uint64 // payload bytes still to come of this frame; gathers the length while the header is read
	need uint8  // header bytes still to come after the second one: extended length, masking key
	ext  uint8  // of these, the bytes of the extended length
	bits uint8  // trk*
}

const (
	trkSecond  uint8 = 1 << iota // the header's first byte was read, the second comes next
	trkInFrame                   // a frame has begun and not ended
	trkMessage                   // a message has begun, its last frame has not ended
	trkFin                       // this frame ends its message
	trkControl                   // this frame is a control frame (section 5.5)
	trkClosing                   // a Close frame has begun, here or before
	trkClosed                    // a Close frame has ended
)

const opClose = 8

// stopAt says where advance stops before the end of its input.
type stopAt uint8

const (
	stopNever   stopAt = iota
	stopMessage        // between two messages
	stopClosed         // behind the first Close frame
)

// betweenFrames reports whether a frame may start here.
func (t *tracker) betweenFrames() bool { return t.bits&trkInFrame == 0 }

// betweenMessages reports whether a message may start here.
func (t *tracker) betweenMessages() bool { return t.bits&(trkInFrame|trkMessage) == 0 }

// closing reports whether a Close frame has at least begun.
func (t *tracker) closing() bool { return t.bits&trkClosing != 0 }

// closed reports whether a Close frame has passed completely.
func (t *tracker) closed() bool { return t.bits&trkClosed != 0 }

func (t *tracker) at(stop stopAt) bool {
	switch stop {
	case stopMessage:
		return t.betweenMessages()
	case stopClosed:
		return t.closed()
	}
	return false
}

// advance follows b up to where stop says, or to its end, and returns how many bytes that were.
func (t *tracker) advance(b []byte, stop stopAt) int {
	i := 0
	for i < len(b) && !t.at(stop) {
		switch {
		case t.bits&trkInFrame == 0:
			t.first(b[i])
			i++
			continue // a frame has at least two bytes
		case t.bits&trkSecond != 0:
			t.second(b[i])
			i++
		case t.need > 0:
			if t.ext > 0 {
				t.left = t.left<<8 | uint64(b[i])
				t.ext--
			}
			t.need--
			i++
		default:
			n := min(t.left, uint64(len(b)-i))
			t.left -= n
			i += int(n)
		}
		if t.bits&trkSecond == 0 && t.need == 0 && t.left == 0 {
			t.end()
		}
	}
	return i
}

// first takes FIN, RSV1-3 and the opcode. Without data frames in between, a control frame leaves trkMessage alone.
func (t *tracker) first(c byte) {
	t.bits &^= trkFin | trkControl
	t.bits |= trkInFrame | trkSecond
	if c&0x80 != 0 {
		t.bits |= trkFin
	}
	switch op := c & 0x0f; {
	case op < 8:
		t.bits |= trkMessage
	case op == opClose:
		t.bits |= trkControl | trkClosing
	default:
		t.bits |= trkControl
	}
}

// second takes MASK and the 7-bit length.
func (t *tracker) second(c byte) {
	t.bits &^= trkSecond
	t.left, t.ext = uint64(c&0x7f), 0
	switch t.left {
	case 126:
		t.left, t.ext = 0, 2
	case 127:
		t.left, t.ext = 0, 8
	}
	t.need = t.ext
	if c&0x80 != 0 {
		t.need += 4
	}
}

// end is where the current frame is complete.
func (t *tracker) end() {
	t.bits &^= trkInFrame
	switch {
	case t.bits&trkControl == 0:
		if t.bits&trkFin != 0 {
			t.bits &^= trkMessage
		}
	case t.bits&trkClosing != 0 && t.bits&trkClosed == 0:
		t.bits |= trkClosed
	}
}
