package lambent

import "time"

// Invocation is one request to run a function, as a door hands it on: already
// authenticated, its payload within limits and well-formed.
type Invocation struct {
	RequestID     RequestID
	Account       AccountID
	Function      FunctionName
	Qualifier     string // version or alias; empty for $LATEST
	Payload       []byte // JSON; empty is allowed and reaches the function as {}
	ReceivedAt    time.Time
	ClientContext string // JSON, already base64-decoded; empty for none
	TraceID       string // X-Amzn-Trace-Id; empty for none
	WantLogTail   bool   // X-Amz-Log-Type: Tail
}

// Result is what became of an invocation that reached a runtime, or that failed
// in a way AWS reports as a function error: the caller gets 200 for both.
type Result struct {
	RequestID     RequestID
	Payload       []byte // the function's answer, or AWS's error JSON
	FunctionError string // "" or "Unhandled"
	Outcome       Outcome
	LogTail       []byte // the last 4,096 bytes of the log, when asked for
	Start         Start
}

// Start tells how, where and when an execution started.
type Start struct {
	Kind          StartKind
	Reason        string // one sentence for people
	Instance      InstanceID
	Container     ContainerID
	ServedVersion Version
	ReceivedAt    time.Time
	ExecStartedAt time.Time // the runtime was handed the event; zero if it never was
}
