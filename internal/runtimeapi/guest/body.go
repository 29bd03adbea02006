package guest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"lambent/internal/runtimeapi/frame"
)

// errTooLarge is a request body over frame.MaxPayload.
var errTooLarge = errors.New("body too large")

// tooLargeMessage is AWS's text for it.
func tooLargeMessage() string {
	return fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", frame.MaxPayload)
}

// readBody reads a request's body, up to what an answer may hold. The size the
// request claims is not believed further than that.
func readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength > frame.MaxPayload {
		return nil, errTooLarge
	}
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, frame.MaxPayload+1))
	if err == nil && len(body) > frame.MaxPayload {
		err = errTooLarge
	}
	return body, err
}

// cleanErrorType keeps an error type of the shape AWS keeps,
// (Runtime|Function)\.[A-Z][a-zA-Z]+, and makes anything else Function.Unknown
// or Runtime.Unknown.
func cleanErrorType(s string) string {
	origin, name, _ := strings.Cut(s, ".")
	if origin != "Function" && origin != "Runtime" {
		return "Runtime.Unknown"
	}
	if len(name) < 2 || len(s) > 128 || name[0] < 'A' || name[0] > 'Z' {
		return origin + ".Unknown"
	}
	for i := range len(name) {
		if c := name[i] | 0x20; c < 'a' || c > 'z' {
			return origin + ".Unknown"
		}
	}
	return s
}

// trailerBody is the error a streamed answer ended with: base64 in a trailer.
func trailerBody(r *http.Request, errorType string) []byte {
	body, err := base64.StdEncoding.DecodeString(r.Trailer.Get("Lambda-Runtime-Function-Error-Body"))
	if err != nil || len(body) == 0 {
		return errorJSON(cleanErrorType(errorType), "The function failed while it streamed its answer.")
	}
	return body
}

// withoutCause takes the X-Ray cause out of an error body that carries one; the
// caller of the function is not shown it.
func withoutCause(body []byte) []byte {
	var e struct {
		Message    string          `json:"errorMessage"`
		Type       string          `json:"errorType"`
		StackTrace json.RawMessage `json:"stackTrace,omitempty"`
	}
	if json.Unmarshal(body, &e) != nil {
		return []byte(`"Invalid error body"`)
	}
	out, err := json.Marshal(e)
	if err != nil {
		return []byte(`"Invalid error body"`)
	}
	return out
}

// errorJSON is an error as a caller of the function sees it.
func errorJSON(errorType, message string) []byte {
	b, err := json.Marshal(struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{errorType, message})
	if err != nil {
		return []byte("{}") // cannot be: two strings
	}
	return b
}
