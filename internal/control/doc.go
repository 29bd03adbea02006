// Package control decides what the platform does about calls that go wrong, of
// what a function's owner has declared (P14): what a right answer looks like
// (Expectation), and which function is to be asked about which failures (Rule,
// Rate), and reads what that one answers (Answer).
//
// It is pure: nothing here reads a clock, calls a function or changes anything.
package control
