package events

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Headers of a signed message. The key only says which one signed: a receiver compares it
// with what the journal holds, or with what the body registers.
const (
	HeaderKey       = "Unitgate-Key"       // public key, 32 bytes in hex, in lower case
	HeaderSignature = "Unitgate-Signature" // of SignMessage, in base64
	HeaderExpires   = "Unitgate-Expires"   // RFC 3339; part of what is signed, "" without one
	// HeaderQuestion is a question's number, drawn by who asks: an answer is signed for
	// AnswerSubject, so that one which was given before answers nothing.
	HeaderQuestion = "Unitgate-Question"
)

// MaxQuestion bounds HeaderQuestion, in bytes.
const MaxQuestion = 64

// AnswerSubject is what the signature of an answer names in place of a subject: it travels on
// an inbox, whose name changes on the way.
func AnswerSubject(subject, question string) string { return subject + ".answer." + question }

// SigningKey is the Ed25519 public key that belongs to an edge's key (Edge.Key), which is
// the X25519 one in hex. Both halves of an edge's identity follow from one seed (DeriveKeys),
// so that the journal needs to hold one of them only.
//
// It is the birational map of RFC 7748, section 4.1, y = (u-1)/(u+1), with the sign bit 0,
// which the seed was chosen for. Errors: a key of another form, and one of a small order,
// for which everybody could sign.
func SigningKey(key string) (ed25519.PublicKey, error) {
	raw, err := hex.DecodeString(key)
	if err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("an edge's key has 32 bytes in hex: %.80q", key)
	}
	slices.Reverse(raw) // RFC 7748 writes the least significant byte first
	p, u := fieldPrime(), new(big.Int).SetBytes(raw)
	if u.Cmp(p) >= 0 {
		return nil, errors.New("an edge's key is no element of the field")
	}
	den := new(big.Int).ModInverse(new(big.Int).Add(u, big.NewInt(1)), p)
	if den == nil || smallOrder(raw) {
		return nil, errors.New("an edge's key is of a small order")
	}
	y := new(big.Int).Sub(u, big.NewInt(1))
	y.Mul(y, den).Mod(y, p)
	out := y.FillBytes(make([]byte, 32))
	slices.Reverse(out)
	return out, nil
}

// fieldPrime is 2^255 - 19.
func fieldPrime() *big.Int {
	p := new(big.Int).Lsh(big.NewInt(1), 255)
	return p.Sub(p, big.NewInt(19))
}

// smallOrder reports whether a key, most significant byte first, gives the same secret to
// everybody: RFC 7748, section 6.1. Any private key tells, since all are multiples of 8.
func smallOrder(u []byte) bool {
	le := slices.Clone(u)
	slices.Reverse(le)
	public, err := ecdh.X25519().NewPublicKey(le)
	if err != nil {
		return true
	}
	private, err := ecdh.X25519().NewPrivateKey(make([]byte, 32))
	if err != nil {
		panic(err) // every 32 bytes are one
	}
	_, err = private.ECDH(public)
	return err != nil
}

// ErrSeed says that a seed's public key has the sign bit 1: half of all seeds have, and
// whoever draws one draws another.
var ErrSeed = errors.New("this seed is none of an edge's")

// DeriveKeys makes both private halves of an edge's identity of its seed, 32 random bytes:
// the one that signs, and the one that agrees on secrets with other edges. They are the
// same point on the two forms of the curve, see SigningKey. The error is ErrSeed.
func DeriveKeys(seed []byte) (ed25519.PrivateKey, *ecdh.PrivateKey, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, nil, ErrSeed
	}
	signer := ed25519.NewKeyFromSeed(seed)
	if signer.Public().(ed25519.PublicKey)[31]&0x80 != 0 {
		return nil, nil, ErrSeed
	}
	scalar := sha512.Sum512(seed) // as RFC 8032, section 5.1.5, makes its scalar
	agree, err := ecdh.X25519().NewPrivateKey(scalar[:32])
	if err != nil {
		return nil, nil, ErrSeed
	}
	return signer, agree, nil
}

// Fingerprint is a key's hash in the form of a UUID (version 8, RFC 9562): an id that only
// the holder of the key can speak for, and that tells nobody anything.
func Fingerprint(key string) string {
	sum := sha256.Sum256([]byte("unitgate key\n" + key))
	b := sum[:16]
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	x := hex.EncodeToString(b)
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// SignMessage signs what is sent on a subject. expires is HeaderExpires, "" without one.
func SignMessage(by ed25519.PrivateKey, subject, expires string, body []byte) []byte {
	return ed25519.Sign(by, messageToSign(subject, expires, body))
}

// CheckMessage reports whether SignMessage with the key's private half made this signature.
func CheckMessage(key ed25519.PublicKey, subject, expires string, body, signature []byte) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, messageToSign(subject, expires, body), signature)
}

// SignedHeaders are the headers that make a message a signed one.
func SignedHeaders(by ed25519.PrivateKey, subject, expires string, body []byte) map[string][]string {
	h := map[string][]string{
		HeaderKey:       {hex.EncodeToString(by.Public().(ed25519.PublicKey))},
		HeaderSignature: {base64.StdEncoding.EncodeToString(SignMessage(by, subject, expires, body))},
	}
	if expires != "" {
		h[HeaderExpires] = []string{expires}
	}
	return h
}

// VerifySigner is the public key, in hex, that has signed a message, "" if it is not signed.
// The error is ErrBadSignature: what claims a signature and has none is not an unsigned one.
func VerifySigner(header map[string][]string, subject string, body []byte) (string, error) {
	keys, signatures, expires := header[HeaderKey], header[HeaderSignature], header[HeaderExpires]
	if len(keys) == 0 && len(signatures) == 0 {
		return "", nil
	}
	if len(keys) != 1 || len(signatures) != 1 || len(expires) > 1 {
		return "", ErrBadSignature.With("a signed message has the headers %s and %s, once each", HeaderKey, HeaderSignature)
	}
	key, err := hex.DecodeString(keys[0])
	signature, serr := base64.StdEncoding.DecodeString(signatures[0])
	at := strings.Join(expires, "")
	if err != nil || serr != nil || !CheckMessage(key, subject, at, body, signature) {
		return "", ErrBadSignature.With("the signature is not that of %.64q for this message on %s", keys[0], subject)
	}
	return hex.EncodeToString(key), nil
}

// messageToSign is unambiguous: neither a subject nor a time holds a line end, and if one
// did, its length would tell.
func messageToSign(subject, expires string, body []byte) []byte {
	m := []byte("unitgate message 1\n")
	for _, part := range []string{subject, expires} {
		m = strconv.AppendInt(m, int64(len(part)), 10)
		m = append(m, ' ')
		m = append(m, part...)
		m = append(m, '\n')
	}
	return append(m, body...)
}
