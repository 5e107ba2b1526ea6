package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/unitgate/unitgate/services/unitgate/reader"
)

func (c *cli) addJournal(p parent) {
	group := p.Command("journal", "The journal itself")
	c.command(group, "verify", "Walk the whole journal: sequences, hash chain, every event, and the newest snapshot", c.verify)
}

// verdict is what `journal verify -o json` prints.
type verdict struct {
	reader.Verdict
	Seconds float64  `json:"seconds"`
	Error   *failure `json:"error,omitempty"`
}

// verify ends with 1 when something does not fit, naming where and both hashes.
func (c *cli) verify(ctx context.Context) error {
	b, r, err := c.history(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	start := time.Now()
	v, err := r.Verify(ctx)
	if err != nil {
		return err
	}
	out := verdict{Verdict: v, Seconds: time.Since(start).Seconds()}
	if v.Break != nil {
		text := v.Break.Text
		if v.Break.Kind == "hash" {
			text += fmt.Sprintf("; records 1-%d are intact", v.Records)
		}
		err = shown{reader.ErrBroken.With("%s", text)}
		f := failureOf(err)
		out.Error = &f
	}
	if perr := c.print(out); perr != nil {
		return perr
	}
	c.judge(out)
	return err
}

func (c *cli) judge(v verdict) {
	c.say("journal of %s: %d of %d records intact, checked in %s", v.Namespace, v.Records, v.Head, time.Duration(v.Seconds*float64(time.Second)).Round(time.Millisecond))
	c.say("  epoch     %s", v.Epoch)
	c.say("  head      %d  %s", v.Records, dash(v.Hash))
	c.say("  state     %s", v.StateHash)
	switch {
	case v.Snapshot == nil:
		c.say("  snapshot  none")
	case v.Snapshot.Seq == 0:
		c.say("  snapshot  %s", v.Snapshot.State)
	default:
		c.say("  snapshot  at %d: %s", v.Snapshot.Seq, v.Snapshot.State)
	}
}
