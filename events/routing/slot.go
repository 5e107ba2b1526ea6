package routing

// Slot is the slot of a routerId among n slots: decimal digits stand for their value modulo n, however long;
// anything else for FNV-1a 64 of its bytes modulo n (http://www.isthe.com/chongo/tech/comp/fnv/). n must be positive.
func Slot(id string, n uint32) uint32 {
	var v uint64
	i := 0
	for ; len(id)-i >= 8; i += 8 {
		d, ok := eightDigits(id[i : i+8])
		if !ok {
			return hash(id, n)
		}
		if v >= 1<<37 { // v*1e8 could overflow
			v %= uint64(n)
		}
		v = v*1e8 + d
	}
	for ; i < len(id); i++ {
		d := uint64(id[i] - '0')
		if d > 9 {
			return hash(id, n)
		}
		if v >= 1<<59 { // v*10 could overflow
			v %= uint64(n)
		}
		v = v*10 + d
	}
	if len(id) == 0 {
		return hash(id, n)
	}
	if v < 1<<32 { // a 32-bit division is several times faster
		return uint32(v) % n
	}
	return uint32(v % uint64(n))
}

// eightDigits reads the eight bytes of s as one word, so that a phone number costs two steps and not eleven.
func eightDigits(s string) (v uint64, ok bool) {
	_ = s[7]
	w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	// In every byte: the high nibble is 3, and adding 6 to the low one does not carry into it.
	const each = 0x0101010101010101
	if w&(0xf0*each) != 0x30*each || (w+6*each)&(0xf0*each) != 0x30*each {
		return 0, false
	}
	w -= '0' * each
	w = w*10 + w>>8 // pairs of digits stand in bytes 0, 2, 4, 6
	const pairs, hundreds = 0x000000ff000000ff, 100 + 1_000_000<<32
	const ones, tens = pairs, 1 + 10_000<<32
	return ((w&pairs)*hundreds + (w>>16&ones)*tens) >> 32, true
}

func hash(id string, n uint32) uint32 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := 0; i < len(id); i++ {
		h = (h ^ uint64(id[i])) * prime
	}
	return uint32(h % uint64(n))
}
