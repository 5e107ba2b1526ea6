package dns

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libdns/libdns"
)

const (
	aliEndpoint = "https://alidns.aliyuncs.com/"
	aliVersion  = "2015-01-09"
	aliPage     = 500     // records, the most that the service gives at a time
	aliAnswer   = 4 << 20 // bytes, some ten times such a page
	aliLongTTL  = 10 * time.Minute
)

// aliDNS is Alibaba Cloud DNS, by its API of 2015-01-09, with its signature V3. A change takes a request for each name and
// type, and one for each record that changes. It may be used by any number of goroutines.
type aliDNS struct {
	id, secret string // an access key
}

// aliError is a refusal of the service.
type aliError struct {
	Code    string
	Message string
	status  int // of HTTP
}

func (e *aliError) Error() string {
	// The first sentence: what follows may be what was to be signed, which differs each time and would be logged each time.
	message, _, _ := strings.Cut(e.Message, ". ")
	text := fmt.Sprintf("%s (HTTP %d): %s", e.Code, e.status, strings.TrimSuffix(message, "."))
	switch {
	case strings.HasPrefix(e.Code, "InvalidAccessKeyId"), e.Code == "SignatureDoesNotMatch":
		text += ": give an access key that is valid"
	case strings.HasPrefix(e.Code, "Forbidden"):
		text += ": let the access key's user read and change the zone's records"
	case e.Code == "InvalidDomainName.NoExist", e.Code == "IncorrectDomainUser":
		text += ": add the zone to the access key's account"
	}
	return text
}

// aliRecord is a record of the service's. Its value is a host name without the root's dot, if it is one.
type aliRecord struct {
	ID    string `json:"RecordId"`
	RR    string // name relative to the zone, @ for its top
	Type  string
	Value string
	TTL   int // seconds
}

// GetRecords is the whole zone, page by page. A record that somebody has switched off in the console is one like others.
func (a *aliDNS) GetRecords(ctx context.Context, zone string) ([]libdns.Record, error) {
	records, err := a.list(ctx, "DescribeDomainRecords", url.Values{"DomainName": {bare(zone)}})
	if err != nil {
		return nil, err
	}
	out := make([]libdns.Record, len(records))
	for i, r := range records {
		value := r.Value
		if r.Type == "CNAME" {
			value = bare(value) + "."
		}
		out[i] = libdns.RR{Name: r.RR, Type: r.Type, Data: value, TTL: time.Duration(r.TTL) * time.Second}
	}
	return out, nil
}

// SetRecords makes these the only records of their names and types. Records that are right stay as they are, others are
// given a new value where there is one, so that a name that leads somewhere always does.
func (a *aliDNS) SetRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	err := a.bySet(ctx, zone, records, func(want []libdns.RR, there []aliRecord) error {
		var missing []libdns.RR
		for _, w := range want {
			if i := slices.IndexFunc(there, func(r aliRecord) bool { return r.is(w) }); i >= 0 {
				there = slices.Delete(there, i, i+1)
			} else {
				missing = append(missing, w)
			}
		}
		for _, w := range missing {
			action, params := "AddDomainRecord", url.Values{"DomainName": {bare(zone)}}
			if len(there) > 0 {
				action, params = "UpdateDomainRecord", url.Values{"RecordId": {there[0].ID}}
				there = there[1:]
			}
			if err := a.put(ctx, action, params, w); err != nil {
				return err
			}
		}
		return a.remove(ctx, there)
	})
	return records, err
}

// DeleteRecords removes those that are there: same name, type and value.
func (a *aliDNS) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	err := a.bySet(ctx, zone, records, func(unwanted []libdns.RR, there []aliRecord) error {
		return a.remove(ctx, slices.DeleteFunc(there, func(r aliRecord) bool { return !slices.ContainsFunc(unwanted, r.is) }))
	})
	return records, err
}

// bySet calls do for each name and type among records, with what the zone has of that name and type. The service's search
// by keyword finds more: names and values that contain it.
func (a *aliDNS) bySet(ctx context.Context, zone string, records []libdns.Record, do func(asked []libdns.RR, there []aliRecord) error) error {
	sets := map[[2]string][]libdns.RR{}
	for _, r := range records {
		rr := r.RR()
		rr.Name = libdns.RelativeName(absolute(rr.Name, bare(zone))+".", bare(zone)+".")
		sets[[2]string{rr.Name, rr.Type}] = append(sets[[2]string{rr.Name, rr.Type}], rr)
	}
	for _, k := range slices.SortedFunc(maps.Keys(sets), func(x, y [2]string) int { return slices.Compare(x[:], y[:]) }) {
		params := url.Values{"DomainName": {bare(zone)}, "SubDomain": {absolute(k[0], bare(zone))}, "Type": {k[1]}}
		there, err := a.list(ctx, "DescribeSubDomainRecords", params)
		if err != nil {
			return err
		}
		there = slices.DeleteFunc(there, func(r aliRecord) bool { return !strings.EqualFold(r.RR, k[0]) || r.Type != k[1] })
		if err := do(sets[k], there); err != nil {
			return err
		}
	}
	return nil
}

// is tells whether this is a record, of the same name and type.
func (r aliRecord) is(w libdns.RR) bool {
	if r.Type == "CNAME" {
		return strings.EqualFold(bare(r.Value), bare(w.Data))
	}
	return r.Value == w.Data
}

// put adds or changes a record. Editions that are not paid for have no TTL under ten minutes.
func (a *aliDNS) put(ctx context.Context, action string, params url.Values, w libdns.RR) error {
	params.Set("RR", w.Name)
	params.Set("Type", w.Type)
	params.Set("Value", w.Data)
	var refused *aliError
	for _, ttl := range []time.Duration{w.TTL, aliLongTTL} {
		params.Set("TTL", strconv.Itoa(int(ttl.Seconds())))
		err := a.call(ctx, action, params, &struct{}{})
		if !errors.As(err, &refused) || refused.Code != "QuotaExceeded.TTL" {
			return err
		}
	}
	return refused
}

func (a *aliDNS) remove(ctx context.Context, records []aliRecord) error {
	for _, r := range records {
		if err := a.call(ctx, "DeleteDomainRecord", url.Values{"RecordId": {r.ID}}, &struct{}{}); err != nil {
			return err
		}
	}
	return nil
}

// list asks for all pages. Pages are counted from the newest record on: one that goes in between lets another slip past, and
// it fails. One that comes makes another appear twice, and is itself left for the next time.
func (a *aliDNS) list(ctx context.Context, action string, params url.Values) ([]aliRecord, error) {
	params.Set("PageSize", strconv.Itoa(aliPage))
	var out []aliRecord
	seen := map[string]bool{}
	for page, total := 1, -1; ; page++ {
		params.Set("PageNumber", strconv.Itoa(page))
		var answer struct {
			TotalCount    *int
			DomainRecords struct{ Record []aliRecord }
		}
		switch err := a.call(ctx, action, params, &answer); {
		case err != nil:
			return nil, err
		case answer.TotalCount == nil:
			return nil, fmt.Errorf("%s: the answer does not say how many records there are", action)
		}
		for _, r := range answer.DomainRecords.Record {
			if !seen[r.ID] {
				seen[r.ID] = true
				out = append(out, r)
			}
		}
		if total < 0 {
			total = *answer.TotalCount
		}
		last := len(answer.DomainRecords.Record) == 0 || len(out) >= total
		switch {
		case last && len(out) != total:
			return nil, fmt.Errorf("%s: the zone was changed while it was read", action)
		case last:
			return out, nil
		}
	}
}

// call makes one request, with a nonce of its own, as the service takes each only once. The access key's secret is in none.
func (a *aliDNS) call(ctx context.Context, action string, params url.Values, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, aliEndpoint+"?"+strings.ReplaceAll(params.Encode(), "+", "%20"), nil)
	if err != nil {
		return err
	}
	a.sign(req, action, aliVersion, rand.Text(), time.Now())
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		var where *url.Error // would repeat the whole request
		if errors.As(err, &where) {
			err = where.Err
		}
		return fmt.Errorf("%s at %s: %w", action, req.URL.Host, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, aliAnswer))
	if err != nil {
		return fmt.Errorf("%s at %s: read the answer: %w", action, req.URL.Host, err)
	}
	if resp.StatusCode != http.StatusOK {
		refused := &aliError{status: resp.StatusCode}
		if json.Unmarshal(body, refused) != nil || refused.Code == "" {
			return fmt.Errorf("%s at %s: HTTP %d, without a reason", action, req.URL.Host, resp.StatusCode)
		}
		return fmt.Errorf("%s: %w", action, refused)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%s at %s: the answer cannot be read: %w", action, req.URL.Host, err)
	}
	return nil
}

// sign makes a request without a body one of the access key's, by ACS3-HMAC-SHA256.
func (a *aliDNS) sign(req *http.Request, action, version, nonce string, now time.Time) {
	empty := sha256.Sum256(nil)
	signed := [][2]string{ // by name
		{"host", req.URL.Host}, {"x-acs-action", action}, {"x-acs-content-sha256", hex.EncodeToString(empty[:])},
		{"x-acs-date", now.UTC().Format("2006-01-02T15:04:05Z")}, {"x-acs-signature-nonce", nonce}, {"x-acs-version", version},
	}
	var heads strings.Builder
	names := make([]string, len(signed))
	for i, h := range signed {
		names[i] = h[0]
		heads.WriteString(h[0] + ":" + h[1] + "\n")
		if h[0] != "host" {
			req.Header.Set(h[0], h[1])
		}
	}
	canonical := sha256.Sum256([]byte(strings.Join([]string{
		req.Method, "/", req.URL.RawQuery, heads.String(), strings.Join(names, ";"), hex.EncodeToString(empty[:]),
	}, "\n")))
	mac := hmac.New(sha256.New, []byte(a.secret))
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + hex.EncodeToString(canonical[:])))
	req.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential="+a.id+",SignedHeaders="+strings.Join(names, ";")+",Signature="+hex.EncodeToString(mac.Sum(nil)))
}

// bare is a name without the root's dot.
func bare(name string) string { return strings.TrimSuffix(name, ".") }
