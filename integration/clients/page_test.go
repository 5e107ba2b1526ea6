package clients

import (
	"os"
	"strings"
	"testing"
)

// row is a line of a table on the page of what a client sees.
func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |" }

// yes is a cell.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// checkPage holds the page's table against what was seen. Without some of the programs their rows are not looked at.
func checkPage(t *testing.T, rows []string) {
	t.Helper()
	text, err := os.ReadFile("../../edge/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		t.Log(r)
		if !strings.Contains(string(text), "\n"+r+"\n") {
			t.Errorf("edge/README.md does not have the row %s", r)
		}
	}
}
