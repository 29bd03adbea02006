// Package sigv4 tells who signed a request: it verifies AWS Signature Version 4
// (IAM user guide, "AWS Signature Version 4 for API requests"), in all forms
// that AWS's SDKs send: the Authorization header, the query of a presigned URL,
// bodies whose hash is declared, undeclared, left out (UNSIGNED-PAYLOAD), or
// signed chunk by chunk, with or without trailers.
//
// Whose secret an access key has is the Lookup's to say. What comes from a
// caller is bounded, and a signature is compared in constant time. A request is
// taken for as long as AWS takes one: five minutes around its date, or what a
// presigned one says; within that time it may come again, as with AWS, since
// SDKs repeat a request that got no answer, and presigned ones are made for it.
//
// Errors are *lambent.Error of KindDenied whose Reason is AWS's name and whose
// Message is AWS's text.
package sigv4
