// Package lab is what the conformance tests work with: a server that can be
// started, stopped, killed and looked at from outside (Server), callers that
// speak to it through the AWS SDK or by hand (Caller), deployment packages good
// and bad (Zip), and a census of what a server has taken of the machine
// (Census).
package lab
