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
	TenantID      string // X-Amz-Tenant-Id; empty for none
	WantLogTail   bool   // X-Amz-Log-Type: Tail
	Exact         bool   // X-Lambent-Exact: nothing may stand in for what is asked for
	Asynchronous  bool   // it was accepted before, and nobody waits for the answer
	Control       bool   // it asks a control function: what goes wrong with it is nobody's to ask about

	// Granted is told once that a container takes the call, before it is handed the
	// event; nil: nobody is. It must not block.
	Granted func()

	// Stream takes an answer that the function streams; nil: such an answer is
	// the Result's Payload like any other.
	Stream AnswerStream
}

// RequireTenant refuses, in AWS's words, a call for a tenant of a function that
// does not isolate its tenants, and one for none of a function that does; tenant
// is "" for none (developer guide, "Tenant isolation").
func (f *Function) RequireTenant(tenant string) error {
	refuse := func(message string) error {
		return &Error{Op: "invoke", Resource: string(f.Name), Kind: KindInvalid, Message: message}
	}
	switch isolates := f.TenantIsolation != ""; {
	case isolates && tenant == "":
		return refuse("The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.")
	case !isolates && tenant != "":
		return refuse("The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.")
	}
	return nil
}

// AnswerStream takes an answer as a function streams it. One goroutine calls it
// at a time, and perhaps still shortly after the invocation has failed.
type AnswerStream interface {
	// Begin comes once, before any byte, with how the execution started and what
	// the function says the type of its answer is. It must not block.
	Begin(start Start, contentType string)
	// Write takes the next bytes, which are only lent. It may wait, but not after
	// stop is closed; meanwhile the function waits. After an error the function
	// is ended.
	Write(b []byte, stop <-chan struct{}) error
}

// Result is what became of an invocation that reached a runtime, or that failed
// in a way AWS reports as a function error: the caller gets 200 for both.
type Result struct {
	RequestID     RequestID
	Payload       []byte // the function's answer, or AWS's error JSON
	Streamed      bool   // the answer has gone to the Invocation's Stream: Payload is only the error
	FunctionError string // "" or "Unhandled"
	Unexpected    []byte // what the function answered, where that is not what its owner has declared to be right
	ErrorType     string // AWS's name for what the function did wrong, where it has one; "" also where it is only in the payload
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
	ServedCode    CodeHash
	// What the call was for, which others may have stood in for.
	RequestedVersion Version
	RequestedCode    CodeHash

	ReceivedAt    time.Time
	ExecStartedAt time.Time // the runtime was handed the event; zero if it never was
}

// StoodIn tells whether other code than what was asked for served.
func (s *Start) StoodIn() bool {
	return s.RequestedVersion != "" && (s.RequestedVersion != s.ServedVersion || s.RequestedCode != s.ServedCode)
}
