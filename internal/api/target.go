package api

import (
	"errors"
	"fmt"

	"lambent"
)

// partition is the only one of AWS's that lambent's ARNs are in.
const partition = "aws"

// maxNameLength is AWS's bound for a function's name alone.
const maxNameLength = 64

// isPlainName reports whether s is a bare function name within AWS's bounds:
// then none of its constraints is broken and nothing has to be taken apart.
func isPlainName(s string) bool {
	if s == "" || len(s) > maxNameLength {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// checkName notes what the model finds wrong with a name in any of its forms
// and with a qualifier.
func (a *API) checkName(v *violations, name string, rules []rule, qualifier *string) {
	if !isPlainName(name) {
		v.str("functionName", &name, rules...)
	}
	v.str("qualifier", qualifier, a.shapes.qualifier...)
}

// target tells which function the caller means by a name, partial ARN or ARN
// that checkName has passed, and by a qualifier beside it. The result has an
// account, a name and, where either place gave one, a qualifier. Other regions
// and accounts are refused as AWS refuses them, other
// partitions likewise.
func (a *API) target(caller Caller, operation, name string, qualifier *string) (lambent.FunctionRef, error) {
	ref := lambent.FunctionRef{Account: caller.Account, Name: lambent.FunctionName(name)}
	if !isPlainName(name) {
		var err error
		if ref, err = lambent.ParseFunctionRef(name); err != nil {
			return ref, a.badRef(caller, operation, name, err)
		}
		if ref.Partition != "" && ref.Partition != partition {
			return ref, &lambent.Error{Op: operation, Resource: name, Kind: lambent.KindNotFound,
				Message: fmt.Sprintf("Functions from the partition '%s' are not reachable in this partition ('%s')", ref.Partition, partition)}
		}
		if ref.Region != "" && ref.Region != a.region {
			return ref, &lambent.Error{Op: operation, Resource: name, Kind: lambent.KindNotFound,
				Message: fmt.Sprintf("Functions from '%s' are not reachable in this region ('%s')", ref.Region, a.region)}
		}
		if ref.Account == "" {
			ref.Account = caller.Account
		}
		if ref.Account != caller.Account && ref.Account != caller.granted {
			return ref, a.denied(caller, operation, ref)
		}
	}
	if qualifier != nil {
		if ref.Qualifier != "" && ref.Qualifier != *qualifier {
			return ref, invalid(operation, "The derived qualifier from the function name does not match the specified qualifier.")
		}
		ref.Qualifier = *qualifier
	}
	return ref, nil
}

// badRef is the error for a name that the model's pattern lets pass but that
// names nothing: too long, or of a form no function can have.
func (a *API) badRef(caller Caller, operation, name string, err error) error {
	if errors.Is(err, lambent.ErrLongFunctionName) {
		var v violations
		v.str("functionName", &name, maxLength(maxNameLength))
		return &lambent.Error{Op: operation, Resource: name, Kind: lambent.KindInvalid, Message: v.text(), Err: err}
	}
	return &lambent.Error{Op: operation, Resource: name, Kind: lambent.KindNotFound, Err: err,
		Message: "Function not found: " + lambent.FunctionARN(a.region, caller.Account, lambent.FunctionName(name), "")}
}

// denied is what AWS tells a caller of another account without permission.
func (a *API) denied(caller Caller, operation string, ref lambent.FunctionRef) error {
	action := "lambda:" + operation
	if operation == "Invoke" || operation == "InvokeWithResponseStream" {
		action = "lambda:InvokeFunction"
	}
	return deniedAction(caller, action, lambent.FunctionARN(a.region, ref.Account, ref.Name, ref.Qualifier))
}

// deniedARN is denied for what is not a function.
func (a *API) deniedARN(caller Caller, operation, arn string) error {
	return deniedAction(caller, "lambda:"+operation, arn)
}

func deniedAction(caller Caller, action, arn string) error {
	return &lambent.Error{Op: action, Resource: arn, Kind: lambent.KindDenied,
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because no resource-based policy allows the %s action", caller.Principal.ARN, action, arn, action)}
}

// invalid is an InvalidParameterValueException.
func invalid(operation, message string) error {
	return &lambent.Error{Op: operation, Kind: lambent.KindInvalid, Message: message}
}
