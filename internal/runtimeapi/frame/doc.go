// Package frame is the wire between a host and the process inside a container:
// the frames both ends put on one stream socket, and nothing else. It links
// little, because the program inside the sandbox links it too.
//
// A frame is
//
//	uint32 little endian   length of what follows (type and body)
//	uint8                  type
//	...                    body
//
// and the bodies are
//
//	host → guest
//	  ASSIGN      JSON of Assignment
//	  EVENT       uint32 little endian length of the header, JSON of Event, payload
//	  PING        empty: say BOOTED again
//	guest → host
//	  BOOTED      text: the runtime's own name and version
//	  READY       empty: initialised, or the next event is asked for
//	  INIT_ERROR  short error type, payload
//	  RESPONSE    short request id, payload
//	  ERROR       short request id, short error type, payload
//	  BEGIN       short request id, short content type: a streamed answer starts
//	  CHUNK       the next bytes of it, as many as one likes
//	  END         short error type, payload: it ends; both are empty for success
//	  EXIT        uint8 kind (0 exit status, 1 signal), int32 little endian value
//
// where "short X" is one byte of length and that many bytes. A payload is the
// rest of the frame.
//
// The order is
//
//	guest  BOOTED                       when the runtime is up, and again
//	host   PING                         for each of these, before ASSIGN
//	host   ASSIGN                       once, when the container is given its code
//	guest  READY | INIT_ERROR
//	host   EVENT                             ┐
//	guest  RESPONSE | ERROR | BEGIN CHUNK* END │ again and again, one event at a time
//	guest  READY                             ┘
//	guest  EXIT                         last, only by a guest that is a supervisor
//
// The host takes CHUNKs no faster than the caller of the function does, and the
// socket holds little: that is all the flow control there is. A guest that must
// not stand still for a slow caller writes them where it can wait.
package frame
