package runtimeapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"syscall"

	"lambent/internal/runtimeapi/frame"
)

// ErrClosed is a conversation that is over because the other end is gone or
// because Close was called. An *ExitError is one too, with the reason.
var ErrClosed = errors.New("the runtime's connection is closed")

// ErrNotTaken is an assignment that the runtime was gone before it had taken.
var ErrNotTaken = errors.New("the runtime did not take its assignment")

// ErrState is a call that the session's state does not allow.
var ErrState = errors.New("not possible in this state")

// ErrTooLarge is an event over frame.MaxPayload.
var ErrTooLarge = errors.New("event too large")

// StreamError is a streamed answer whose Stream took no more of it. The session
// is over: the runtime would go on sending what nobody wants.
type StreamError struct{ Err error } // what the Stream said

// Error says what the stream said.
func (e *StreamError) Error() string { return "the answer's stream takes no more: " + e.Err.Error() }

// Unwrap gives what the stream said.
func (e *StreamError) Unwrap() error { return e.Err }

// ProtocolError is a guest that broke the rules of the conversation. The session
// is over; the fault is the guest's.
type ProtocolError struct {
	State  State      // where the session was
	Frame  frame.Type // what came
	Reason string
}

// Error renders what came when, and what was wrong with it.
func (e *ProtocolError) Error() string {
	return fmt.Sprintf("the runtime broke the protocol: %s while %s: %s", e.Frame, e.State, e.Reason)
}

// InitError is a runtime that reported it cannot run the code.
type InitError struct {
	Type string // such as Runtime.ImportModuleError, or the exception's name
	Body []byte // AWS's error JSON, as the runtime made it
}

// Error renders type and body.
func (e *InitError) Error() string { return fmt.Sprintf("init failed: %s: %s", e.Type, e.Body) }

// Payload is what the caller of the function is told: the runtime's own error
// JSON. Errors of the platform's own making get the request id that AWS puts in
// front of those.
func (e *InitError) Payload(requestID string) []byte {
	if e.Type != TypeInvalidEntrypoint && e.Type != "Runtime.InvalidWorkingDir" {
		return e.Body
	}
	var body struct {
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal(e.Body, &body) != nil || body.Message == "" {
		body.Message = "the runtime's entry point is missing"
	}
	return ErrorPayload(e.Type, requestID, body.Message)
}

// The error types that the platform itself makes (AWS's names).
const (
	TypeExit              = "Runtime.ExitError"
	TypeInvalidEntrypoint = "Runtime.InvalidEntrypoint"
	TypeResponseTooLarge  = "Function.ResponseSizeTooLarge"
	TypeUnknown           = "Runtime.Unknown"
)

// ExitError is a runtime whose process has ended. It is an ErrClosed.
type ExitError struct {
	Code   int            // exit status
	Signal syscall.Signal // what killed it; 0 for nothing
}

// Error is AWS's text for it.
func (e *ExitError) Error() string {
	switch {
	case e.Signal != 0:
		return "Runtime exited with error: signal: " + e.Signal.String()
	case e.Code != 0:
		return fmt.Sprintf("Runtime exited with error: exit status %d", e.Code)
	}
	return "Runtime exited without providing a reason"
}

// Unwrap makes an exit an ErrClosed.
func (e *ExitError) Unwrap() error { return ErrClosed }

// Payload is what the caller of the function is told.
func (e *ExitError) Payload(requestID string) []byte {
	return ErrorPayload(TypeExit, requestID, e.Error())
}

// ErrorPayload is the error JSON AWS makes for failures of its own making:
//
//	{"errorType":TYPE,"errorMessage":"RequestId: ID Error: MESSAGE"}
func ErrorPayload(errorType, requestID, message string) []byte {
	return PlainErrorPayload(errorType, fmt.Sprintf("RequestId: %s Error: %s", requestID, message))
}

// PlainErrorPayload is error JSON without the request's id in its message.
func PlainErrorPayload(errorType, message string) []byte {
	b, err := json.Marshal(struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{errorType, message})
	if err != nil {
		return []byte(`{}`) // cannot be: two strings
	}
	return b
}

// tooLargePayload is what a caller is told of an answer over the limit.
func tooLargePayload() []byte {
	return PlainErrorPayload(TypeResponseTooLarge,
		fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", frame.MaxPayload))
}

// cleanType keeps an error type that can go into logs, metrics and headers:
// printable ASCII of at most 128 characters. Others become Runtime.Unknown.
func cleanType(s string) string {
	if s == "" || len(s) > 128 {
		return TypeUnknown
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return TypeUnknown
		}
	}
	return s
}
