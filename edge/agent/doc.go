// Package agent keeps one edge at the newest state of its namespace: it follows the journal, hands each state to the
// relay and to the disk, reports how far it is, joins, and answers the control plane's questions.
//
// Agent, the machine, and BuildView are pure. Runner is the process around them: one goroutine of it owns the machine,
// others do what may block (installing, fsync, the journal, joining, answering) and come back to it with inputs.
package agent
