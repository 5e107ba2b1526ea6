package journal_test

import (
	"testing"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

func TestMemoryContract(t *testing.T) {
	journaltest.Run(t, func(*testing.T) journal.Journal { return journal.NewMemory("shop") })
}

func TestStreamContract(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journal.Journal {
		j, err := journal.Create(t.Context(), journaltest.StartServer(t).JetStream(), "shop", journal.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return j
	})
}
