// Package conformance holds the black-box tests of lambent: they build the
// server, start it as a user would, and judge it by what real clients see — the
// AWS SDK for Go, the aws command, the AWS SDK for JavaScript — and by what is
// left on the machine afterwards.
//
// Nothing in here imports the server's own packages, so nothing in here can
// share a misunderstanding with them. The module has its own go.mod for the same
// reason, and to keep the SDKs out of the server's.
//
// The tests need root, as the server does, and node, npm, python3, go and aws.
// CONFORMANCE_BIN names a built server; without it `make` builds one.
package conformance
