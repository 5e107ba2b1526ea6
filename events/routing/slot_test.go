package routing_test

import (
	"hash/fnv"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

func TestSlot(t *testing.T) {
	for _, c := range []struct {
		id   string
		n    uint32
		want uint32
	}{
		{"1111", 10000, 1111},
		{"6249", 10000, 6249},
		{"8330", 10000, 8330},
		{"0", 10000, 0},
		{"9999", 10000, 9999},
		{"10000", 10000, 0},
		{"0001111", 10000, 1111}, // leading zeros do not change the value
		{"13812345678", 10000, 5678},
		{"18446744073709551616", 10000, 1616}, // 2^64
		{"18446744073709551615", 1 << 20, 1<<20 - 1},
		{"7", 1, 0},
		{strings.Repeat("9", 256), 10000, 9999},
		{strings.Repeat("0", 256), 10000, 0},
		// FNV-1a 64 vectors of http://www.isthe.com/chongo/tech/comp/fnv/, modulo 10000.
		{"", 10000, uint32(uint64(0xcbf29ce484222325) % 10000)},
		{"a", 10000, uint32(uint64(0xaf63dc4c8601ec8c) % 10000)},
		{"foobar", 10000, uint32(uint64(0x85944171f73967e8) % 10000)},
	} {
		if got := routing.Slot(c.id, c.n); got != c.want {
			t.Errorf("Slot(%.20q, %d) = %d, want %d", c.id, c.n, got, c.want)
		}
	}
}

// Whatever is not made of decimal digits alone is hashed, byte for byte.
func TestSlotOfOthers(t *testing.T) {
	for _, id := range []string{
		"-5", "+5", "5.0", "5 ", " 5", "0x10", "1e3", "vip-7", "１２３", "٣", "用户七", "\xff\xfe", "12345678a", "a12345678", "1234567/", "1234567:",
		strings.Repeat("9", 255) + "x", "x" + strings.Repeat("9", 255), strings.Repeat("9", 100) + "\x00" + strings.Repeat("9", 100),
	} {
		h := fnv.New64a()
		h.Write([]byte(id))
		for _, n := range []uint32{1, 7, 10000, 1 << 20, 1<<32 - 1} {
			if got, want := routing.Slot(id, n), uint32(h.Sum64()%uint64(n)); got != want {
				t.Errorf("Slot(%.20q, %d) = %d, want %d", id, n, got, want)
			}
		}
	}
}

// Every single byte that is no digit makes the ID one to hash, wherever it stands.
func TestSlotFindsEveryByteThatIsNoDigit(t *testing.T) {
	for pos := range 20 {
		for b := range 256 {
			id := []byte(strings.Repeat("5", 20))
			id[pos] = byte(b)
			want := uint32(0)
			if b >= '0' && b <= '9' {
				v, _ := new(big.Int).SetString(string(id), 10)
				want = uint32(v.Mod(v, big.NewInt(10007)).Uint64())
			} else {
				h := fnv.New64a()
				h.Write(id)
				want = uint32(h.Sum64() % 10007)
			}
			if got := routing.Slot(string(id), 10007); got != want {
				t.Fatalf("Slot(%q) = %d, want %d", id, got, want)
			}
		}
	}
}

// Digits agree with arbitrary precision, however many there are.
func TestSlotAgreesWithBig(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		id := make([]byte, 1+r.IntN(256))
		for i := range id {
			id[i] = '0' + byte(r.IntN(10))
			if r.IntN(4) == 0 {
				id[i] = '9' // high values are where an overflow would show
			}
		}
		n := 1 + r.Uint32N(1<<r.UintN(32))
		v, _ := new(big.Int).SetString(string(id), 10)
		want := uint32(v.Mod(v, big.NewInt(int64(n))).Uint64())
		if got := routing.Slot(string(id), n); got != want {
			t.Fatalf("Slot(%q, %d) = %d, want %d", id, n, got, want)
		}
	}
}

func FuzzSlot(f *testing.F) {
	f.Add("1111", uint32(10000))
	f.Add("123456789012345678901234567890", uint32(1<<32-1))
	f.Add("用户", uint32(3))
	f.Fuzz(func(t *testing.T, id string, n uint32) {
		if n == 0 {
			return
		}
		got := routing.Slot(id, n)
		want := func() uint32 {
			if id != "" && strings.Trim(id, "0123456789") == "" {
				v, _ := new(big.Int).SetString(id, 10)
				return uint32(v.Mod(v, big.NewInt(int64(n))).Uint64())
			}
			h := fnv.New64a()
			h.Write([]byte(id))
			return uint32(h.Sum64() % uint64(n))
		}()
		if got != want {
			t.Fatalf("Slot(%q, %d) = %d, want %d", id, n, got, want)
		}
	})
}
