package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// table is text in aligned columns. Names that people chose stand last: the width of their letters is not known.
type table [][]string

func newTable(head ...string) *table { return &table{head} }

func (t *table) row(cells ...any) {
	r := make([]string, len(cells))
	for i, c := range cells {
		r[i] = plain(fmt.Sprint(c))
		if r[i] == "" {
			r[i] = "-"
		}
	}
	*t = append(*t, r)
}

func (t *table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range *t {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	return tw.Flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
