package guest

import "slices"

// apiState is where the runtime behind the Runtime API is. Names and edges are
// AWS's (Runtime API; the names are part of its error messages).
//
//	Started ──► InitError
//	   │
//	   ▼
//	 Ready ◄────────────────────────────┐
//	   │                                │
//	   ▼                                │
//	Running ──► InvocationResponse ─────┼──► ResponseSent ──► Ready
//	   └──────► InvocationErrorResponse ┘
type apiState uint8

const (
	apiStarted                 apiState = iota // the runtime was started
	apiInitError                               // it reported that it cannot run the code
	apiReady                                   // it asks for an event
	apiRunning                                 // it has one
	apiInvocationResponse                      // it is sending its answer
	apiInvocationErrorResponse                 // it is sending an error
	apiResponseSent                            // it has answered
)

var apiStateNames = [...]string{"Started", "InitError", "Ready", "Running", "InvocationResponse", "InvocationErrorResponse", "ResponseSent"}

var apiEdges = [...][]apiState{
	apiStarted:                 {apiInitError, apiReady},
	apiInitError:               {},
	apiReady:                   {apiRunning},
	apiRunning:                 {apiInvocationResponse, apiInvocationErrorResponse},
	apiInvocationResponse:      {apiResponseSent},
	apiInvocationErrorResponse: {apiResponseSent},
	apiResponseSent:            {apiReady},
}

func (s apiState) canBecome(to apiState) bool { return slices.Contains(apiEdges[s], to) }

// String names the state as AWS does.
func (s apiState) String() string { return apiStateNames[s] }
