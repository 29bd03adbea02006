package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
)

type lsCommand struct {
	remote
	Quiet bool `short:"q" help:"Print names only."`
}

func (lsCommand) Help() string {
	return `Examples:
  lambent ls
  lambent ls -q | xargs lambent rm`
}

// Run lists the account's functions.
func (l *lsCommand) Run(ctx context.Context, s Streams) error {
	c, err := l.client(s)
	if err != nil {
		return err
	}
	functions, err := c.listFunctions(ctx)
	if err != nil {
		return fmt.Errorf("list functions: %w", err)
	}
	if l.Quiet {
		for _, f := range functions {
			fmt.Fprintln(s.Out, f.FunctionName)
		}
		return nil
	}
	if len(functions) == 0 {
		account, _, err := c.caller(ctx)
		if err == nil {
			_, err = fmt.Fprintf(s.Err, "account %s has no functions; make one with: lambent deploy DIR --name NAME\n", account)
		}
		return err
	}
	t := newTable(s.Out, "FUNCTION", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "CODE", "MODIFIED")
	for _, f := range functions {
		t.row(f.FunctionName, f.Runtime, f.Handler, fmt.Sprintf("%d MB", f.MemorySize), fmt.Sprintf("%d s", f.Timeout),
			bytesText(f.CodeSize), f.LastModified)
	}
	return t.flush()
}

// listFunctions reads all pages. As with AWS, a listed function tells nothing of
// its state.
func (c *client) listFunctions(ctx context.Context) ([]functionConfiguration, error) {
	var all []functionConfiguration
	for marker := ""; ; {
		path := "/2015-03-31/functions/?MaxItems=50"
		if marker != "" {
			path += "&Marker=" + url.QueryEscape(marker)
		}
		var page struct {
			Functions  []functionConfiguration
			NextMarker string
		}
		if err := c.call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Functions...)
		if page.NextMarker == "" || page.NextMarker == marker {
			return all, nil
		}
		marker = page.NextMarker
	}
}

// bytesText renders a size: "1.2 KB", in thousands.
func bytesText(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f KB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// table prints aligned columns; empty cells show a dash.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, columns ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(columns...)
	return t
}

func (t table) row(cells ...string) {
	for i, c := range cells {
		c = strings.ReplaceAll(printable(c), "\t", " ")
		if c == "" {
			c = "-"
		}
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, c)
	}
	fmt.Fprintln(t.w)
}

// flush writes what was collected and gives the first error of all writes.
func (t table) flush() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
