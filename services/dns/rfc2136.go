package dns

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/libdns/libdns"
	"github.com/libdns/rfc2136"
	"github.com/miekg/dns"
)

// primaryServer is a zone's primary server, as the library speaks to it. It adds an end for zone transfers, which the
// library lets go on for as long as the server does, and the server's own reason where the library has none.
type primaryServer struct {
	*rfc2136.Provider
	now func() time.Time
}

func (p primaryServer) GetRecords(ctx context.Context, zone string) ([]libdns.Record, error) {
	type answer struct {
		records []libdns.Record
		err     error
	}
	done := make(chan answer, 1)
	go func() {
		r, err := p.Provider.GetRecords(ctx, zone)
		done <- answer{r, err}
	}()
	select {
	case a := <-done:
		return a.records, p.explain(ctx, zone, new(dns.Msg).SetAxfr(dns.Fqdn(zone)), a.err)
	case <-ctx.Done():
		return nil, fmt.Errorf("zone transfer: %w", ctx.Err())
	}
}

func (p primaryServer) SetRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	r, err := p.Provider.SetRecords(ctx, zone, records)
	return r, p.explain(ctx, zone, new(dns.Msg).SetUpdate(dns.Fqdn(zone)), err)
}

func (p primaryServer) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	r, err := p.Provider.DeleteRecords(ctx, zone, records)
	return r, p.explain(ctx, zone, new(dns.Msg).SetUpdate(dns.Fqdn(zone)), err)
}

// askWithin bounds a question that is put to explain an error.
const askWithin = 3 * time.Second

// explain adds to an error what the server says of q: the same request once more, for an update with nothing to change.
// The library sees just that an answer is not signed as it should be, which is the case for each of TSIG's errors (RFC
// 8945, section 5.2).
func (p primaryServer) explain(ctx context.Context, zone string, q *dns.Msg, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	key := dns.Fqdn(p.KeyName)
	q.SetTsig(key, dns.Fqdn(p.KeyAlg), 300, p.now().Unix())
	client := dns.Client{Net: "tcp", TsigSecret: map[string]string{key: p.Key}}
	answer, _, _ := client.ExchangeContext(ctx, q, p.Server) // of the error, the answer says more
	if answer == nil {
		return err
	}
	if why := p.reason(answer, zone); why != "" {
		return fmt.Errorf("%s says %s: %w", p.Server, why, err)
	}
	return err
}

// reason is what an answer says of the key, "" if nothing is wrong with it.
func (p primaryServer) reason(answer *dns.Msg, zone string) string {
	code := uint16(dns.RcodeSuccess)
	t := answer.IsTsig()
	if t != nil {
		code = t.Error
	}
	switch code {
	case dns.RcodeBadSig:
		return fmt.Sprintf("BADSIG: the secret of the key %s is another one there", p.KeyName)
	case dns.RcodeBadKey:
		return fmt.Sprintf("BADKEY: it knows no key %s of %s, or lets it do nothing with zone %s", p.KeyName, strings.TrimSuffix(p.KeyAlg, "."), zone)
	case dns.RcodeBadTime:
		return "BADTIME: its clock and this machine's differ by more than five minutes" + serverTime(t.OtherData, p.now())
	case dns.RcodeBadTrunc:
		return "BADTRUNC: signatures of the key are longer there"
	}
	switch answer.Rcode {
	case dns.RcodeRefused:
		return fmt.Sprintf("REFUSED: the key %s may not do that with zone %s", p.KeyName, zone)
	case dns.RcodeNotAuth:
		return fmt.Sprintf("NOTAUTH: it does not hold zone %s, or does not let the key %s do that", zone, p.KeyName)
	}
	return ""
}

// serverTime reads the 48 bits of seconds that come with BADTIME (RFC 8945, section 5.2.3), in hex.
func serverTime(other string, now time.Time) string {
	b, err := hex.DecodeString(other)
	if err != nil || len(b) != 6 {
		return ""
	}
	var seconds int64
	for _, x := range b {
		seconds = seconds<<8 | int64(x)
	}
	const form = "2006-01-02 15:04:05 UTC"
	return fmt.Sprintf(" (%s there, %s here)", time.Unix(seconds, 0).UTC().Format(form), now.UTC().Format(form))
}
