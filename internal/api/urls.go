package api

import (
	"crypto/rand"
	"net"
	"net/http"
	"strings"
	"time"

	"lambent"
	"lambent/internal/registry"
)

// The modes of a function URL.
const buffered = "BUFFERED"

type urlAnswer struct {
	FunctionURL      string `json:"FunctionUrl"`
	FunctionArn      string
	AuthType         string
	Cors             *registry.Cors `json:",omitempty"`
	CreationTime     string
	LastModifiedTime string `json:",omitempty"`
	InvokeMode       string
}

func (a *API) urlConfig(c *call, key registry.ObjectKey, u *registry.FunctionURL) urlAnswer {
	return urlAnswer{FunctionURL: a.functionURL(c.r, u.ID), FunctionArn: a.keyARN(key, ""), AuthType: u.AuthType, Cors: u.Cors,
		CreationTime: u.Created.UTC().Format(time.RFC3339Nano), LastModifiedTime: u.LastModified.UTC().Format(time.RFC3339Nano), InvokeMode: u.InvokeMode}
}

// functionURL is the address of a URL on this server, as the caller reaches it:
// an IP address has no names below it, so that localhost stands for one.
func (a *API) functionURL(r *http.Request, id string) string {
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = r.Host, ""
	}
	if host == "" || net.ParseIP(strings.Trim(host, "[]")) != nil {
		host = "localhost"
	}
	if port != "" {
		host = net.JoinHostPort(host, port)
	}
	return "http://" + id + ".lambda-url." + a.region + "." + host + "/"
}

// newURLID makes an id as AWS's are: 32 characters of a host name, which nobody
// guesses.
func newURLID() string {
	const length = 32
	return strings.ToLower((rand.Text() + rand.Text())[:length])
}

// createFunctionURLConfig does CreateFunctionUrlConfig.
func (a *API) createFunctionURLConfig(c *call) error {
	const operation = "CreateFunctionUrlConfig"
	var q urlRequest
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	key, err := a.urlKey(c, operation, &q, "Function does not exist")
	if err != nil {
		return err
	}
	if f, err := a.functions.Function(key.Account, lambent.FunctionName(key.Parent), key.Name); err == nil && f.TenantIsolation != "" {
		return invalid(operation, "Function URLs are not supported for functions with tenant isolation.")
	}
	now := a.now()
	u := &registry.FunctionURL{ID: newURLID(), AuthType: *q.AuthType, InvokeMode: buffered, Cors: q.Cors, Created: now, LastModified: now}
	set(&u.InvokeMode, q.InvokeMode)
	exists := "Failed to create function url config for [functionArn = " + a.keyARN(key, "") + "]. Error message:  FunctionUrlConfig exists for this Lambda function"
	if err := a.objects.URLs.Create(c.r.Context(), operation, key, u, exists); err != nil {
		return err
	}
	answer := a.urlConfig(c, key, u)
	answer.LastModifiedTime = "" // which is not in this operation's answer
	return c.reply(http.StatusCreated, answer)
}

// urlRequest is what the operations on one URL are sent.
type urlRequest struct {
	FunctionName string
	Qualifier    *string
	AuthType     *string
	InvokeMode   *string
	Cors         *registry.Cors
}

// urlKey is where the URL the caller means is, or would be; missing is what is
// said where the function or alias is not there. Only $LATEST and aliases have
// URLs.
func (a *API) urlKey(c *call, operation string, q *urlRequest, missing string) (registry.ObjectKey, error) {
	ref, _, err := a.functionOf(c, operation, q.FunctionName, q.Qualifier)
	if err != nil {
		return registry.ObjectKey{}, withMessage(err, missing)
	}
	if lambent.Version(ref.Qualifier).IsNumbered() || ref.Qualifier == string(lambent.Latest) { // given with the name, past the qualifier's constraints
		var v violations
		v.str("qualifier", &ref.Qualifier, a.model.Shapes["FunctionUrlQualifier"].rules()...)
		return registry.ObjectKey{}, v.err()
	}
	return qualifiedKey(ref), nil
}

const noSuchResource = "The resource you requested does not exist."

// getFunctionURLConfig does GetFunctionUrlConfig.
func (a *API) getFunctionURLConfig(c *call) error {
	const operation = "GetFunctionUrlConfig"
	var q urlRequest
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	key, err := a.urlKey(c, operation, &q, noSuchResource)
	if err != nil {
		return err
	}
	u := a.objects.URLs.Get(key)
	if u == nil {
		return noResource(operation, noSuchResource)
	}
	return c.reply(http.StatusOK, a.urlConfig(c, key, u))
}

// updateFunctionURLConfig does UpdateFunctionUrlConfig.
func (a *API) updateFunctionURLConfig(c *call) error {
	const operation = "UpdateFunctionUrlConfig"
	var q urlRequest
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	key, err := a.urlKey(c, operation, &q, "Function does not exist")
	if err != nil {
		return err
	}
	u, err := a.objects.URLs.Edit(c.r.Context(), operation, key, func(old *registry.FunctionURL) (*registry.FunctionURL, error) {
		if old == nil {
			return nil, noResource(operation, noSuchResource)
		}
		next := *old
		set(&next.AuthType, q.AuthType)
		set(&next.InvokeMode, q.InvokeMode)
		if q.Cors != nil {
			next.Cors = q.Cors
		}
		next.LastModified = a.now()
		return &next, nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, a.urlConfig(c, key, u))
}

// deleteFunctionURLConfig does DeleteFunctionUrlConfig.
func (a *API) deleteFunctionURLConfig(c *call) error {
	const operation = "DeleteFunctionUrlConfig"
	var q urlRequest
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	key, err := a.urlKey(c, operation, &q, noSuchResource)
	if err != nil {
		return err
	}
	_, err = a.objects.URLs.Edit(c.r.Context(), operation, key, func(old *registry.FunctionURL) (*registry.FunctionURL, error) {
		if old == nil {
			return nil, noResource(operation, noSuchResource)
		}
		return nil, nil
	})
	return c.done(err)
}

type listURLsAnswer struct {
	FunctionURLConfigs []urlAnswer `json:"FunctionUrlConfigs"`
	NextMarker         *string     `json:",omitempty"`
}

// listFunctionURLConfigs does ListFunctionUrlConfigs.
func (a *API) listFunctionURLConfigs(c *call) error {
	const operation = "ListFunctionUrlConfigs"
	page, next, err := pageOfFunction(a, c, operation, a.objects.URLs, "Function does not exist")
	if err != nil {
		return err
	}
	answer := listURLsAnswer{FunctionURLConfigs: []urlAnswer{}, NextMarker: next}
	for _, o := range page {
		answer.FunctionURLConfigs = append(answer.FunctionURLConfigs, a.urlConfig(c, o.Key, o.Value))
	}
	return c.reply(http.StatusOK, answer)
}
