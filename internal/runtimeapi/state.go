package runtimeapi

import "slices"

// State is where a session is in its life.
//
//	Started ──► Booted ──► Initialising ──► Ready ◄──────────────┐
//	   │           │          │   │           │                  │
//	   │           │          │   ▼           ▼                  │
//	   │           │          │ InitFailed  Running ──► ResponseSent
//	   │           │          │   │           │    │        ▲    │
//	   │           │          │   │           │  Streaming ─┘    │
//	   │           │          │   │           │    │             │
//	   └───────────┴──────────┴───┴───────────┴────┴─────────────┴──► Closed
//
// The names from Ready on are those of AWS's Runtime API.
type State uint8

// The states of a session.
const (
	Started      State = iota // the process was started; nothing heard yet
	Booted                    // its runtime is up and waits for code
	Initialising              // it was given its code
	InitFailed                // it reported that it cannot run the code
	Ready                     // it asked for the next event
	Running                   // it has an event
	Streaming                 // it is sending its answer in parts
	ResponseSent              // it answered, and has not asked for the next
	Closed                    // the conversation is over
)

var stateNames = [...]string{"started", "booted", "initialising", "init failed", "ready", "running", "streaming", "response sent", "closed"}

var stateEdges = [...][]State{
	Started:      {Booted, Closed},
	Booted:       {Initialising, Closed},
	Initialising: {Ready, InitFailed, Closed},
	InitFailed:   {Closed},
	Ready:        {Running, Closed},
	Running:      {Streaming, ResponseSent, Closed},
	Streaming:    {ResponseSent, Closed},
	ResponseSent: {Ready, Closed},
	Closed:       {},
}

// CanBecome reports whether the edge s → to exists.
func (s State) CanBecome(to State) bool {
	return int(s) < len(stateEdges) && slices.Contains(stateEdges[s], to)
}

// String names the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}
