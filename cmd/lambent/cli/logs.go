package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

type logsCommand struct {
	remote
	Name       string        `arg:"" help:"Name of the function."`
	Follow     bool          `short:"f" help:"Go on with what the function writes from now on, until Ctrl-C."`
	RequestID  string        `placeholder:"ID" help:"Only what belongs to this execution."`
	Since      time.Duration `placeholder:"DURATION" help:"Only what is younger than this, as in 10m."`
	Timestamps bool          `short:"t" help:"Show when each line was written."`
	Raw        bool          `help:"Print control characters as they are; by default they are shown as \\x1b, so that a function cannot drive your terminal."`
}

func (logsCommand) Help() string {
	return `Examples:
  lambent logs hello -f
  lambent logs hello --since 10m -t
  lambent logs hello --request-id 6f1c52a4-92a1-4a34-9d0c-3f36ef8ed8b2`
}

// logLine is a line of the server's answer.
type logLine struct {
	Time      time.Time `json:"time"`
	Stream    string    `json:"stream"`
	RequestID string    `json:"request_id"`
	Text      string    `json:"text"`
}

// maxLogLine bounds a line of the answer: the server splits text at 256 KB,
// which JSON may blow up sixfold.
const maxLogLine = 2 << 20

// Run prints the log.
func (l *logsCommand) Run(ctx context.Context, s Streams) error {
	c, err := l.client(s)
	if err != nil {
		return err
	}
	query := url.Values{}
	if l.Follow {
		query.Set("follow", "1")
	}
	if l.RequestID != "" {
		query.Set("request_id", l.RequestID)
	}
	if l.Since > 0 {
		query.Set("since", c.now().Add(-l.Since).UTC().Format(time.RFC3339Nano))
	}
	path := "/_lambent/v1/functions/" + url.PathEscape(l.Name) + "/logs"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := c.send(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return fmt.Errorf("read the log of %s: %w", l.Name, err)
	}
	defer resp.Body.Close()
	if err := l.print(resp.Body, s.Out); err != nil {
		return fmt.Errorf("read the log of %s: %w", l.Name, err)
	}
	return nil
}

func (l *logsCommand) print(body io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 64<<10), maxLogLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue // a sign of life
		}
		var line logLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("the answer is not what lambent answers: %w", err)
		}
		text := strings.TrimSuffix(line.Text, "\n")
		if !l.Raw {
			text = printable(text)
		}
		if l.Timestamps {
			text = line.Time.Local().Format("2006-01-02T15:04:05.000Z07:00") + "  " + text
		}
		if _, err := fmt.Fprintln(out, text); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if err := lines.Err(); err != nil {
		if l.Follow && errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the server went away")
		}
		return err
	}
	return nil
}
