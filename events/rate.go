package events

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Rate is evictions a second and edge; 0 stands for no limit, whose JSON form is "max".
type Rate int

// MaxRate bounds a rate.
const MaxRate = 1_000_000

// String is the number, or "max".
func (r Rate) String() string {
	if r == 0 {
		return "max"
	}
	return strconv.Itoa(int(r))
}

// ParseRate reads "max" or a number from 1 to MaxRate.
func ParseRate(s string) (Rate, error) {
	if s == "max" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > MaxRate {
		return 0, fmt.Errorf("rate %q: want max or a number from 1 to %d", s, MaxRate)
	}
	return Rate(n), nil
}

// MarshalJSON writes the number or "max".
func (r Rate) MarshalJSON() ([]byte, error) {
	if r == 0 {
		return []byte(`"max"`), nil
	}
	return json.Marshal(int(r))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Rate) UnmarshalJSON(b []byte) (err error) {
	s := string(b)
	if s == `"max"` {
		s = "max"
	}
	*r, err = ParseRate(s)
	return err
}
