package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

type failuresCommand struct {
	Ls      failuresLsCommand      `cmd:"" help:"List failures, the newest first."`
	Show    failuresShowCommand    `cmd:"" help:"Show one, with its payload."`
	Edit    failuresEditCommand    `cmd:"" help:"Change the payload or the function of one before it is redriven."`
	Redrive failuresRedriveCommand `cmd:"" help:"Process failures again: some by their ids, or all that are meant."`
	Rm      failuresRmCommand      `cmd:"" help:"Delete failures."`
}

func (failuresCommand) Help() string {
	return `A failure is a request that was not processed successfully: an asynchronous call whose last attempt failed, that grew too
old, that could not be delivered. It is kept with its payload until it is processed after all, deleted, or older than
failures.retention. See docs/failures.md.`
}

// failureRow is what the CLI reads of a failure.
type failureRow struct {
	RequestID string `json:"request_id"`
	Account   string `json:"account"`
	Function  string `json:"function"`
	Qualifier string `json:"qualifier"`
	Version   string `json:"version"`
	Reason    string `json:"reason"`
	Error     struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
	Attempts       int       `json:"attempts"`
	Redrives       int       `json:"redrives"`
	LastAt         time.Time `json:"last_at"`
	RedrivingSince string    `json:"redriving_since"` // empty: it is not
}

// which are the failures that are meant.
type which struct {
	remote
	Function string        `placeholder:"NAME" help:"Only this function's."`
	Reason   string        `placeholder:"REASON" help:"Only of this reason: function_error, timeout, out_of_memory, throttled, permission, bad_event, no_capacity, expired, unexpected_result, function_missing, destination_failed, platform_error."`
	Since    time.Duration `placeholder:"DURATION" help:"Only what failed within this time, as in 10m."`
	Account  string        `placeholder:"ID" help:"Only this account's; for the operator."`
}

func (w which) since(c *client) string {
	if w.Since <= 0 {
		return ""
	}
	return c.now().Add(-w.Since).UTC().Format(time.RFC3339)
}

// asks is part of the commands that ask as the operator where no key is in the
// environment, as ps does.
func asks(r remote, s Streams) (*client, error) {
	c, err := r.client(s)
	if err == nil && c.secret == "" && s.Getenv("AWS_ACCESS_KEY_ID") == "" {
		c.anonymous = true
	}
	return c, err
}

type failuresLsCommand struct {
	which
	N     int  `short:"n" default:"50" placeholder:"N" help:"How many, at most 100000."`
	Quiet bool `short:"q" help:"Print request ids only."`
}

func (failuresLsCommand) Help() string {
	return `ATTEMPTS counts how often the function was called in all, REDRIVES how often the request was put into the queue again;
"redriving" says that it is there now. Without AWS_ACCESS_KEY_ID, on the server's own machine, it lists all accounts'.

Examples:
  lambent failures ls
  lambent failures ls --function orders --reason timeout --since 1h
  lambent failures ls -q --function orders -n 1000 | xargs lambent failures rm`
}

// Run lists failures.
func (l *failuresLsCommand) Run(ctx context.Context, s Streams) error {
	c, err := asks(l.remote, s)
	if err != nil {
		return err
	}
	query := url.Values{"limit": {strconv.Itoa(l.N)}, "payload": {"false"}}
	for name, value := range map[string]string{"function": l.Function, "reason": l.Reason, "since": l.since(c), "account": l.Account} {
		if value != "" {
			query.Set(name, value)
		}
	}
	var all []failureRow
	if err := c.call(ctx, http.MethodGet, adminPath+"failures?"+query.Encode(), nil, &all); err != nil {
		return fmt.Errorf("list failures: %w", err)
	}
	if l.Quiet {
		for _, f := range all {
			fmt.Fprintln(s.Out, printable(f.RequestID))
		}
		return nil
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(s.Err, "there are no such failures")
		return err
	}
	t := newTable(s.Out, "FAILED", "REQUEST", "ACCOUNT", "FUNCTION", "REASON", "ATTEMPTS", "REDRIVES", "ERROR")
	for _, f := range all {
		function := f.Function
		if f.Qualifier != "" {
			function += ":" + f.Qualifier
		}
		redrives := strconv.Itoa(f.Redrives)
		if f.RedrivingSince != "" {
			redrives += " redriving"
		}
		text := f.Error.Type
		if f.Error.Message != "" {
			text += ": " + f.Error.Message
		}
		text, _, _ = strings.Cut(strings.TrimPrefix(text, ": "), "\n")
		t.row(f.LastAt.UTC().Format(time.RFC3339), f.RequestID, f.Account, function, f.Reason, strconv.Itoa(f.Attempts), redrives, cut(text, 60))
	}
	return t.flush()
}

// one is a failure that a command is about.
type one struct {
	remote
	ID      string `arg:"" name:"request-id" help:"The request's id."`
	Account string `placeholder:"ID" help:"Whose it is; for the operator. Default: whoever has it."`
}

func failurePath(id, below, account string) string {
	return adminPath + "failures/" + url.PathEscape(id) + below + ofAccount(account)
}

type failuresShowCommand struct {
	one
	Payload bool `help:"Print the payload alone, as it was sent."`
}

func (failuresShowCommand) Help() string {
	return `Prints all that is known of it as JSON: error, stack, times, what was done on it, what it was before it was edited.

Examples:
  lambent failures show 6f1c52a4-92a1-4a34-9d0c-3f36ef8ed8b2
  lambent failures show 6f1c52a4-92a1-4a34-9d0c-3f36ef8ed8b2 --payload > event.json`
}

// Run shows a failure.
func (f *failuresShowCommand) Run(ctx context.Context, s Streams) error {
	c, err := asks(f.remote, s)
	if err != nil {
		return err
	}
	var doc json.RawMessage
	if err := c.call(ctx, http.MethodGet, failurePath(f.ID, "", f.Account), nil, &doc); err != nil {
		return fmt.Errorf("show failure %s: %w", f.ID, err)
	}
	if !f.Payload {
		return printFailure(s.Out, doc)
	}
	var of struct {
		Payload json.RawMessage `json:"payload"`
		Base64  []byte          `json:"payload_base64"`
	}
	if err := json.Unmarshal(doc, &of); err != nil {
		return fmt.Errorf("show failure %s: %w", f.ID, err)
	}
	if of.Base64 != nil {
		of.Payload = of.Base64
	}
	if _, err := s.Out.Write(of.Payload); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// printFailure prints a document for people. Control characters in JSON are
// escaped already, but for DEL and those of Latin-1.
func printFailure(out io.Writer, doc json.RawMessage) error {
	var indented strings.Builder
	e := json.NewEncoder(&indented)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(doc); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	_, err := fmt.Fprintln(out, printableLines(strings.TrimSuffix(indented.String(), "\n")))
	return err
}

type failuresEditCommand struct {
	one
	NewPayload string  `name:"payload" placeholder:"JSON|@FILE" help:"What it is to be sent as."`
	Function   string  `placeholder:"NAME[:QUALIFIER]" help:"Which function is to process it."`
	Qualifier  *string `placeholder:"Q" help:"Which version or alias of it."`
}

func (failuresEditCommand) Help() string {
	return `What it was before stays with it, under "original". It is processed only when it is redriven.

Examples:
  lambent failures show ID --payload > event.json; $EDITOR event.json
  lambent failures edit ID --payload @event.json
  lambent failures edit ID --function orders:fixed`
}

// editBody is the body of an edit.
type editBody struct {
	Payload   json.RawMessage `json:"payload,omitempty"`
	Function  string          `json:"function,omitempty"`
	Qualifier *string         `json:"qualifier,omitempty"`
}

// payloadOf reads a payload, which must be JSON; none where text is empty.
func payloadOf(text string) (json.RawMessage, error) {
	payload := []byte(text)
	if name, is := strings.CutPrefix(text, "@"); is {
		var err error
		if payload, err = os.ReadFile(name); err != nil {
			return nil, fmt.Errorf("read the payload: %w", err)
		}
	}
	if text != "" && !json.Valid(payload) {
		return nil, errors.New("the payload is not JSON")
	}
	if text == "" {
		return nil, nil
	}
	return payload, nil
}

// Run edits a failure.
func (f *failuresEditCommand) Run(ctx context.Context, s Streams) error {
	c, err := asks(f.remote, s)
	if err != nil {
		return err
	}
	in := editBody{Function: f.Function, Qualifier: f.Qualifier}
	if in.Payload, err = payloadOf(f.NewPayload); err != nil {
		return err
	}
	if in.Payload == nil && in.Function == "" && in.Qualifier == nil {
		return errors.New("nothing is to be changed: give --payload, --function or --qualifier\nsee: lambent failures edit --help")
	}
	var doc json.RawMessage
	if err := c.call(ctx, http.MethodPut, failurePath(f.ID, "", f.Account), in, &doc); err != nil {
		return fmt.Errorf("edit failure %s: %w", f.ID, err)
	}
	return printFailure(s.Out, doc)
}

type failuresRmCommand struct {
	remote
	IDs     []string `arg:"" name:"request-id" help:"The requests' ids."`
	Account string   `placeholder:"ID" help:"Whose they are; for the operator. Default: whoever has them."`
}

func (failuresRmCommand) Help() string {
	return `They are gone for good. One that is being redriven is processed nevertheless.

Examples:
  lambent failures rm 6f1c52a4-92a1-4a34-9d0c-3f36ef8ed8b2
  lambent failures ls -q --reason bad_event | xargs lambent failures rm`
}

// Run deletes failures.
func (f *failuresRmCommand) Run(ctx context.Context, s Streams) error {
	c, err := asks(f.remote, s)
	if err != nil {
		return err
	}
	var problems []error
	for _, id := range f.IDs {
		if err := c.remove(ctx, "delete failure "+id, "failures/"+url.PathEscape(id), f.Account); err != nil {
			problems = append(problems, err)
			if _, gone := errors.AsType[*unreachable](err); gone {
				break
			}
			continue
		}
		fmt.Fprintln(s.Out, printable(id))
	}
	return errors.Join(problems...)
}
