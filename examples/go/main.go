// Command bootstrap is a sample function in Go: it finds the primes up to a
// bound. It speaks the Lambda Runtime API with the standard library alone, so
// that the whole of that protocol can be read here:
//
//	CGO_ENABLED=0 go build -o bootstrap main.go
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

// calls is kept between calls of the same container.
var calls int

type event struct {
	Below int `json:"below"`
}

type answer struct {
	Primes  int `json:"primes"`
	Largest int `json:"largest"`
	Calls   int `json:"calls"`
}

func handle(e event) (answer, error) {
	calls++
	if e.Below < 0 || e.Below > 50_000_000 {
		return answer{}, fmt.Errorf("below must be between 0 and 50000000, it is %d", e.Below)
	}
	a := answer{Calls: calls}
	composite := make([]bool, e.Below)
	for n := 2; n < e.Below; n++ {
		if composite[n] {
			continue
		}
		a.Primes++
		a.Largest = n
		for m := n * n; m < e.Below; m += n {
			composite[m] = true
		}
	}
	return a, nil
}

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		if err := serveOne(api); err != nil {
			log.Fatal(err)
		}
	}
}

// serveOne takes the next event and answers it. An error means that the Runtime
// API is gone, not that the function failed.
func serveOne(api string) error {
	next, err := http.Get(api + "next") // waits for as long as it takes
	if err != nil {
		return err
	}
	body, err := io.ReadAll(next.Body)
	next.Body.Close()
	if err != nil {
		return err
	}
	id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")

	var e event
	var a answer
	if err = json.Unmarshal(body, &e); err == nil {
		a, err = handle(e)
	}
	if err != nil {
		return post(api+id+"/error", map[string]string{"errorType": "SampleError", "errorMessage": err.Error()})
	}
	return post(api+id+"/response", a)
}

func post(url string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
