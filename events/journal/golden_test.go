package journal_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew: a change there is a change of the wire format")

// goldenRecords are three records in a row; names are those of the files in testdata.
func goldenRecords() map[string]events.Record {
	first := events.Record{
		Entity: "namespace", Verb: "created", CommandID: "7d444840-9dc0-11d1-b245-5ffdce74fad2",
		Type: "NamespaceCreated", Schema: 1, Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Actor: "ops@example.com", Data: []byte(`{"name":"shop"}`), Seq: 1,
	}
	second := events.Record{
		Entity: "cutover", Verb: "started", CommandID: "0f8fad5b-d9cb-469f-a165-70867728950e",
		Type: "CutoverStarted", Schema: 2, Time: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC),
		Actor: "王小明", Reason: "杭州扩容: 100% of range 5998-6380",
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Prev:        first.Hash(), Data: []byte(`{"cutover":"c-1"}`), Seq: 2,
	}
	hostile := events.Record{
		Entity: "unit", Verb: "put", CommandID: "16fd2706-8baf-433b-82eb-8c7fada847da",
		Type: "UnitPut", Schema: 1, Time: time.Date(2026, 3, 1, 12, 0, 1, 500000000, time.UTC),
		Actor: " mallory\r\nNats-Rollup: all", Reason: "tab\t%0A \xff", Prev: second.Hash(), Data: []byte("{}"), Seq: 3,
	}
	return map[string]events.Record{"first": first, "full": second, "hostile": hostile}
}

// TestGolden fixes subject, headers, guards, body and hash of stored records.
func TestGolden(t *testing.T) {
	for name, rec := range goldenRecords() {
		got := render(journal.Guarded("shop", rec.Seq-1, rec), rec.Hash())
		file := filepath.Join("testdata", name+".golden")
		if *rewrite {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the wire format has changed; journals that exist could not be read any more.\n got %s\nwant %s", file, got, want)
		}
	}
}

func render(m *nats.Msg, hash string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "subject: %s\n", m.Subject)
	for _, key := range slices.Sorted(maps.Keys(m.Header)) {
		for _, v := range m.Header[key] {
			fmt.Fprintln(&b, strings.TrimRight("header: "+key+": "+v, " "))
		}
	}
	fmt.Fprintf(&b, "body: %s\nhash: %s\n", m.Data, hash)
	return b.Bytes()
}

// TestGoldenRoundTrip stores the golden records in a real stream and reads them back.
func TestGoldenRoundTrip(t *testing.T) {
	j := newStream(t, journaltest.StartServer(t).JetStream())
	records := goldenRecords()
	for i, name := range []string{"first", "full", "hostile"} {
		if _, err := j.Append(t.Context(), uint64(i), records[name]); err != nil {
			t.Fatal(err)
		}
		if got := journaltest.All(t, j)[i]; !reflect.DeepEqual(got, records[name]) {
			t.Errorf("%s came back as %+v, want %+v", name, got, records[name])
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", " ", "a%b", "\r\n", "杭州", "\xff", "%ZZ", "%0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := journal.Escape(s)
		if strings.ContainsAny(e, "\r\n\x00") || e != strings.TrimSpace(e) {
			t.Fatalf("%q escapes to %q, which is no safe header value", s, e)
		}
		if back, err := journal.Unescape(e); err != nil || back != s {
			t.Fatalf("%q escapes to %q, which reads %q, %v", s, e, back, err)
		}
		if back, err := journal.Unescape(s); err == nil && journal.Escape(back) != s {
			t.Fatalf("%q is accepted and reads %q, which has another spelling", s, back)
		}
	})
}
