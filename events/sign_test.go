package events

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// seeds are the first n seeds of a row that an edge could have drawn.
func seeds(n int) [][]byte {
	var out [][]byte
	for i := 0; len(out) < n; i++ {
		seed := []byte(fmt.Sprintf("seed %027d", i))
		if _, _, err := DeriveKeys(seed); err == nil {
			out = append(out, seed)
		}
	}
	return out
}

func TestSigningKeyIsTheTwinOfTheAgreementKey(t *testing.T) {
	for _, seed := range seeds(64) {
		signer, agree, err := DeriveKeys(seed)
		if err != nil {
			t.Fatal(err)
		}
		got, err := SigningKey(hex.EncodeToString(agree.PublicKey().Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(signer.Public()) {
			t.Fatalf("seed %q: signs with %x, the journal's key says %x", seed, signer.Public(), got)
		}
	}
}

func TestSigningKeyRefusesKeysThatEverybodyCanSignFor(t *testing.T) {
	p1 := strings.Repeat("f", 2)
	for name, key := range map[string]string{
		"zero":            strings.Repeat("00", 32),
		"one":             "01" + strings.Repeat("00", 31),
		"minus one":       "ec" + strings.Repeat(p1, 30) + "7f",
		"order 8":         "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"order 8, other":  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"the prime":       "ed" + strings.Repeat(p1, 30) + "7f",
		"above the prime": strings.Repeat(p1, 32),
		"short":           "0102",
		"no hex":          strings.Repeat("zz", 32),
		"empty":           "",
	} {
		if k, err := SigningKey(key); err == nil {
			t.Errorf("%s: got %x", name, k)
		}
	}
}

func TestDeriveKeysRefusesHalfOfAllSeeds(t *testing.T) {
	refused := 0
	for i := range 1000 {
		if _, _, err := DeriveKeys([]byte(fmt.Sprintf("seed %027d", i))); err != nil {
			refused++
		}
	}
	if refused < 400 || refused > 600 {
		t.Fatalf("%d of 1000 seeds refused", refused)
	}
	if _, _, err := DeriveKeys([]byte("short")); err == nil {
		t.Fatal("a short seed was taken")
	}
}

func TestFingerprintIsAUUIDOfTheKey(t *testing.T) {
	a, b := Fingerprint(strings.Repeat("ab", 32)), Fingerprint(strings.Repeat("ac", 32))
	if a == b {
		t.Fatal("two keys, one fingerprint")
	}
	if err := CheckUUID(a); err != nil {
		t.Fatal(err)
	}
	if a[14] != '8' || !strings.ContainsRune("89ab", rune(a[19])) {
		t.Fatalf("%s is no UUID of version 8", a)
	}
}

// Everything that a signature is for is part of it.
func TestSignedMessage(t *testing.T) {
	signer, _, _ := DeriveKeys(seeds(1)[0])
	other, _, _ := DeriveKeys(seeds(2)[1])
	key := signer.Public().(ed25519.PublicKey)
	sig := SignMessage(signer, "a.b", "2026-01-01T00:00:00Z", []byte("body"))
	if !CheckMessage(key, "a.b", "2026-01-01T00:00:00Z", []byte("body"), sig) {
		t.Fatal("the message as it was signed is refused")
	}
	for name, ok := range map[string]bool{
		"subject":        CheckMessage(key, "a.c", "2026-01-01T00:00:00Z", []byte("body"), sig),
		"time":           CheckMessage(key, "a.b", "2027-01-01T00:00:00Z", []byte("body"), sig),
		"no time":        CheckMessage(key, "a.b", "", []byte("body"), sig),
		"body":           CheckMessage(key, "a.b", "2026-01-01T00:00:00Z", []byte("bodY"), sig),
		"border":         CheckMessage(key, "a.b\n20 2026-01-01T00:00:00Z", "", []byte("body"), sig),
		"key":            CheckMessage(other.Public().(ed25519.PublicKey), "a.b", "2026-01-01T00:00:00Z", []byte("body"), sig),
		"no key":         CheckMessage(nil, "a.b", "2026-01-01T00:00:00Z", []byte("body"), sig),
		"no signature":   CheckMessage(key, "a.b", "2026-01-01T00:00:00Z", []byte("body"), nil),
		"half signature": CheckMessage(key, "a.b", "2026-01-01T00:00:00Z", []byte("body"), sig[:32]),
	} {
		if ok {
			t.Errorf("a message with another %s passes", name)
		}
	}
}
