package cutover

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events"
)

// owns is a caller whose hooks all have this of their own.
func owns(own HookOwn, err error) *HookCaller {
	return NewHookCaller(HookConfig{
		Secret: func() ([]byte, error) { return testSecret, nil }, To: allow("127.0.0.1"),
		Own: func(namespace, hook string) (HookOwn, error) {
			if namespace != testNamespace || hook != "ask" {
				return HookOwn{}, errors.New("another hook was asked for")
			}
			return own, err
		},
	})
}

// The receiver of one hook knows the key of that hook. What it makes with it is taken by
// no other receiver, nor for another URL, method, time or body.
func TestOneReceiverCannotCallAnother(t *testing.T) {
	const url = "https://ops.example/ask"
	key := HookKey(testSecret, "shop", "ask")
	if strings.Contains(key, string(testSecret)) || len(key) < MinHookSecret {
		t.Errorf("key %q", key)
	}
	other := map[string]string{
		"another hook": HookKey(testSecret, "shop", "tell"), "another namespace": HookKey(testSecret, "shop2", "ask"),
		"another secret": HookKey([]byte("another secret of it"), "shop", "ask"), "the border moved": HookKey(testSecret, "shopask", ""), "the secret itself": string(testSecret),
	}
	right := HookSignature([]byte(key), "POST", url, "1", []byte("{}"))
	for name, k := range other {
		if HookSignature([]byte(k), "POST", url, "1", []byte("{}")) == right {
			t.Errorf("%s: the same signature", name)
		}
	}
	for name, s := range map[string]string{
		"URL": HookSignature([]byte(key), "POST", url+"2", "1", []byte("{}")), "path": HookSignature([]byte(key), "POST", "https://ops.example/tell", "1", []byte("{}")),
		"method": HookSignature([]byte(key), "PUT", url, "1", []byte("{}")), "time": HookSignature([]byte(key), "POST", url, "2", []byte("{}")),
		"body": HookSignature([]byte(key), "POST", url, "1", []byte("{ }")), "the first form": Signature([]byte(key), "1", []byte("{}")),
	} {
		if s == right {
			t.Errorf("another %s: the same signature", name)
		}
	}
}

// With a key of its own a hook's call carries nothing that the secret of all has signed:
// its receiver could hand that on.
func TestHookWithItsOwnKey(t *testing.T) {
	const own = "a key of one receiver alone"
	var header http.Header
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		header = r.Header
		body, _ = io.ReadAll(r.Body)
	}))
	defer srv.Close()
	o := hookTo(t, srv.URL+"/x")
	if res := callHook(t, owns(HookOwn{Key: []byte(own)}, nil), o); !res.OK {
		t.Fatalf("%+v", res)
	}
	at := header.Get("Unitgate-Timestamp")
	if want := "v2=" + HookSignature([]byte(own), "POST", srv.URL+"/x", at, body); header.Get("Unitgate-Hook-Signature") != want {
		t.Errorf("signature %q", header.Get("Unitgate-Hook-Signature"))
	}
	if s := header.Get("Unitgate-Signature"); s != "" {
		t.Errorf("also signed %q", s)
	}
}

// A secret URL is called where the journal's says, and nowhere else: an operator who puts
// a host of his own into the journal is not told the secret. It stands in no result.
func TestSecretURL(t *testing.T) {
	var got string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.RequestURI
		if r.URL.Path != "/hooks/T0/B0/TOKEN" {
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	secret := srv.URL + "/hooks/T0/B0/TOKEN?thread=1"
	for name, c := range map[string]struct {
		journal string
		own     HookOwn
		err     error
		code    string
		uri     string
	}{
		"as it should be":     {srv.URL + "/hooks/{secret}?thread=1", HookOwn{URL: secret}, nil, "", "/hooks/T0/B0/TOKEN?thread=1"},
		"another host":        {"http://evil.example/hooks/{secret}?thread=1", HookOwn{URL: secret}, nil, events.HookNoSecret, ""},
		"another path":        {srv.URL + "/other/{secret}?thread=1", HookOwn{URL: secret}, nil, events.HookNoSecret, ""},
		"another end":         {srv.URL + "/hooks/{secret}?thread=2", HookOwn{URL: secret}, nil, events.HookNoSecret, ""},
		"overlapping":         {srv.URL + "/hooks/T0/B0/TOKEN{secret}TOKEN?thread=1", HookOwn{URL: secret}, nil, events.HookNoSecret, ""},
		"no secret":           {srv.URL + "/hooks/{secret}", HookOwn{}, nil, events.HookNoSecret, ""},
		"unreadable":          {srv.URL + "/hooks/{secret}", HookOwn{}, errors.New("shop.ask.url: permission denied"), events.HookNoSecret, ""},
		"no secret is wanted": {srv.URL + "/plain", HookOwn{URL: secret}, nil, events.HookRefused, "/plain"},
	} {
		t.Run(name, func(t *testing.T) {
			got = ""
			res := callHook(t, owns(c.own, c.err), hookTo(t, c.journal))
			if res.Code != c.code || got != c.uri || strings.Contains(res.Message, "TOKEN") {
				t.Errorf("called %q: %+v", got, res)
			}
		})
	}
}
