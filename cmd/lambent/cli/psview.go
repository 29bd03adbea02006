package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// lines are the tables of a view, cut to the window's width where it has one.
func (v *view) lines(now time.Time, window terminalSize) []string {
	return v.linesWithin(now, terminalSize{columns: window.columns}, 0)
}

// linesWithin leaves out as many of the instances as do not fit into the window
// below so many lines, and the events where that is not enough.
func (v *view) linesWithin(now time.Time, window terminalSize, above int) []string {
	pools, instances := v.poolLines(window.columns), v.instanceLines(now, window.columns)
	var executions []string
	if len(v.executions) > 0 {
		executions = append([]string{""}, v.executionLines(window.columns)...)
	}
	if len(v.queues) > 0 {
		queues := append([]string{""}, v.queueLines(window.columns)...)
		if room := window.rows - above - len(pools) - 1 - 3 - len(executions); window.rows == 0 || len(queues) <= room {
			executions = append(queues, executions...)
		}
	}
	if room := window.rows - above - len(pools) - 1 - len(executions); window.rows > 0 && len(instances) > room {
		room = max(room, 3) // the window is too small for anything else
		left := len(instances) - room + 1
		instances = append(instances[:room-1:room-1], cut(fmt.Sprintf("… %d more lines", left), window.columns))
	}
	return slices.Concat(pools, []string{""}, instances, executions)
}

func (v *view) poolLines(width int) []string {
	g := newGrid("POOL", "READY", "TARGET", "OWNER")
	for _, r := range v.pools {
		g.row(r.Configuration, strconv.Itoa(r.Ready), strconv.Itoa(r.Target), r.Owner)
	}
	return g.lines(width)
}

// instanceLines has the instances of accounts first, each with its containers.
func (v *view) instanceLines(now time.Time, width int) []string {
	hosts := map[string]bool{}
	for _, i := range v.instances {
		hosts[i.Host] = true
	}
	columns := []string{"INSTANCE", "STATE", "ACCOUNT", "RUNS", "MEMORY", "IDLE", "PID"}
	if len(hosts) > 1 {
		columns = append(columns, "HOST")
	}
	g := newGrid(columns...)
	sorted := slices.SortedFunc(slices.Values(v.instances), func(a, b instanceRow) int {
		return cmp.Or(-cmp.Compare(a.Account, b.Account), cmp.Compare(a.ID, b.ID))
	})
	for _, i := range sorted {
		var inside []containerRow
		pid := 0
		for _, c := range v.containers {
			if c.Instance != i.ID {
				continue
			}
			pid = cmp.Or(pid, c.PID)
			if c.Function != "" || i.Account != "" { // a warm instance is no more than its waiting runtime
				inside = append(inside, c)
			}
		}
		g.row(i.ID, i.State, i.Account, i.Configuration, fmt.Sprintf("%d of %d MB", i.MemoryMB-i.FreeMB, i.MemoryMB), "", number(pid), i.Host)
		slices.SortFunc(inside, func(a, b containerRow) int { // those without a function last
			return cmp.Or(-cmp.Compare(min(len(a.Function), 1), min(len(b.Function), 1)), cmp.Compare(a.Function, b.Function), cmp.Compare(a.ID, b.ID))
		})
		for _, c := range inside {
			g.row(containerCells(c, now)...)
		}
	}
	if len(v.instances) == 0 {
		return append(g.lines(width), "there are none")
	}
	return g.lines(width)
}

func containerCells(c containerRow, now time.Time) []string {
	runs, memory, idle := "waits for code", "", " "
	if c.Function != "" {
		runs, memory = strings.TrimSpace(c.Function+" "+c.Version), fmt.Sprintf("%d MB", c.MemoryMB)
	}
	if since := readTime(c.IdleSince); !since.IsZero() && c.State != "busy" {
		idle = max(0, now.Sub(since)).Round(time.Second).String()
	}
	return []string{"  " + c.ID, c.State, " ", runs, memory, idle, " ", " "}
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func (v *view) executionLines(width int) []string {
	accounts := map[string]bool{}
	for _, e := range v.executions {
		accounts[e.Account] = true
	}
	columns := []string{"RECEIVED", "FUNCTION", "STATUS", "START", "WAITED", "TOOK", "REASON"}
	if len(accounts) > 1 {
		columns = slices.Insert(columns, 1, "ACCOUNT")
	}
	g := newGrid(columns...)
	for _, e := range v.executions {
		received, started, finished := readTime(e.ReceivedAt), readTime(e.ExecStartedAt), readTime(e.FinishedAt)
		at, status := "", e.Status
		if !received.IsZero() {
			at = received.Local().Format("15:04:05.000")
		}
		if e.Error != "" {
			status += " (" + e.Error + ")"
		}
		cells := []string{at, e.Function, status, e.StartKind, between(received, started), between(started, finished), e.Reason}
		if len(accounts) > 1 {
			cells = slices.Insert(cells, 1, e.Account)
		}
		g.row(cells...)
	}
	return g.lines(width)
}

// mostQueues bounds the functions that are shown: those with the most events.
const mostQueues = 10

func (v *view) queueLines(width int) []string {
	accounts := map[string]bool{}
	for _, q := range v.queues {
		accounts[q.Account] = true
	}
	columns := []string{"EVENTS OF", "WAITING", "LATER", "UNDER WAY", "OLDEST"}
	if len(accounts) > 1 {
		columns = slices.Insert(columns, 0, "ACCOUNT")
	}
	g := newGrid(columns...)
	sorted := slices.SortedStableFunc(slices.Values(v.queues), func(a, b queueRow) int {
		return cmp.Compare(b.Waiting+b.Delayed+b.UnderWay, a.Waiting+a.Delayed+a.UnderWay)
	})
	for _, q := range sorted[:min(len(sorted), mostQueues)] {
		oldest := ""
		if q.Waiting > 0 {
			oldest = (time.Duration(q.Oldest) * time.Second).String()
		}
		cells := []string{strings.TrimSpace(q.Function + " " + q.Qualifier), strconv.Itoa(q.Waiting), strconv.Itoa(q.Delayed), strconv.Itoa(q.UnderWay), oldest}
		if len(accounts) > 1 {
			cells = slices.Insert(cells, 0, q.Account)
		}
		g.row(cells...)
	}
	lines := g.lines(width)
	if left := len(sorted) - mostQueues; left > 0 {
		lines = append(lines, cut(fmt.Sprintf("… %d more", left), width))
	}
	return lines
}

// between renders the time from one moment to another, if there were both.
func between(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return ""
	}
	d := max(0, to.Sub(from))
	if d < time.Second {
		return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// grid is a table whose lines can be cut to a width. Empty cells show a dash,
// those of a space nothing.
type grid struct {
	columns int
	rows    [][]string
}

func newGrid(columns ...string) *grid {
	g := &grid{columns: len(columns)}
	g.row(columns...)
	return g
}

// row adds a row; cells beyond the columns are left out.
func (g *grid) row(cells ...string) {
	row := make([]string, g.columns)
	for k := range row {
		row[k] = strings.ReplaceAll(printable(cells[k]), "\t", " ")
		if row[k] == "" {
			row[k] = "-"
		}
	}
	g.rows = append(g.rows, row)
}

// lines renders the table; width 0 is any.
func (g *grid) lines(width int) []string {
	widths := make([]int, g.columns)
	for _, row := range g.rows {
		for k, cell := range row {
			widths[k] = max(widths[k], utf8.RuneCountInString(cell))
		}
	}
	var out []string
	for _, row := range g.rows {
		var b strings.Builder
		for k, cell := range row {
			b.WriteString(cell)
			b.WriteString(strings.Repeat(" ", widths[k]-utf8.RuneCountInString(cell)+2))
		}
		out = append(out, cut(strings.TrimRight(b.String(), " "), width))
	}
	return out
}

// cut makes a line fit into a width; 0 is any.
func cut(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:max(0, width-1)]) + "…"
}
