package session

import (
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"
)

func TestPassage(t *testing.T) {
	p := Passage{Cutover: "c1"}
	one, two := UserNumber("c1", "1"), UserNumber("c1", "2")
	p.Left("1", 7, time.Second)
	p.Left("1", 7, 2*time.Second) // another device
	p.Left("2", 7, time.Second)
	p.Left("2", 9, 5*time.Second) // the fence at 7 was lifted, and 2 came back to where it was
	p.Back("1", 7, 3*time.Second)
	p.Back("3", 9, 6*time.Second) // was nowhere before
	bound, left, back := p.List([]uint64{7}, 10)
	if bound != math.MaxUint64 || !reflect.DeepEqual(left, []Sighting{{one, time.Second}, {one, 2 * time.Second}}) || !reflect.DeepEqual(back, []Sighting{{one, 3 * time.Second}}) {
		t.Errorf("under 7: %d %v %v", bound, left, back)
	}
	if _, left, back = p.List([]uint64{9}, 10); !reflect.DeepEqual(left, []Sighting{{two, 5 * time.Second}}) || len(back) != 1 {
		t.Errorf("under 9: %v %v", left, back)
	}
	if l, b := p.Counts(); l != 4 || b != 2 {
		t.Errorf("counts %d, %d", l, b)
	}
	for range 100 {
		p.Back("1", 7, 4*time.Second) // it connects again and again
	}
	if _, _, back = p.List([]uint64{7}, 10); len(back) != maxSeen {
		t.Errorf("%d sessions of one user are remembered", len(back))
	}
}

// Two edges that remember a part each, of more users than they can, agree on whom they remember.
func TestPassagesSampleTheSameUsers(t *testing.T) {
	losing, gaining := Passage{Cutover: "c1", maxUsersInUse: 100}, Passage{Cutover: "c1", maxUsersInUse: 100}
	const users = 5000
	for i := range users {
		losing.Left(fmt.Sprint(i), 1, time.Second)
		if i%10 > 0 { // one in ten does not come back
			gaining.Back(fmt.Sprint(i), 1, 2*time.Second)
		}
	}
	if len(losing.left.users) > 100 || len(gaining.back.users) > 100 {
		t.Fatalf("%d and %d users are remembered", len(losing.left.users), len(gaining.back.users))
	}
	b1, left, _ := losing.List([]uint64{1}, 40)
	b2, _, back := gaining.List([]uint64{1}, 40)
	if len(left) > 40 || len(back) > 40 {
		t.Fatalf("%d and %d are listed", len(left), len(back))
	}
	bound := min(b1, b2)
	returned := map[uint64]bool{}
	for _, s := range back {
		returned[s.User] = true
	}
	compared, seen := 0, 0
	for i := range users {
		n := UserNumber("c1", fmt.Sprint(i))
		if n > bound {
			continue
		}
		compared++
		if returned[n] {
			seen++
		}
		if returned[n] != (i%10 > 0) {
			t.Fatalf("user %d, within the bound of both edges: seen %v", i, returned[n])
		}
	}
	if compared < 20 || seen == compared {
		t.Errorf("%d users compared, %d seen", compared, seen)
	}
}

func TestUserNumbersAreSpread(t *testing.T) {
	var quarter [4]int
	for i := range 4000 {
		quarter[UserNumber("c1", fmt.Sprint(i))>>62]++
	}
	for _, n := range quarter {
		if n < 850 || n > 1150 {
			t.Errorf("quarters hold %v", quarter)
		}
	}
	if UserNumber("c1", "1") == UserNumber("c2", "1") {
		t.Error("a user has one number in two cutovers")
	}
}
