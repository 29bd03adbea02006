// Package examples carries the sample functions in the binary, for the
// quickstart and for tests.
package examples

import (
	"embed"
	"io/fs"

	"lambent"
)

//go:embed node/index.mjs python/lambda_function.py go/main.go
var files embed.FS

// Example is one sample function.
type Example struct {
	Name    string // of the function it is deployed as
	Does    string // for people
	Family  lambent.Family
	Handler string
	Event   string // JSON
	// Want is what it answers to Event, but for the field "calls": that is 1 in
	// a new container and goes up by one with every call.
	Want map[string]any

	folder string
}

// Files are the sample's source files. The Go sample has to be built before it
// can be deployed: main.go into a program named bootstrap.
func (e Example) Files() (fs.FS, error) { return fs.Sub(files, e.folder) }

// All lists the samples.
func All() []Example {
	return []Example{
		{
			Name: "orders", Does: "prices an order", Family: lambent.FamilyNode, Handler: "index.handler", folder: "node",
			Event: `{"country":"AT","items":[{"price":9.99,"quantity":3},{"price":0.5}]}`,
			Want:  map[string]any{"net": 30.47, "vat": 6.09, "total": 36.56},
		},
		{
			Name: "words", Does: "counts words", Family: lambent.FamilyPython, Handler: "lambda_function.lambda_handler", folder: "python",
			Event: `{"text":"To be, or not to be: that is the question.","top":2}`,
			Want:  map[string]any{"words": 10.0, "top": map[string]any{"be": 2.0, "to": 2.0}},
		},
		{
			Name: "primes", Does: "finds primes", Family: lambent.FamilyProvided, Handler: "bootstrap", folder: "go",
			Event: `{"below":100000}`,
			Want:  map[string]any{"primes": 9592.0, "largest": 99991.0},
		},
	}
}
