package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

type rmCommand struct {
	remote
	Names []string `arg:"" name:"name" help:"Functions to delete."`
}

func (rmCommand) Help() string {
	return `Running executions end first. A function that is not there is an error; the others are deleted nevertheless.

Examples:
  lambent rm hello
  lambent rm hello goodbye`
}

// delete deletes a function.
func (c *client) delete(ctx context.Context, name string) error {
	resp, err := c.send(ctx, http.MethodDelete, functionPath(name, ""), nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return &stranger{endpoint: c.endpoint}
	}
	return nil
}

// Run deletes the functions.
func (r *rmCommand) Run(ctx context.Context, s Streams) error {
	c, err := r.client(s)
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range r.Names {
		if err := c.delete(ctx, name); err != nil {
			problems = append(problems, fmt.Errorf("delete %s: %w", name, err))
			if _, gone := errors.AsType[*unreachable](err); gone {
				break
			}
			continue
		}
		fmt.Fprintln(s.Out, name)
	}
	return errors.Join(problems...)
}
