package routing

// Slot is the slot of a routerId among n slots: decimal digits stand for their value modulo n, however long;
// anything else for FNV-1a 64 of its bytes modulo n (http://www.isthe.com/chongo/tech/comp/fnv/). n must be positive.
func Slot(id string, n uint32) uint32 {
	var v uint64
	for i := 0; i < len(id); i++ {
		d := uint64(id[i] - '0')
		if d > 9 {
			return hash(id, n)
		}
		v = v*10 + d
		if v >= 1<<59 { // the next step could overflow
			v %= uint64(n)
		}
	}
	if len(id) == 0 {
		return hash(id, n)
	}
	if v < 1<<32 { // a 32-bit division is several times faster
		return uint32(v) % n
	}
	return uint32(v % uint64(n))
}

func hash(id string, n uint32) uint32 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := 0; i < len(id); i++ {
		h = (h ^ uint64(id[i])) * prime
	}
	return uint32(h % uint64(n))
}
