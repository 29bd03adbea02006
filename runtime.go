package lambent

import (
	"slices"
	"strings"
)

// Family is what kind of process serves a runtime: which bootstrap is used and
// which warming pool holds its instances.
type Family string

// The families lambent can run. FamilyProvided is any executable named
// bootstrap that speaks the Runtime API over HTTP.
const (
	FamilyNode     Family = "nodejs"
	FamilyPython   Family = "python"
	FamilyProvided Family = "provided"
)

// FamilyImage is a container image, which brings all that runs in it along and
// speaks the Runtime API over HTTP. It is none of Families: no warming pool can
// hold what only one function is made of.
const FamilyImage Family = "image"

// Families lists the families of runtimes in a stable order.
func Families() []Family { return []Family{FamilyNode, FamilyPython, FamilyProvided} }

// Runtime is one of AWS's runtime identifiers, such as "nodejs22.x".
type Runtime string

// runtimes are the values of the service model's Runtime enum, in its order.
var runtimes = []Runtime{"nodejs", "nodejs4.3", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x", "nodejs16.x",
	"java8", "java8.al2", "java11", "python2.7", "python3.6", "python3.7", "python3.8", "python3.9", "dotnetcore1.0", "dotnetcore2.0",
	"dotnetcore2.1", "dotnetcore3.1", "dotnet6", "dotnet8", "nodejs4.3-edge", "go1.x", "ruby2.5", "ruby2.7", "provided", "provided.al2",
	"nodejs18.x", "python3.10", "java17", "ruby3.2", "ruby3.3", "ruby3.4", "python3.11", "nodejs20.x", "provided.al2023", "python3.12",
	"java21", "python3.13", "nodejs22.x", "nodejs24.x", "python3.14", "java25", "dotnet10", "ruby4.0"}

// KnownRuntimes lists every identifier of the service model, in its order.
func KnownRuntimes() []Runtime { return slices.Clone(runtimes) }

// Known reports whether AWS has, or had, a runtime of this name.
func (r Runtime) Known() bool { return slices.Contains(runtimes, r) }

// retired are those AWS refuses for new functions: "is no longer supported for
// creating or updating AWS Lambda functions".
var retired = []Runtime{"nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x",
	"java8", "python2.7", "python3.6", "python3.7", "dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1", "go1.x", "ruby2.5",
	"ruby2.7", "provided"}

// Retired reports whether AWS no longer takes new functions of this runtime.
func (r Runtime) Retired() bool { return slices.Contains(retired, r) }

// Family is the family that serves r; ok is false where lambent has none.
func (r Runtime) Family() (f Family, ok bool) {
	for _, f := range Families() {
		if strings.HasPrefix(string(r), string(f)) {
			return f, true
		}
	}
	return "", false
}

// LanguageVersion is the version in the identifier: "22" of nodejs22.x,
// "3.12" of python3.12, empty for provided.
func (r Runtime) LanguageVersion() string {
	f, ok := r.Family()
	if !ok || f == FamilyProvided {
		return ""
	}
	v := strings.TrimPrefix(string(r), string(f))
	return strings.TrimSuffix(v, ".x")
}
