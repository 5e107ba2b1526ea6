package dns

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	aliID     = "LTAI-unitgate-test"
	aliSecret = "s3cret+of/unitgate&alidns=key"
)

// aliServer answers as Alibaba Cloud DNS documents it (API 2015-01-09): its signature V3, pages of at most 500 records and
// of 20 if none is asked for, the newest first, host names without the root's dot, and its refusals.
type aliServer struct {
	mu      sync.Mutex
	minTTL  int // 600 in the free edition
	next    int
	zones   map[string][]aliRow // newest first
	nonces  map[string]bool
	asked   []string // actions, in order, refused ones as well
	refuse  []aliRefusal
	paged   func() // called after each page
	actions map[string]func(p url.Values) (map[string]any, *aliRefusal)
}

// aliRow is a record as the service shows it.
type aliRow struct {
	RecordID string `json:"RecordId"`
	Domain   string `json:"DomainName"`
	RR       string
	Type     string
	Value    string
	TTL      int
	Line     string
	Status   string
	Weight   int
	Locked   bool
}

type aliRefusal struct {
	status        int
	code, message string
}

var aliThrottled = aliRefusal{400, "Throttling.User", "Request was denied due to user flow control."}

// newAliServer has the zone msha.test of somebody who runs www there.
func newAliServer(t *testing.T) *aliServer {
	t.Helper()
	s := &aliServer{minTTL: 1, zones: map[string][]aliRow{"msha.test": nil}, nonces: map[string]bool{}}
	s.actions = map[string]func(url.Values) (map[string]any, *aliRefusal){
		"DescribeDomainRecords": s.describe, "DescribeSubDomainRecords": s.describeSub,
		"AddDomainRecord": s.add, "UpdateDomainRecord": s.update, "DeleteDomainRecord": s.remove,
	}
	s.row("www", "A", "192.0.2.99")
	return s
}

// row adds a record by hand.
func (s *aliServer) row(rr, typ, value string) {
	s.next++
	s.zones["msha.test"] = slices.Insert(s.zones["msha.test"], 0, aliRow{
		RecordID: strconv.Itoa(990000 + s.next), Domain: "msha.test", RR: rr, Type: typ, Value: value, TTL: 600, Line: "default", Status: "ENABLE", Weight: 1,
	})
}

// text is the zone, one record a line, sorted.
func (s *aliServer) text() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.zones["msha.test"] {
		out = append(out, r.RR+" "+r.Type+" "+r.Value)
	}
	slices.Sort(out)
	return out
}

func (s *aliServer) count(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if strings.HasPrefix(a, prefix) {
			n++
		}
	}
	return n
}

func (s *aliServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	action := r.Header.Get("x-acs-action")
	s.asked = append(s.asked, action)
	answer, refusal := map[string]any(nil), s.authentic(r)
	if refusal == nil && len(s.refuse) > 0 {
		refusal, s.refuse = &s.refuse[0], s.refuse[1:]
	}
	if refusal == nil {
		_ = r.ParseForm()
		if do := s.actions[action]; do == nil || r.Header.Get("x-acs-version") != "2015-01-09" {
			refusal = &aliRefusal{404, "InvalidAction.NotFound", "Specified api is not found, please check your url and method."}
		} else {
			answer, refusal = do(r.Form)
		}
	}
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	if refusal != nil {
		w.WriteHeader(refusal.status)
		answer = map[string]any{
			"Code": refusal.code, "Message": refusal.message, "HostId": r.Host,
			"Recommend": "https://api.aliyun.com/troubleshoot?q=" + refusal.code + "&product=Alidns",
		}
	}
	answer["RequestId"] = fmt.Sprintf("536E9CAD-DB30-4647-AC87-%012d", len(s.asked))
	_ = json.NewEncoder(w).Encode(answer)
}

// authentic checks a request's signature as the service documents it ("V3 request structure and signature").
func (s *aliServer) authentic(r *http.Request) *aliRefusal {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "ACS3-HMAC-SHA256 ")
	part := map[string]string{}
	for _, p := range strings.Split(rest, ",") {
		k, v, _ := strings.Cut(p, "=")
		part[k] = v
	}
	if !ok || part["Credential"] != aliID {
		return &aliRefusal{404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."}
	}
	if at, err := time.Parse("2006-01-02T15:04:05Z", r.Header.Get("x-acs-date")); err != nil || time.Since(at).Abs() > 15*time.Minute {
		return &aliRefusal{400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."}
	}
	nonce := r.Header.Get("x-acs-signature-nonce")
	if nonce == "" || s.nonces[nonce] {
		return &aliRefusal{400, "SignatureNonceUsed", "Specified signature nonce was used already."}
	}
	s.nonces[nonce] = true
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var head strings.Builder
	for _, h := range strings.Split(part["SignedHeaders"], ";") {
		v := r.Header.Get(h)
		if h == "host" {
			v = r.Host
		}
		head.WriteString(h + ":" + strings.TrimSpace(v) + "\n")
	}
	var query []string
	for k, v := range r.URL.Query() {
		query = append(query, rfc3986(k)+"="+rfc3986(v[0]))
	}
	slices.Sort(query)
	canonical := strings.Join([]string{r.Method, r.URL.Path, strings.Join(query, "&"), head.String(), part["SignedHeaders"], hexSum(body)}, "\n")
	mac := hmac.New(sha256.New, []byte(aliSecret))
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + hexSum([]byte(canonical))))
	signed := strings.Split(part["SignedHeaders"], ";")
	for _, must := range []string{"host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"} {
		ok = ok && slices.Contains(signed, must)
	}
	if !ok || r.Header.Get("x-acs-content-sha256") != hexSum(body) || part["Signature"] != hex.EncodeToString(mac.Sum(nil)) {
		return &aliRefusal{400, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation. server string to sign is:" + canonical}
	}
	return nil
}

func hexSum(b []byte) string { sum := sha256.Sum256(b); return hex.EncodeToString(sum[:]) }

// rfc3986 escapes all but its unreserved characters.
func rfc3986(s string) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~", c) >= 0 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

func (s *aliServer) zone(p url.Values) ([]aliRow, *aliRefusal) {
	rows, ok := s.zones[p.Get("DomainName")]
	if !ok {
		return nil, &aliRefusal{400, "InvalidDomainName.NoExist", "The specified domain name does not exist. Refresh the page and try again."}
	}
	return rows, nil
}

func (s *aliServer) describe(p url.Values) (map[string]any, *aliRefusal) {
	rows, refusal := s.zone(p)
	if refusal != nil {
		return nil, refusal
	}
	return s.page(p, rows)
}

func (s *aliServer) describeSub(p url.Values) (map[string]any, *aliRefusal) {
	rows, refusal := s.zone(p)
	if refusal != nil {
		return nil, refusal
	}
	return s.page(p, slices.DeleteFunc(slices.Clone(rows), func(r aliRow) bool {
		name := r.RR + "." + r.Domain
		if r.RR == "@" {
			name = r.Domain
		}
		return !strings.EqualFold(name, p.Get("SubDomain")) || p.Has("Type") && !strings.EqualFold(r.Type, p.Get("Type"))
	}))
}

func (s *aliServer) page(p url.Values, rows []aliRow) (map[string]any, *aliRefusal) {
	size, number := 20, 1
	if p.Has("PageSize") {
		size, _ = strconv.Atoi(p.Get("PageSize"))
	}
	if p.Has("PageNumber") {
		number, _ = strconv.Atoi(p.Get("PageNumber"))
	}
	if size < 1 || size > 500 || number < 1 {
		return nil, &aliRefusal{400, "InvalidParameter", "The specified parameter is invalid."}
	}
	from, to := min((number-1)*size, len(rows)), min(number*size, len(rows))
	out := map[string]any{
		"TotalCount": len(rows), "PageNumber": number, "PageSize": size,
		"DomainRecords": map[string]any{"Record": append([]aliRow{}, rows[from:to]...)},
	}
	if s.paged != nil {
		s.paged()
	}
	return out, nil
}

func (s *aliServer) add(p url.Values) (map[string]any, *aliRefusal) {
	rows, refusal := s.zone(p)
	if refusal != nil {
		return nil, refusal
	}
	n := aliRow{Domain: p.Get("DomainName"), Line: "default", Status: "ENABLE", Weight: 1}
	if refusal := s.fill(&n, p); refusal != nil {
		return nil, refusal
	}
	s.next++
	n.RecordID = strconv.Itoa(990000 + s.next)
	s.zones[n.Domain] = slices.Insert(rows, 0, n)
	return map[string]any{"RecordId": n.RecordID}, nil
}

func (s *aliServer) update(p url.Values) (map[string]any, *aliRefusal) {
	return s.byID(p, func(rows []aliRow, i int) *aliRefusal {
		n := rows[i]
		if refusal := s.fill(&n, p); refusal != nil {
			return refusal
		}
		rows[i] = n
		return nil
	})
}

func (s *aliServer) remove(p url.Values) (map[string]any, *aliRefusal) {
	return s.byID(p, func(rows []aliRow, i int) *aliRefusal {
		s.zones[rows[i].Domain] = slices.Delete(rows, i, i+1)
		return nil
	})
}

func (s *aliServer) byID(p url.Values, do func([]aliRow, int) *aliRefusal) (map[string]any, *aliRefusal) {
	for _, zone := range slices.Sorted(maps.Keys(s.zones)) {
		rows := s.zones[zone]
		if i := slices.IndexFunc(rows, func(r aliRow) bool { return r.RecordID == p.Get("RecordId") }); i >= 0 {
			if refusal := do(rows, i); refusal != nil {
				return nil, refusal
			}
			return map[string]any{"RecordId": p.Get("RecordId")}, nil
		}
	}
	return nil, &aliRefusal{400, "DomainRecordNotBelongToUser", "The domain name and record do not belong to this user."}
}

// fill gives a record what is asked for, if the zone may hold it beside the others.
func (s *aliServer) fill(n *aliRow, p url.Values) *aliRefusal {
	n.RR, n.Type, n.Value = p.Get("RR"), p.Get("Type"), p.Get("Value")
	n.TTL, _ = strconv.Atoi(p.Get("TTL"))
	if n.Type == "CNAME" {
		n.Value = strings.TrimSuffix(n.Value, ".")
	}
	if n.RR == "" || n.Type == "" || n.Value == "" {
		return &aliRefusal{400, "MissingParameter", "A required parameter is missing."}
	}
	if n.TTL < s.minTTL || n.TTL > 86400 {
		return &aliRefusal{400, "QuotaExceeded.TTL", fmt.Sprintf("The specified TTL is invalid. A valid TTL must be in the range of %d to 86400.", s.minTTL)}
	}
	for _, o := range s.zones[n.Domain] {
		switch {
		case o.RR != n.RR:
		case o.Type == n.Type && o.Value == n.Value && (o.RecordID != n.RecordID || o.TTL == n.TTL):
			return &aliRefusal{400, "DomainRecordDuplicate", "The DNS record already exists."}
		case o.RecordID != n.RecordID && (o.Type == "CNAME" || n.Type == "CNAME"):
			return &aliRefusal{400, "DomainRecordConflict", "The DNS record conflicts with an existing record."}
		}
	}
	return nil
}

// insteadOfAli answers in place of the service what is sent to its address, through http.DefaultTransport, until the test
// ends. Such a test cannot be parallel.
type insteadOfAli func(r *http.Request) (*http.Response, error)

func (i insteadOfAli) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" || r.URL.Host != "alidns.aliyuncs.com" {
		return nil, fmt.Errorf("a request to %s", r.URL.Redacted())
	}
	return i(r)
}

func (i insteadOfAli) until(t *testing.T) {
	t.Helper()
	was := http.DefaultTransport
	http.DefaultTransport = i
	t.Cleanup(func() { http.DefaultTransport = was })
}

// serve puts a real HTTP server in the service's place.
func (s *aliServer) serve(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	to, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	direct := server.Client().Transport
	insteadOfAli(func(r *http.Request) (*http.Response, error) {
		out := r.Clone(r.Context())
		out.Host = r.URL.Host // what was signed
		out.URL.Scheme, out.URL.Host = "http", to.Host
		return direct.RoundTrip(out)
	}).until(t)
	return server
}

// direct answers without a connection: a test with time of its own can do no other.
func (s *aliServer) direct(t *testing.T) {
	t.Helper()
	insteadOfAli(func(r *http.Request) (*http.Response, error) {
		in := r.Clone(r.Context())
		if in.Body == nil {
			in.Body = http.NoBody
		}
		in.Host = r.URL.Host
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, in)
		return rec.Result(), nil
	}).until(t)
}
