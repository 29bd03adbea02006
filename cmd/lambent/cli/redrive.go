package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

type failuresRedriveCommand struct {
	which
	IDs        []string `arg:"" optional:"" name:"request-id" help:"The requests' ids. None: all that --function, --reason and --since mean, or --all."`
	All        bool     `help:"All failures there are."`
	Rate       float64  `placeholder:"N" help:"At most so many a second, from 0.1. Default: as fast as the queue takes them."`
	To         string   `placeholder:"NAME[:QUALIFIER]" help:"Another function, version or alias that is to process them."`
	NewPayload string   `name:"payload" placeholder:"JSON|@FILE" help:"What the one that is named is to be sent as."`
}

func (failuresRedriveCommand) Help() string {
	return `They go into the queue of events, the oldest first, and are retried as any. What is processed is gone from the failures;
what fails again stays, with its attempts counted, and is not redriven once more by the same command. What is being
redriven already is skipped. Ctrl-C ends it: what was redriven by then is.

Examples:
  lambent failures redrive 6f1c52a4-92a1-4a34-9d0c-3f36ef8ed8b2
  lambent failures redrive 6f1c52a4-92a1-4a34-9d0c-3f36ef8ed8b2 --payload '{"order": 7}'
  lambent failures redrive --function orders --rate 50
  lambent failures redrive --function orders --reason timeout --to orders:fixed

Exit status: 0; 2 where some could not be redriven.`
}

// Run redrives failures.
func (f *failuresRedriveCommand) Run(ctx context.Context, s Streams) error {
	c, err := asks(f.remote, s)
	if err != nil {
		return err
	}
	filtered := f.Function != "" || f.Reason != "" || f.Since > 0
	switch {
	case len(f.IDs) > 0 && (filtered || f.All):
		return errors.New("give request ids, or say which failures are meant, not both\nsee: lambent failures redrive --help")
	case len(f.IDs) == 0 && !filtered && !f.All:
		return errors.New("say which failures: request ids, --function, --reason, --since, or --all\nsee: lambent failures redrive --help")
	case f.NewPayload != "" && len(f.IDs) != 1:
		return errors.New("--payload is for one request id")
	case f.Rate > 0 && len(f.IDs) > 0:
		return errors.New("--rate is for failures that are not named by their ids")
	case len(f.IDs) > 0:
		return f.some(ctx, s, c)
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	return f.many(ctx, s, c)
}

// some redrives failures one by one.
func (f *failuresRedriveCommand) some(ctx context.Context, s Streams, c *client) error {
	payload, err := payloadOf(f.NewPayload)
	if err != nil {
		return err
	}
	var problems []error
	for _, id := range f.IDs {
		if err := c.call(ctx, http.MethodPost, failurePath(id, "/redrive", f.Account), editBody{Payload: payload, Function: f.To}, nil); err != nil {
			problems = append(problems, fmt.Errorf("redrive %s: %w", id, err))
			if _, gone := errors.AsType[*unreachable](err); gone {
				break
			}
			continue
		}
		fmt.Fprintln(s.Out, printable(id))
	}
	return errors.Join(problems...)
}

type redriveBody struct {
	Filter struct {
		Function string `json:"function,omitempty"`
		Reason   string `json:"reason,omitempty"`
		Since    string `json:"since,omitempty"`
		Account  string `json:"account,omitempty"`
	} `json:"filter"`
	Rate   float64 `json:"rate,omitempty"`
	To     string  `json:"to,omitempty"`
	Limit  int     `json:"limit,omitempty"`
	Cursor string  `json:"cursor,omitempty"`
}

type redriveAnswer struct {
	Redriven int    `json:"redriven"`
	Skipped  int    `json:"skipped"`
	Next     string `json:"next"`
	Error    string `json:"error"`
}

// progressEvery is how often a long redrive says how far it is, and unboundedStep
// how many it does in one request where no rate bounds them.
const (
	progressEvery = 2 * time.Second
	unboundedStep = 2000
)

// many redrives what is meant piece by piece, and says how far it is.
func (f *failuresRedriveCommand) many(ctx context.Context, s Streams, c *client) error {
	in := redriveBody{Rate: f.Rate, To: f.To, Limit: unboundedStep}
	in.Filter.Function, in.Filter.Reason, in.Filter.Since, in.Filter.Account = f.Function, f.Reason, f.since(c), f.Account
	if f.Rate > 0 {
		in.Limit = max(1, min(unboundedStep, int(f.Rate*progressEvery.Seconds())))
	}
	began, redriven, skipped := c.now(), 0, 0
	said := began
	tell := func(what string) {
		fmt.Fprintf(s.Err, "%s %d redriven, %d skipped, in %s\n", what, redriven, skipped, c.now().Sub(began).Round(time.Millisecond))
	}
	for {
		var out redriveAnswer
		err := c.call(ctx, http.MethodPost, adminPath+"failures/redrive", in, &out)
		redriven += out.Redriven
		skipped += out.Skipped
		if err == nil && out.Error != "" {
			err = errors.New(printable(out.Error))
		}
		switch {
		case ctx.Err() != nil:
			tell("ended:")
			return nil
		case err != nil:
			if redriven > 0 {
				tell("until then")
			}
			return fmt.Errorf("redrive failures: %w", err)
		case out.Next == "":
			_, err := fmt.Fprintf(s.Out, "%d redriven, %d skipped\n", redriven, skipped)
			return err
		}
		if in.Cursor = out.Next; c.now().Sub(said) >= progressEvery {
			said = c.now()
			tell("so far")
		}
	}
}
