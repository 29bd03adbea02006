package api

import (
	"errors"
	"fmt"
	"strings"

	"lambent"
	"lambent/internal/deliver"
	"lambent/internal/registry"
)

// Deliverable tells why nothing can be delivered to an ARN on behalf of an account's
// function of a role: KindDenied where the role must not, else KindInvalid with a
// Message. It does not block.
type Deliverable func(account lambent.AccountID, role, arn string) error

// nothingDelivered is the Deliverable of a server that delivers to functions only.
func nothingDelivered(_ lambent.AccountID, _, arn string) error {
	if serviceOf(arn) == "lambda" {
		return nil
	}
	return &lambent.Error{Op: "deliver", Resource: arn, Kind: lambent.KindInvalid, Message: "This server delivers to functions only: " + arn + " would get nothing."}
}

// checkDestinations refuses destinations of no kind that results can go to,
// functions that are not there, and what nothing can be delivered to.
func (a *API) checkDestinations(operation string, ref lambent.FunctionRef, role string, d *registry.Destinations) error {
	if d == nil {
		return nil
	}
	success, failure := deref(deref(d.OnSuccess).Destination), deref(deref(d.OnFailure).Destination)
	for _, arn := range []string{success, failure} {
		var err error
		switch service := serviceOf(arn); {
		case arn == "":
			continue
		case service == "lambda":
			err = a.checkFunctionDestination(operation, ref, arn)
		case service == "s3":
			return invalid(operation, "This server delivers records of asynchronous invocations to no buckets: the destination "+arn+" would get nothing.")
		case service == string(deliver.SQS), service == string(deliver.SNS), service == string(deliver.EventBridge):
			if _, wrong := deliver.ParseARN(arn); wrong != nil {
				err = invalid(operation, "The destination ARN "+arn+" is invalid.")
			}
		default:
			return invalid(operation, fmt.Sprintf("The provided destination config DestinationConfig(onSuccess=%s, onFailure=%s) is invalid.", javaDestination("OnSuccess", success), javaDestination("OnFailure", failure)))
		}
		if err != nil {
			return err
		}
		if err := a.deliverable(ref.Account, role, arn); err != nil {
			return undeliverable(operation, err, "The function's execution role does not have permissions to call "+operationAt(arn)+" on "+arn)
		}
	}
	return nil
}

func (a *API) checkFunctionDestination(operation string, ref lambent.FunctionRef, arn string) error {
	to, err := lambent.ParseFunctionRef(arn)
	if err == nil && to.Region != a.region {
		return invalid(operation, "The destination ARN "+arn+" is invalid.")
	}
	if err == nil && to.Account == ref.Account {
		_, err = a.functions.Function(to.Account, to.Name, to.Qualifier)
	}
	switch {
	case err != nil:
		return invalid(operation, "The destination ARN "+arn+" is invalid.")
	case to.Account != ref.Account:
		return invalid(operation, "This server delivers records of asynchronous invocations to functions of the same account only: the destination "+arn+" would get nothing.")
	case to.Name == ref.Name:
		return invalid(operation, "You can't specify the function as a destination for itself.")
	}
	return nil
}

// checkDeadLetter refuses a dead-letter target that nothing can be delivered to.
func (a *API) checkDeadLetter(operation string, account lambent.AccountID, role, arn string) error {
	if arn == "" {
		return nil
	}
	to, err := deliver.ParseARN(arn)
	if err != nil || to.Service == deliver.EventBridge {
		return invalid(operation, "Invalid dead letter ARN: it must be the one of a standard queue of SQS or a standard topic of SNS: "+arn)
	}
	if err := a.deliverable(account, role, arn); err != nil {
		return undeliverable(operation, err, "The provided execution role does not have permissions to call "+operationAt(arn)+" on "+strings.ToUpper(string(to.Service)))
	}
	return nil
}

// checkChangedDeadLetter is checkDeadLetter for a function that is to get another
// target, or another role to call it with.
func (a *API) checkChangedDeadLetter(operation string, f *lambent.Function, s *settings) error {
	role, arn := f.Role, f.DeadLetter
	set(&role, s.Role)
	if s.DeadLetterConfig != nil {
		arn = deref(s.DeadLetterConfig.TargetArn)
	}
	if role == f.Role && arn == f.DeadLetter {
		return nil
	}
	return a.checkDeadLetter(operation, f.Account, role, arn)
}

// undeliverable is what callers are told of a Deliverable's error.
func undeliverable(operation string, err error, denied string) error {
	e, ok := errors.AsType[*lambent.Error](err)
	switch {
	case ok && e.Kind == lambent.KindDenied:
		return invalid(operation, denied)
	case ok && e.Kind == lambent.KindInvalid:
		return invalid(operation, e.Message)
	}
	return err
}

// serviceOf is the one in an ARN, "" for what is none.
func serviceOf(arn string) string {
	part := strings.SplitN(arn, ":", 7)
	if len(part) < 6 || part[0] != "arn" {
		return ""
	}
	return part[2]
}

// operationAt is what a delivery to an ARN calls there.
func operationAt(arn string) string {
	switch service := deliver.Service(serviceOf(arn)); service {
	case deliver.SQS, deliver.SNS, deliver.EventBridge:
		_, name, _ := strings.Cut(service.Action(), ":")
		return name
	}
	return "InvokeFunction"
}

func javaDestination(kind, arn string) string {
	if arn == "" {
		return "null"
	}
	return kind + "(destination=" + arn + ")"
}

type deadLetterSettings struct{ TargetArn *string }

func (c *deadLetterSettings) member(d *decoder, name string) error {
	if name == "TargetArn" {
		return d.str(&c.TargetArn)
	}
	return d.skip()
}
