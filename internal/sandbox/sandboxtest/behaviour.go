package sandboxtest

import (
	"strings"

	"lambent/internal/sandbox"
)

// Behaviour names a program the suite runs in containers. What each does is told
// here, so that a driver without processes can play it.
type Behaviour string

// The behaviours. All are run as sandbox.UserID unless a test says otherwise.
const (
	// Cat copies descriptor 0 to 1 until its end, then writes "done\n" to 2 and
	// exits with 0.
	Cat Behaviour = "cat"
	// Exit exits with the status in its argument.
	Exit Behaviour = "exit"
	// Signal sends itself the signal whose number is its argument, and does not
	// handle it.
	Signal Behaviour = "signal"
	// Sleep does nothing until it is killed.
	Sleep Behaviour = "sleep"
	// Report writes what it was given to descriptor 1 and exits with 0: lines of
	// uid=, gid=, groups= (ids, separated by spaces), caps= (the effective
	// capabilities as /proc/self/status writes them: 16 hex digits), dir=, arg=
	// for each argument and env= for each variable as NAME=VALUE.
	Report Behaviour = "report"
	// Serve reads commands from descriptor 3, one a line, and answers each there
	// with one line, "ok" or "err", a space and a text:
	//
	//	echo TEXT          ok TEXT (a single word)
	//	read PATH          ok and the file's one line
	//	write PATH TEXT    makes or replaces a file
	//	fill PATH N        writes a file of N MiB; the error's text is strerror's
	//	eat N              holds N MiB of memory for a moment
	//	hold N             a grandchild takes N MiB of memory and keeps them
	//	spin               a child computes for ever
	//	breed              a child starts processes for ever, one after the other
	//	defy               a child ignores every signal that can be ignored
	//	exit N             exits with that status, without an answer
	//
	// At the end of its input it exits with 0.
	Serve Behaviour = "serve"
)

// ShellCommand plays the behaviours with /bin/sh and the basic tools of any
// Debian: for drivers that run real processes and show them the host's /usr and
// /bin.
func ShellCommand(b Behaviour, args ...string) sandbox.Command {
	return sandbox.Command{
		Path: "/bin/sh",
		Args: append([]string{"/bin/sh", "-c", shellScript(b), string(b)}, args...),
		Env:  []string{"PATH=/usr/bin:/bin"},
		Dir:  "/",
		UID:  sandbox.UserID,
		GID:  sandbox.GroupID,
	}
}

// shellScript is what /bin/sh (dash) runs for a behaviour.
func shellScript(b Behaviour) string {
	switch b {
	case Cat:
		return `cat; echo done >&2`
	case Exit:
		return `exit "$1"`
	case Signal:
		return `kill -"$1" $$; exit 1`
	case Sleep:
		return `exec sleep 1000000`
	case Report:
		return `echo "uid=$(id -u)"; echo "gid=$(id -g)"; echo "groups=$(id -G)"
while read -r key value; do
	if [ "$key" = CapEff: ]; then echo "caps=$value"; fi
done </proc/self/status
echo "dir=$(pwd)"
for a in "$@"; do echo "arg=$a"; done
env | while read -r line; do echo "env=$line"; done`
	case Serve:
		return `say() { if [ "$1" = 0 ]; then echo "ok $2" >&3; else echo "err $2" >&3; fi; }
while read -r verb a b <&3; do
	case "$verb" in
	echo) say 0 "$a" ;;
	read) out=$(cat "$a" 2>&1); say $? "$out" ;;
	write) out=$( { printf '%s\n' "$b" >"$a"; } 2>&1 ); say $? "$out" ;;
	fill) out=$(dd if=/dev/zero of="$a" bs=1M count="$b" 2>&1); status=$?; say $status "$(echo "$out" | head -n 1)" ;;
	eat) head -c "${a}M" /dev/zero | tail -c "${a}M" >/dev/null; say $? ;;
	hold) ( { head -c "${a}M" /dev/zero; exec sleep 1000000; } | tail -c "${a}M" >/dev/null ) 3>&- & say $? ;;
	spin) ( while :; do :; done ) 3>&- & say $? ;;
	breed) ( while :; do /bin/true; done ) 3>&- & say $? ;;
	defy) ( trap '' HUP INT QUIT TERM USR1 USR2 PIPE ALRM; while :; do sleep 1000000; done ) 3>&- & say $? ;;
	exit) exit "$a" ;;
	*) say 1 "no such command: $verb" ;;
	esac
done`
	}
	return `echo "no such behaviour: ` + strings.ReplaceAll(string(b), `"`, "") + `" >&2; exit 127`
}
