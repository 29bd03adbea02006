package cli

import (
	"io"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminalSize is in characters; 0 is unbounded.
type terminalSize struct{ columns, rows int }

// sizeOf tells the size of the terminal that w writes to, if it is one.
func sizeOf(w io.Writer) (size terminalSize, is bool) {
	f, ok := w.(syscall.Conn)
	if !ok {
		return size, false
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return size, false
	}
	if err := conn.Control(func(fd uintptr) {
		window, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
		if err != nil {
			return
		}
		// A terminal that does not know its size, as one on a serial line, is taken
		// for the smallest usual one.
		is, size = true, terminalSize{80, 24}
		if window.Col > 0 && window.Row > 0 {
			size = terminalSize{int(window.Col), int(window.Row)}
		}
	}); err != nil {
		return size, false
	}
	return size, is
}

// What a live view says to the terminal (xterm's control sequences, which all
// terminals of today know, or pass over). It uses the alternate screen: what was
// there before is there again afterwards.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // alternate screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	beginFrame  = "\x1b[?2026h\x1b[H" // shown at once when it ends; from the top left
	endLine     = "\x1b[K\n"          // what was to the right of it goes
	endFrame    = "\x1b[K\x1b[J\x1b[?2026l"
)

// frame overwrites the screen with lines, in one write and without clearing it
// before, so that nothing flickers.
func frame(lines []string, window terminalSize) string {
	if window.rows > 0 && len(lines) > window.rows {
		lines = lines[:window.rows]
	}
	for k := range lines {
		lines[k] = cut(lines[k], window.columns)
	}
	return beginFrame + strings.Join(lines, endLine) + endFrame
}
