package sigv4

import (
	"fmt"

	"lambent"
)

// AWS's names of what can be wrong with a signature. All are answered with
// status 403.
const (
	MissingAuthenticationToken = "MissingAuthenticationTokenException"
	IncompleteSignature        = "IncompleteSignatureException"
	InvalidSignature           = "InvalidSignatureException"
	UnrecognizedClient         = "UnrecognizedClientException"
	ExpiredToken               = "ExpiredTokenException"
)

func refuse(reason, message string, cause error) error {
	return &lambent.Error{Op: "verify signature", Kind: lambent.KindDenied, Reason: reason, Message: message, Err: cause}
}

// Unrecognized is the error of a Lookup that knows no such key, or none with
// such a session token. cause is for the log; the caller is not told it.
func Unrecognized(cause error) error {
	return refuse(UnrecognizedClient, "The security token included in the request is invalid.", cause)
}

// Expired is the error of a Lookup for a session token whose time is over.
func Expired() error {
	return refuse(ExpiredToken, "The security token included in the request is expired", nil)
}

func missing() error { return refuse(MissingAuthenticationToken, "Missing Authentication Token", nil) }

func incomplete(format string, args ...any) error {
	return refuse(IncompleteSignature, fmt.Sprintf(format, args...), nil)
}

func invalid(format string, args ...any) error {
	return refuse(InvalidSignature, fmt.Sprintf(format, args...), nil)
}

// mismatch is what AWS says of a signature that is another than the one it
// calculated, whatever the reason.
func mismatch() error {
	return invalid("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. " +
		"Consult the service documentation for details.")
}
