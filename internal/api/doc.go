// Package api is the AWS Lambda API as callers see it: restJson1 over HTTP,
// with AWS's paths, names, limits, error shapes and texts, so that the AWS
// CLI, the SDKs and Terraform work unchanged. It decodes and validates what
// callers send, asks the two interfaces it defines (Functions, Invoker) to do
// the work, and encodes what comes back. It knows nothing of sandboxes,
// storage or placement; nothing below it knows AWS's error names.
//
// One file holds one operation and is named for it. What they share: route
// (paths to operations), caller (who asks), target (which function is meant),
// decode (JSON into typed requests), constraint (the rules of the service
// model), encode (records into answers) and errors (Kind to AWS's exceptions).
//
// Everything in a request is hostile: bodies are bounded before they are read
// and counted while they are, JSON is decoded without building what nobody
// asked for, and no input answers with a 5xx other than 501.
package api
