package lambent

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// FunctionRef is what a caller may write to name a function. AWS accepts a
// bare name, a partial ARN and a full ARN, each with an optional qualifier
// (API reference, "FunctionName"):
//
//	NAME[:QUALIFIER]
//	ACCOUNT:function:NAME[:QUALIFIER]      and   function:NAME[:QUALIFIER]
//	arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]
//
// Partition ("aws" above), Region and Account are empty where the caller left
// them out.
type FunctionRef struct {
	Partition string
	Region    string
	Account   AccountID
	Name      FunctionName
	Qualifier string
}

// functionRefPattern is the constraint of the service model's FunctionName and
// NamespacedFunctionName shapes, with its parts captured.
var functionRefPattern = regexp.MustCompile(`^(?:arn:(aws[a-zA-Z-]*):lambda:)?(?:([a-z]{2}(?:-[a-z]+)+-\d{1}):)?(?:(\d{12}):)?(?:(function):)?([a-zA-Z0-9-_]+)(?::(\$LATEST|[a-zA-Z0-9-_]+))?$`)

// maxNameLength is AWS's bound for a function name without its ARN.
const maxNameLength = 64

// ErrBadFunctionRef and ErrLongFunctionName are why ParseFunctionRef refuses a
// name: its pattern, or its length of over 64 characters.
var (
	ErrBadFunctionRef   = errors.New("not a function name, partial ARN or ARN")
	ErrLongFunctionName = errors.New("a function name has at most 64 characters")
)

// ParseFunctionRef reads any of the forms FunctionRef tells of. The path of a
// request must be unescaped before. It returns ErrBadFunctionRef or
// ErrLongFunctionName, wrapped with the text that was refused.
func ParseFunctionRef(s string) (FunctionRef, error) {
	m := functionRefPattern.FindStringSubmatch(s)
	if m == nil {
		return FunctionRef{}, fmt.Errorf("%q: %w", s, ErrBadFunctionRef)
	}
	partition, region, account, keyword := m[1], m[2], m[3], m[4]
	ref := FunctionRef{Partition: partition, Region: region, Account: AccountID(account), Name: FunctionName(m[5]), Qualifier: m[6]}
	switch {
	case partition != "" && (region == "" || account == "" || keyword == ""),
		partition == "" && region != "",
		account != "" && keyword == "":
		return FunctionRef{}, fmt.Errorf("%q: %w", s, ErrBadFunctionRef)
	case len(ref.Name) > maxNameLength:
		return FunctionRef{}, fmt.Errorf("%q: %w", s, ErrLongFunctionName)
	}
	return ref, nil
}

// FunctionARN renders the ARN of a function, with ":qualifier" only where one
// is given.
func FunctionARN(region string, account AccountID, name FunctionName, qualifier string) string {
	var b strings.Builder
	b.WriteString("arn:aws:lambda:")
	b.WriteString(region)
	b.WriteByte(':')
	b.WriteString(string(account))
	b.WriteString(":function:")
	b.WriteString(string(name))
	if qualifier != "" {
		b.WriteByte(':')
		b.WriteString(qualifier)
	}
	return b.String()
}
