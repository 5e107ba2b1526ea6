package observability_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// metricsOf are the names of the metrics in a PromQL expression, in their order. It knows what stands around names, not
// what an expression means: whether it is one at all, promtool says.
func metricsOf(expr string) ([]string, error) {
	var names []string
	for rest := expr; rest != ""; {
		r := rune(rest[0])
		switch {
		case unicode.IsSpace(r) || strings.ContainsRune("+-*/%^=!<>,()@:", r):
			rest = rest[1:]
		case r == '"' || r == '\'' || r == '`':
			n, err := closing(rest, rest[0])
			if err != nil {
				return nil, err
			}
			rest = rest[n:]
		case r == '{':
			n, err := closing(rest, '}')
			if err != nil {
				return nil, err
			}
			if strings.Contains(rest[:n], "__name__") {
				return nil, fmt.Errorf("%q: a metric is to be named before the braces", expr)
			}
			rest = rest[n:]
		case r == '[':
			n, err := closing(rest, ']')
			if err != nil {
				return nil, err
			}
			rest = rest[n:]
		case unicode.IsDigit(r) || r == '.':
			rest = strings.TrimLeft(rest, "0123456789.eEsmhdwyx")
		case unicode.IsLetter(r) || r == '_':
			n := strings.IndexFunc(rest, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != ':' })
			if n < 0 {
				n = len(rest)
			}
			word := rest[:n]
			rest = strings.TrimLeft(rest[n:], " \n")
			switch {
			case slices.Contains([]string{"by", "without", "on", "ignoring", "group_left", "group_right"}, word):
				if strings.HasPrefix(rest, "(") { // labels
					n, err := closing(rest, ')')
					if err != nil {
						return nil, err
					}
					rest = rest[n:]
				}
			case slices.Contains([]string{"and", "or", "unless", "bool", "offset"}, word), strings.HasPrefix(rest, "("):
			case slices.Contains([]string{"sum", "min", "max", "avg", "count", "topk"}, word): // by (…) follows
			default:
				names = append(names, word)
			}
		default:
			return nil, fmt.Errorf("%q: what is %q?", expr, r)
		}
	}
	return names, nil
}

// closing is where a bracket or a string that text begins with has ended; strings inside are passed over.
func closing(text string, end byte) (int, error) {
	quoted := end == '"' || end == '\'' || end == '`'
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == end:
			return i + 1, nil
		case c == '\\' && quoted && end != '`':
			i++
		case !quoted && (c == '"' || c == '\'' || c == '`'):
			n, err := closing(text[i:], c)
			if err != nil {
				return 0, err
			}
			i += n - 1
		}
	}
	return 0, fmt.Errorf("%q does not end", text)
}

func TestMetricsOf(t *testing.T) {
	for expr, want := range map[string]string{
		`a`: "a",
		`sum by (x, y) (rate(a_total{l="b{}\"c", m=~'d'}[5m])) > 0.05 * sum(b)`:    "a_total b",
		`a and on (l) group_left (m) b unless c`:                                   "a b c",
		`max by (n) (a) != min by (n) (b) offset 5m`:                               "a b",
		`histogram_quantile(0.99, sum by (le) (rate(h_bucket[$__rate_interval])))`: "h_bucket",
		`absent(up{job="x"} == 1)`:                                                 "up",
		`a > bool 1e3 or topk(3, b)`:                                               "a b",
		`sum(a) without (l) / count(b)`:                                            "a b",
	} {
		names, err := metricsOf(expr)
		if got := strings.Join(names, " "); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", expr, got, err, want)
		}
	}
	for _, bad := range []string{`{__name__="a"}`, `a{l="b`, `a ; b`, `rate(a[5m)`} {
		if names, err := metricsOf(bad); err == nil {
			t.Errorf("%s: %q", bad, names)
		}
	}
}
