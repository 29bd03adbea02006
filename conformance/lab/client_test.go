package lab

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// An answer that comes before net/http has seen the end of what it sent must not
// close the connection the answer is still to be read from.
func TestAnAnswerThatComesAtOnceDoesNotCloseTheConnection(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	slow := &slowSender{closed: make(chan struct{}), sent: make(chan error, 1)}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &slowConn{Conn: conn, until: slow.closed}, err
	}}
	defer transport.CloseIdleConnections()
	slow.next = patientClient{&http.Client{Transport: transport}}
	client := lambda.New(lambda.Options{Region: Region, BaseEndpoint: &server.URL, HTTPClient: slow, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("123456789012", "secret", "")})
	_, err := client.CreateFunction(t.Context(), &lambda.CreateFunctionInput{FunctionName: aws.String("f"), Role: aws.String("r"),
		Code: &types.FunctionCode{ZipFile: make([]byte, 8<<10)}}) // more than net/http buffers: it is sent while it is read
	if err != nil {
		t.Error(err)
	}
	if err := <-slow.sent; err != nil {
		t.Errorf("net/http takes the request, all of which was sent and answered, for one it could not send: %v", err)
	}
}

// slowSender tells when the SDK closes the request's body, and how sending it
// ended for net/http.
type slowSender struct {
	next   aws.HTTPClient
	closed chan struct{}
	sent   chan error
}

func (s *slowSender) Do(req *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) { s.sent <- info.Err }}
	out := req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
	resp, err := s.next.Do(out)
	req.Body = &toldClose{ReadCloser: req.Body, tell: s.closed} // which the SDK closes now
	return resp, err
}

type toldClose struct {
	io.ReadCloser
	once sync.Once
	tell chan struct{}
}

func (c *toldClose) Close() error {
	err := c.ReadCloser.Close()
	c.once.Do(func() { close(c.tell) })
	return err
}

// slowConn returns from sending the end of a JSON document only when it is told:
// by then the server has it and has answered.
type slowConn struct {
	net.Conn
	until <-chan struct{}
}

func (c *slowConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if bytes.HasSuffix(p, []byte("}")) {
		<-c.until
	}
	return n, err
}
