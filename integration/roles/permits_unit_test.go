package roles_test

import (
	"math/rand/v2"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// Every pattern of accounts.conf is spoken on, and what is said on it has a shape that is
// its own: a subject that is added to the file is fuzzed, or this test says that it is
// not.
func TestEverySubjectIsSpokenOn(t *testing.T) {
	l := newLab(t)
	if len(l.roles) < 4 {
		t.Fatalf("only %d roles were found", len(l.roles))
	}
	for _, r := range l.roles {
		s := newSpeaker(l, r, 1)
		for _, pattern := range r.may {
			rng := rand.New(rand.NewPCG(1, 2))
			for range 200 {
				subject := l.words.subject(rng, pattern)
				if !server.SubjectMatchesFilter(subject, pattern) || !server.IsValidPublishSubject(subject) {
					t.Fatalf("%s: %q is none of %q", r.name, subject, pattern)
				}
				if s.shape(subject) == nil {
					t.Errorf("%s may say %q, and nothing here says what", r.name, subject)
				}
			}
		}
	}
}

// The same seed says the same.
func TestSpeakersAreReplayable(t *testing.T) {
	l := newLab(t)
	for _, r := range l.roles {
		a, b, c := newSpeaker(l, r, 7), newSpeaker(l, r, 7), newSpeaker(l, r, 8)
		differ := false
		for range 300 {
			x, y, z := a.next(), b.next(), c.next()
			if x.subject != y.subject || x.reply != y.reply || string(x.body) != string(y.body) || x.kind != y.kind {
				t.Fatalf("%s: %s and %s", r.name, x, y)
			}
			differ = differ || x.subject != z.subject
			if len(x.body) > maxPayload {
				t.Fatalf("%s: %d bytes", x, len(x.body))
			}
		}
		if !differ {
			t.Errorf("%s: another seed says the same", r.name)
		}
	}
}
