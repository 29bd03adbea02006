package lab

import (
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// patientClient is the SDK's HTTP client without a fault of smithy-go (1.28.9
// has it still), which a server as near as ours brings out. The SDK closes a
// request's body once the answer's headers have come. net/http may not have
// seen the end of that body by then: all of it is sent, but it asks once more
// whether there is nothing beyond. It asks by WriterTo, and of a closed body
// smithy-go's gives the error io.EOF. For net/http that is a request it could
// not send: it closes the connection, and of an answer longer than the 4 KB it
// has read with the headers the rest is lost ("deserialization failed … use of
// closed network connection"). Reader has the right answer there, so WriterTo is
// hidden.
type patientClient struct{ aws.HTTPClient }

// Do sends a request.
func (c patientClient) Do(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body = struct{ io.ReadCloser }{req.Body}
	}
	return c.HTTPClient.Do(req)
}
