// Package scenarios tells stories of cutovers as text: testdata/*.txt has commands and what came of them, from the real
// core and the real driver. testdata/README.md shows each verb.
//
//	go test ./integration/scenarios                       # every story still ends as it is written
//	go test ./integration/scenarios -rewrite              # writes down how they end now: read the difference
package scenarios
