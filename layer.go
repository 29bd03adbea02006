package lambent

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// MaxLayers is how many layers a function may have (developer guide, "Lambda
// quotas").
const MaxLayers = 5

// Layer is a published layer version as a function uses it: the function keeps
// what it needs of it, and so goes on working when the version is deleted.
type Layer struct {
	ARN      string // of the version
	Code     CodeHash
	Size     int64 // bytes of its package, zipped
	Unpacked int64 // bytes of it unpacked
}

// LayerVersion is the record of one published version of a layer. But for its
// policy it never changes, and its number is never given to another one.
type LayerVersion struct {
	Account AccountID
	Name    string
	Version int64 // from 1 on

	Description   string
	License       string
	Runtimes      []Runtime // it says of itself to be made for; nil where it does not say
	Architectures []string  // the same
	Code          CodeHash
	CodeSize      int64 // bytes of its package, zipped
	Unpacked      int64 // bytes of it unpacked
	Created       time.Time

	Statements     []LayerStatement // of its policy, in the order they were added
	PolicyRevision string           // of the statements; empty where there never was one
}

// LayerStatement allows somebody to use a layer version.
type LayerStatement struct {
	ID           string
	Principal    string // an account, "arn:aws:iam::ACCOUNT:root", or "*"
	Organization string // of which the account must be; empty for any
}

// Allows reports whether code of an account may use the version. Accounts of
// lambent are in no organization, so a statement for one allows nobody.
func (v *LayerVersion) Allows(account AccountID) bool {
	if account == v.Account {
		return true
	}
	for _, s := range v.Statements {
		if s.Organization != "" {
			continue
		}
		if s.Principal == "*" || s.Principal == string(account) {
			return true
		}
		if m := rootPattern.FindStringSubmatch(s.Principal); m != nil && m[1] == string(account) {
			return true
		}
	}
	return false
}

// rootPattern is how an account as a whole is written as a principal.
var rootPattern = regexp.MustCompile(`^arn:aws[a-zA-Z-]*:iam::(\d{12}):root$`)

// LayerARN renders the ARN of a layer.
func LayerARN(region string, account AccountID, name string) string {
	return "arn:aws:lambda:" + region + ":" + string(account) + ":layer:" + name
}

// LayerVersionARN renders the ARN of a version of a layer.
func LayerVersionARN(region string, account AccountID, name string, version int64) string {
	return LayerARN(region, account, name) + ":" + strconv.FormatInt(version, 10)
}

// LayerRef is what a caller may write to name a layer or a version of one: a bare
// name or an ARN. Partition, Region and Account are empty for a bare name,
// Version is 0 where none is given.
type LayerRef struct {
	Partition string
	Region    string
	Account   AccountID
	Name      string
	Version   int64
}

// layerRefPattern is the constraint of the service model's LayerName and
// LayerVersionArn shapes, with its parts captured.
var layerRefPattern = regexp.MustCompile(`^(?:arn:([a-zA-Z0-9-]+):lambda:([a-zA-Z0-9-]+):(\d{12}):layer:)?([a-zA-Z0-9-_]+)(?::([0-9]+))?$`)

// ErrBadLayerRef is why ParseLayerRef refuses a name.
var ErrBadLayerRef = errors.New("not a layer's name, ARN or version ARN")

// ParseLayerRef reads any of the forms LayerRef tells of. It returns
// ErrBadLayerRef, wrapped with the text that was refused; a version only goes
// with an ARN, and is written in one way: policies are asked by the ARN's text.
func ParseLayerRef(s string) (LayerRef, error) {
	m := layerRefPattern.FindStringSubmatch(s)
	if m == nil || m[1] == "" && m[5] != "" {
		return LayerRef{}, fmt.Errorf("%q: %w", s, ErrBadLayerRef)
	}
	ref := LayerRef{Partition: m[1], Region: m[2], Account: AccountID(m[3]), Name: m[4]}
	if m[5] != "" {
		n, err := strconv.ParseInt(m[5], 10, 64)
		if err != nil || m[5][0] == '0' {
			return LayerRef{}, fmt.Errorf("%q: %w", s, ErrBadLayerRef)
		}
		ref.Version = n
	}
	return ref, nil
}
