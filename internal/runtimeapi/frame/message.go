package frame

import (
	"encoding/binary"
	"strconv"
	"time"
	"unicode/utf8"
)

// Assignment is what a container is told when it is given its code: everything
// it needs to load it and to run it. It travels as JSON in an ASSIGN frame.
type Assignment struct {
	Handler  string            `json:"handler"`
	Env      map[string]string `json:"env"`      // the whole environment of the user code
	TaskRoot string            `json:"taskRoot"` // where the code is, and the working directory: /var/task

	FunctionName string `json:"functionName"`
	Version      string `json:"version"`
	FunctionARN  string `json:"functionArn"`
	Account      string `json:"account"`
	Region       string `json:"region"`
	MemoryMB     int    `json:"memoryMb"`
	LogGroup     string `json:"logGroup"`
	LogStream    string `json:"logStream"`

	// Bootstraps are the programs a supervisor tries in turn: for provided
	// runtimes /var/task/bootstrap, then /opt/bootstrap.
	Bootstraps []string `json:"bootstraps,omitempty"`
	// Command is the program a supervisor starts instead, with its arguments: an
	// image's. One without a slash is looked for in the PATH of Env.
	Command []string `json:"command,omitempty"`
	// APIAddress is where a supervisor serves the Runtime API inside the
	// sandbox, host:port; 127.0.0.1:9001 where empty.
	APIAddress string `json:"apiAddress,omitempty"`
	// User is whom the user code runs as. A guest that is not root keeps the
	// user it has.
	User *User `json:"user,omitempty"`
	// Limits are set on the user code by a supervisor; others ignore them.
	Limits *Limits `json:"limits,omitempty"`
	// Credentials are served by a supervisor to the function's SDKs; others ignore
	// them. They are in Env, too.
	Credentials *Credentials `json:"credentials,omitempty"`
}

// Credentials are those of the function's role, and what has to be shown to be
// given them.
type Credentials struct {
	AccessKeyID     string     `json:"accessKeyId"`
	SecretAccessKey string     `json:"secretAccessKey"`
	SessionToken    string     `json:"sessionToken"`
	Expires         *time.Time `json:"expires,omitempty"`
	Authorization   string     `json:"authorization"`
}

// User is a user and group by number.
type User struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// Limits are resource limits, soft and hard alike; zero leaves one as it is.
type Limits struct {
	OpenFiles uint64 `json:"openFiles,omitempty"` // RLIMIT_NOFILE
	Processes uint64 `json:"processes,omitempty"` // RLIMIT_NPROC
}

// Event is one event for the runtime. All but the payload travels as JSON in
// front of it, so that scripting languages read it with what they have.
type Event struct {
	RequestID       string `json:"id"`
	DeadlineMillis  int64  `json:"deadline"` // Unix time in milliseconds
	InvokedARN      string `json:"arn"`
	TraceID         string `json:"trace,omitempty"`    // X-Amzn-Trace-Id
	ClientContext   string `json:"client,omitempty"`   // JSON, already base64-decoded
	CognitoIdentity string `json:"identity,omitempty"` // JSON
	TenantID        string `json:"tenant,omitempty"`
	Streamed        bool   `json:"streamed,omitempty"` // the caller takes the answer as it comes
	Payload         []byte `json:"-"`
}

// AppendEventHead appends an EVENT frame up to where the payload follows, which
// is counted in its length.
func AppendEventHead(dst []byte, e *Event) []byte {
	start := len(dst)
	dst = AppendHeader(dst, Invoke, 0)
	dst = append(dst, 0, 0, 0, 0) // length of the header, patched below
	head := len(dst)
	dst = append(dst, `{"id":`...)
	dst = appendString(dst, e.RequestID)
	dst = append(dst, `,"deadline":`...)
	dst = strconv.AppendInt(dst, e.DeadlineMillis, 10)
	dst = append(dst, `,"arn":`...)
	dst = appendString(dst, e.InvokedARN)
	dst = appendField(dst, `,"trace":`, e.TraceID)
	dst = appendField(dst, `,"client":`, e.ClientContext)
	dst = appendField(dst, `,"identity":`, e.CognitoIdentity)
	dst = appendField(dst, `,"tenant":`, e.TenantID)
	if e.Streamed {
		dst = append(dst, `,"streamed":true`...)
	}
	dst = append(dst, '}')
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-4+len(e.Payload)))
	binary.LittleEndian.PutUint32(dst[head-4:], uint32(len(dst)-head))
	return dst
}

func appendField(dst []byte, key, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(append(dst, key...), value)
}

// appendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += n
		case c == '"' || c == '\\':
			dst = append(append(dst, s[from:i]...), '\\', c)
			i++
			from = i
		case c < 0x20:
			dst = append(append(dst, s[from:i]...), '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
			from = i
		default:
			i++
		}
	}
	return append(append(dst, s[from:]...), '"')
}
