package journal

import (
	"strconv"

	"github.com/unitgate/unitgate/events"
)

// chain is the place of one reader in a journal: it admits exactly the record that continues the last one.
// Its reader's goroutine owns it.
type chain struct {
	ns    string
	epoch string // of the journal that is read; "" until the reader has learned it
	seq   uint64 // last record admitted; 0: none
	hash  string // its hash; "" exactly when seq is 0
}

// admit checks rec against the chain and returns its hash. The chain itself does not move: advance does, once the
// record was handled.
func (c *chain) admit(rec *events.Record) (string, error) {
	if rec.Seq != c.seq+1 {
		return "", c.broken(BreakGap, rec.Seq, strconv.FormatUint(c.seq+1, 10), strconv.FormatUint(rec.Seq, 10))
	}
	if rec.Prev != c.hash {
		return "", c.broken(BreakHash, rec.Seq, c.hash, rec.Prev)
	}
	return rec.Hash(), nil
}

// recognize checks that rec is the very record at which the chain stands.
func (c *chain) recognize(rec *events.Record) error {
	if rec.Seq != c.seq {
		return c.broken(BreakGap, rec.Seq, strconv.FormatUint(c.seq, 10), strconv.FormatUint(rec.Seq, 10))
	}
	if h := rec.Hash(); h != c.hash {
		return c.broken(BreakHash, rec.Seq, c.hash, h)
	}
	return nil
}

func (c *chain) advance(seq uint64, hash string) { c.seq, c.hash = seq, hash }

func (c *chain) broken(kind Break, seq uint64, want, got string) *BreakError {
	return &BreakError{Namespace: c.ns, Kind: kind, Seq: seq, Want: want, Got: got}
}

// enter checks what the journal says of itself, its epoch and last sequence, against the chain's place in it.
func (c *chain) enter(epoch string, last uint64) error {
	if c.epoch == "" {
		c.epoch = epoch
	}
	if c.epoch != epoch {
		return c.broken(BreakEpoch, c.seq, c.epoch, epoch)
	}
	if last < c.seq {
		return c.broken(BreakTruncated, c.seq, strconv.FormatUint(c.seq, 10), strconv.FormatUint(last, 10))
	}
	return nil
}
