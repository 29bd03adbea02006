package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// serverLog turns the log of the NATS server into slog: what it notes is for
// debugging, what it warns of is a warning. It keeps the last complaint, because
// the server reports why it did not start nowhere else.
type serverLog struct {
	log *slog.Logger

	mu sync.Mutex
	// +checklocks:mu
	complaint string
}

func (l *serverLog) at(level slog.Level, format string, v []any) {
	text := strings.TrimSpace(fmt.Sprintf(format, v...))
	if level >= slog.LevelWarn {
		l.mu.Lock()
		l.complaint = text
		l.mu.Unlock()
	}
	l.log.Log(context.Background(), level, text, "part", "jetstream")
}

func (l *serverLog) lastComplaint() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.complaint
}

// The methods of the server's Logger interface.

func (l *serverLog) Noticef(format string, v ...any) { l.at(slog.LevelDebug, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.at(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.at(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.at(slog.LevelWarn, format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.at(slog.LevelWarn, format, v) }
func (l *serverLog) Fatalf(format string, v ...any)  { l.at(slog.LevelError, format, v) }
