# A trace of Jaeger's as text, each span below its parent: when it began, how long it took, and what it says.
# curl -s http://127.0.0.1:16686/api/traces/ID | jq -rf deployments/observability/trace.jq
["check.id", "check.verdict", "wave", "slots.moved", "edge.id", "sessions.evicted", "actor", "outcome"] as $shown
| .data[0].spans as $spans
| [$spans[].spanID] as $ids
| ([$spans[].startTime] | min) as $zero
| def parent: [.references[] | select(.refType == "CHILD_OF") | .spanID][0] // "";
  def says: [.tags[] | . as $t | select(($t.key | startswith("unitgate.")) and ($shown | index($t.key[9:]))) | "\(.key[9:])=\(.value)"] | join(" ");
  def ms: . / 1000 | . * 10 | round / 10;
  def tree($of; $indent):
    [$spans[] | parent as $p | select(if $of == "" then ($ids | index($p)) == null else $p == $of end)]
    | sort_by(.startTime)[]
    | ("\($indent)\(.operationName)  +\(.startTime - $zero | ms) ms, \(.duration | ms) ms  \(says)" | sub(" +$"; "")), tree(.spanID; $indent + "  ");
  tree(""; "")
