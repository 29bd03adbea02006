package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"lambent"
	"lambent/internal/registry"
	"lambent/internal/sigv4"
)

// bodyShape is how an exception's JSON body spells its members: AWS's
// exceptions differ, and clients that read the body by hand rely on it.
type bodyShape uint8

const (
	bodyTyped        bodyShape = iota // {"Type":"User","message":…}
	bodyTypedCapital                  // {"Type":"User","Message":…}
	bodyPlain                         // {"message":…}
	bodyService                       // {"Type":"Service","message":…}
	bodyCapital                       // {"Message":…}
	bodyReason                        // {"Reason":…,"Type":"User","message":…}
)

// An exception is one of AWS's errors: its name, its status and its body.
type exception struct {
	status int
	name   string
	shape  bodyShape
}

// exceptions is the one table from what went wrong to what AWS calls it.
var exceptions = [...]exception{
	lambent.KindInternal:        {http.StatusInternalServerError, "ServiceException", bodyService},
	lambent.KindInvalid:         {http.StatusBadRequest, "InvalidParameterValueException", bodyTyped},
	lambent.KindValidation:      {http.StatusBadRequest, "ValidationException", bodyPlain},
	lambent.KindMalformed:       {http.StatusBadRequest, "InvalidRequestContentException", bodyTyped},
	lambent.KindNotFound:        {http.StatusNotFound, "ResourceNotFoundException", bodyTypedCapital},
	lambent.KindExists:          {http.StatusConflict, "ResourceConflictException", bodyTyped},
	lambent.KindPrecondition:    {http.StatusPreconditionFailed, "PreconditionFailedException", bodyTyped},
	lambent.KindTooLarge:        {http.StatusRequestEntityTooLarge, "RequestTooLargeException", bodyTyped},
	lambent.KindRequestTooLarge: {http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", bodyPlain},
	lambent.KindThrottled:       {http.StatusTooManyRequests, "TooManyRequestsException", bodyReason},
	lambent.KindDenied:          {http.StatusForbidden, "AccessDeniedException", bodyPlain},
	lambent.KindUnsupported:     {http.StatusNotImplemented, "NotImplementedException", bodyTyped},
	lambent.KindUnavailable:     {http.StatusServiceUnavailable, "ServiceUnavailableException", bodyPlain},
	lambent.KindMediaType:       {http.StatusUnsupportedMediaType, "UnsupportedMediaTypeException", bodyTyped},
}

// reasonNoCodeSigningConfig picks the body that ResourceNotFoundException has
// from the operations on code signing configs.
const reasonNoCodeSigningConfig = "NoCodeSigningConfig"

// named are the exceptions that a Reason picks within its Kind.
var named = map[string]exception{
	"SerializationException":                        {http.StatusBadRequest, "SerializationException", bodyPlain},
	reasonNotStored:                                 {http.StatusInternalServerError, "ServiceException", bodyService},
	"UnknownOperationException":                     {http.StatusNotFound, "UnknownOperationException", bodyPlain},
	"RequestTimeoutException":                       {http.StatusRequestTimeout, "RequestTimeoutException", bodyPlain},
	"PolicyLengthExceededException":                 {http.StatusBadRequest, "PolicyLengthExceededException", bodyTyped},
	"CodeStorageExceededException":                  {http.StatusBadRequest, "CodeStorageExceededException", bodyTyped},
	registry.ReasonAliasOfLatest:                    {http.StatusBadRequest, "InvalidParameterValueException", bodyPlain},
	"CodeSigningConfigNotFoundException":            {http.StatusNotFound, "CodeSigningConfigNotFoundException", bodyTypedCapital},
	reasonNoCodeSigningConfig:                       {http.StatusNotFound, "ResourceNotFoundException", bodyCapital},
	"ProvisionedConcurrencyConfigNotFoundException": {http.StatusNotFound, "ProvisionedConcurrencyConfigNotFoundException", bodyTyped},
	"CodeVerificationFailedException":               {http.StatusBadRequest, "CodeVerificationFailedException", bodyTyped},

	sigv4.MissingAuthenticationToken: {http.StatusForbidden, sigv4.MissingAuthenticationToken, bodyPlain},
	sigv4.IncompleteSignature:        {http.StatusForbidden, sigv4.IncompleteSignature, bodyPlain},
	sigv4.InvalidSignature:           {http.StatusForbidden, sigv4.InvalidSignature, bodyPlain},
	sigv4.UnrecognizedClient:         {http.StatusForbidden, sigv4.UnrecognizedClient, bodyPlain},
	sigv4.ExpiredToken:               {http.StatusForbidden, sigv4.ExpiredToken, bodyPlain},
}

// fallback is what a caller is told where an error carries no message.
func fallback(kind lambent.Kind) string {
	switch kind {
	case lambent.KindNotFound:
		return "The resource you requested does not exist."
	case lambent.KindExists:
		return "The operation cannot be performed at this time."
	case lambent.KindPrecondition:
		return "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
	case lambent.KindThrottled:
		return "Rate Exceeded."
	case lambent.KindUnavailable:
		return "The service is unavailable for now. Try again."
	case lambent.KindInternal:
		return "An error occurred and the request cannot be processed."
	}
	return "The request cannot be processed: " + kind.String() + "."
}

// describe decides what a caller is told of err. Nothing of an internal
// error but its class leaves the house.
func describe(err error) (e exception, message, reason string) {
	kind := lambent.KindInternal
	if le, ok := errors.AsType[*lambent.Error](err); ok {
		kind, message, reason = le.Kind, le.Message, le.Reason
	} else if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		kind = lambent.KindUnavailable // the caller has gone, or the server is going
	}
	if int(kind) >= len(exceptions) {
		kind = lambent.KindInternal
	}
	e = exceptions[kind]
	if n, ok := named[reason]; ok {
		e = n
	}
	if message == "" || kind == lambent.KindInternal {
		message = fallback(kind)
	}
	return e, message, reason
}

// errorBody is every shape an exception's body can have; empty members are
// left out.
type errorBody struct {
	Reason         string  `json:"Reason,omitempty"`
	Type           string  `json:"Type,omitempty"`
	Message        *string `json:"message,omitempty"`
	CapitalMessage *string `json:"Message,omitempty"`
}

// writeError answers with what AWS would say for err. Errors that are nobody's
// fault but ours are logged here, since this is where they end.
func (a *API) writeError(w http.ResponseWriter, r *http.Request, operation string, err error) {
	e, message, reason := describe(err)
	if e.status == http.StatusInternalServerError {
		a.log.LogAttrs(r.Context(), slog.LevelError, "request failed", slog.String("operation", operation),
			slog.String("request_id", w.Header().Get(headerRequestID)), slog.Any("error", err))
	} else if le, ok := errors.AsType[*lambent.Error](err); ok && le.Kind == lambent.KindUnavailable && le.Err != nil { // callers are not told the cause
		a.log.LogAttrs(r.Context(), slog.LevelWarn, "request refused", slog.String("operation", operation),
			slog.String("request_id", w.Header().Get(headerRequestID)), slog.Any("error", err))
	}
	leave(w, r)
	body := errorBody{Message: &message}
	switch e.shape {
	case bodyTyped:
		body.Type = "User"
	case bodyTypedCapital:
		body.Type, body.Message, body.CapitalMessage = "User", nil, &message
	case bodyCapital:
		body.Message, body.CapitalMessage = nil, &message
	case bodyService:
		body.Type = "Service"
	case bodyReason:
		body.Type, body.Reason = "User", reason
		w.Header().Set("Retry-After", "1")
	case bodyPlain:
	}
	w.Header().Set(headerErrorType, e.name)
	writeJSON(w, e.status, body)
}

// writeJSON answers with v. v is one of this package's answer types, all of
// which can be encoded.
func writeJSON(w http.ResponseWriter, status int, v any) {
	encodeJSON(w, new(bytes.Buffer), status, v)
}

// encodeJSON is writeJSON by way of an empty buffer.
func encodeJSON(w http.ResponseWriter, body *bytes.Buffer, status int, v any) {
	e := json.NewEncoder(body)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		status = http.StatusInternalServerError
		body.Reset()
		body.WriteString(`{"Type":"Service","message":"The answer could not be encoded."}`)
	}
	body.Truncate(len(bytes.TrimRight(body.Bytes(), "\n")))
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // an error here means the caller has gone
}
