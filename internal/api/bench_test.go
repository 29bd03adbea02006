package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/registry"
)

// The two benchmarks below are to be read as one ratio: a call of Invoke
// through the door and back, over loopback, against a bare Go HTTP server that
// echoes. What sandboxes cost is in neither.

func BenchmarkInvokeOverHTTP(b *testing.B) {
	a, err := New(Options{Functions: newFakeFunctions(), Objects: &registry.Objects{}, Policies: &fakePolicies{}, Invoker: echoInvoker{}, CheckPackage: checkZip})
	if err != nil {
		b.Fatal(err)
	}
	benchmarkHTTP(b, a, invokePath)
}

func BenchmarkBareEchoOverHTTP(b *testing.B) {
	benchmarkHTTP(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write(body)
	}), "/")
}

// BenchmarkInvokeAlone is the door without HTTP.
func BenchmarkInvokeAlone(b *testing.B) {
	a, err := New(Options{Functions: newFakeFunctions(), Objects: &registry.Objects{}, Policies: &fakePolicies{}, Invoker: echoInvoker{}, CheckPackage: checkZip})
	if err != nil {
		b.Fatal(err)
	}
	r, err := http.NewRequest("POST", invokePath, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.ContentLength = int64(len(benchmarkPayload))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=123456789012/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0")
	body := strings.NewReader(benchmarkPayload)
	r.Body = io.NopCloser(body)
	w := &discardWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(benchmarkPayload)
		clear(w.header)
		a.ServeHTTP(w, r)
	}
	if w.status != http.StatusOK {
		b.Errorf("status %d", w.status)
	}
}

func BenchmarkCheckJSON(b *testing.B) {
	payload := []byte(`[` + strings.Repeat(`{"key":"a value of some length","n":123.5,"list":[true,false,null]},`, 10000) + `0]`)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if err := checkJSON(payload); err != nil {
			b.Fatal(err)
		}
	}
}

const benchmarkPayload = `{"key1":"value1","key2":"value2","key3":"value3"}`

type echoInvoker struct{}

func (echoInvoker) Invoke(_ context.Context, inv *lambent.Invocation) (*lambent.Result, error) {
	return echo(inv), nil
}

type discardWriter struct {
	header http.Header
	status int
}

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *discardWriter) WriteHeader(status int)      { w.status = status }

func benchmarkHTTP(b *testing.B, h http.Handler, path string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: h}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{}}
	url := "http://" + l.Addr().String() + path
	b.ReportAllocs()
	for b.Loop() {
		resp, err := client.Post(url, "application/json", strings.NewReader(benchmarkPayload))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status, err)
		}
		if err := resp.Body.Close(); err != nil {
			b.Fatal(err)
		}
	}
	client.CloseIdleConnections()
	if err := server.Close(); err != nil {
		b.Error(err)
	}
	if err := <-served; err != http.ErrServerClosed {
		b.Error(err)
	}
}

// BenchmarkListAPage is a page of 50 functions, without HTTP. What it leaves for
// the collector decides how many of such calls meet one at work.
func BenchmarkListAPage(b *testing.B) {
	functions := newFakeFunctions()
	for i := range 50 {
		name := lambent.FunctionName(fmt.Sprintf("function-with-a-usual-name-%05d", i))
		if _, err := functions.CreateFunction(b.Context(), &lambent.Function{Account: "123456789012", Name: name, Runtime: "nodejs20.x", Handler: "index.handler"}, nil, lambent.Unpublished); err != nil {
			b.Fatal(err)
		}
	}
	a, err := New(Options{Functions: functions, Objects: &registry.Objects{}, Policies: &fakePolicies{}, Invoker: echoInvoker{}, CheckPackage: checkZip})
	if err != nil {
		b.Fatal(err)
	}
	r, err := http.NewRequest("GET", "/2015-03-31/functions", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=123456789012/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0")
	w := &discardWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		a.ServeHTTP(w, r)
	}
	if w.status != http.StatusOK || w.header.Get("Content-Length") == "" {
		b.Errorf("status %d, %s bytes", w.status, w.header.Get("Content-Length"))
	}
}
