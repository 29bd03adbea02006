// Package policy reads AWS's JSON policies and decides by them who may do what.
//
// A policy is read once, strictly, into a Document; Evaluate then answers one
// request from any number of them, without I/O and without a clock: the time is
// part of the Request. Documents are immutable, so all of the package may be
// used by several goroutines at once.
//
// The rules are those of the IAM user guide ("Policy evaluation logic", "IAM
// JSON policy element reference"): an explicit deny wins; within an account one
// allow is enough, in an identity policy or in the resource's; across accounts
// both must allow; whatever nobody allows is denied. Where the guide leaves open
// what happens (a condition on a value that cannot be read), the answer is the
// one that lets fewer in.
package policy
