package api

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"lambent"
	"lambent/internal/policy"
)

// resourceKind is what an operation is done to, as far as the path tells.
type resourceKind uint8

const (
	onAll          resourceKind = iota // of the account: "*"
	onFunction                         // the path's function, with the qualifier it is asked by
	onLayer                            // the path's layer
	onLayerVersion                     // the path's version of a layer
	onMapping                          // the path's event source mapping
	onProvider                         // the path's capacity provider
	onARN                              // the ARN in the path
	onQueryARN                         // the ARN in the query
	onBody                             // named in the body: the handler authorises, by API.authorize
)

// permission is what a caller must be allowed for an operation (service
// authorization reference, "Actions defined by AWS Lambda").
type permission struct {
	action string // "": lambda: and the operation's name
	on     resourceKind
}

// permissions are those of the operations that ask for another action than
// their name's, or for another resource than the path's function. Everything
// below /functions/{} is the function's.
var permissions = map[string]permission{
	"CreateFunction":           {on: onBody},
	"ListFunctions":            {on: onAll},
	"GetAccountSettings":       {on: onAll},
	"Invoke":                   {action: "lambda:InvokeFunction", on: onFunction},
	"InvokeWithResponseStream": {action: "lambda:InvokeFunction", on: onFunction},

	"PublishLayerVersion":          {on: onLayer},
	"GetLayerVersion":              {on: onLayerVersion},
	"GetLayerVersionByArn":         {action: "lambda:GetLayerVersion", on: onQueryARN},
	"ListLayers":                   {on: onAll},
	"ListLayerVersions":            {on: onAll},
	"DeleteLayerVersion":           {on: onLayerVersion},
	"AddLayerVersionPermission":    {on: onLayerVersion},
	"GetLayerVersionPolicy":        {on: onLayerVersion},
	"RemoveLayerVersionPermission": {on: onLayerVersion},

	"CreateEventSourceMapping": {on: onAll},
	"ListEventSourceMappings":  {on: onAll},
	"GetEventSourceMapping":    {on: onMapping},
	"UpdateEventSourceMapping": {on: onMapping},
	"DeleteEventSourceMapping": {on: onMapping},

	"TagResource":   {on: onARN},
	"UntagResource": {on: onARN},
	"ListTags":      {on: onARN},

	"CreateCodeSigningConfig":          {on: onAll},
	"ListCodeSigningConfigs":           {on: onAll},
	"GetCodeSigningConfig":             {on: onARN},
	"UpdateCodeSigningConfig":          {on: onARN},
	"DeleteCodeSigningConfig":          {on: onARN},
	"ListFunctionsByCodeSigningConfig": {on: onARN},

	"CreateCapacityProvider":                 {on: onAll},
	"ListCapacityProviders":                  {on: onAll},
	"GetCapacityProvider":                    {on: onProvider},
	"UpdateCapacityProvider":                 {on: onProvider},
	"DeleteCapacityProvider":                 {on: onProvider},
	"ListFunctionVersionsByCapacityProvider": {on: onProvider},

	"GetDurableExecution":                   {on: onARN},
	"GetDurableExecutionHistory":            {on: onARN},
	"GetDurableExecutionState":              {on: onARN},
	"CheckpointDurableExecution":            {on: onARN},
	"StopDurableExecution":                  {on: onARN},
	"SendDurableExecutionCallbackSuccess":   {on: onAll},
	"SendDurableExecutionCallbackFailure":   {on: onAll},
	"SendDurableExecutionCallbackHeartbeat": {on: onAll},
}

// permissionOf is what an operation asks for.
func permissionOf(op operation) permission {
	p, listed := permissions[op.name]
	if !listed {
		p.on = onFunction
	}
	if p.action == "" {
		p.action = "lambda:" + op.name
	}
	return p
}

// admit refuses a caller who may not do an operation, before any of it is done.
func (a *API) admit(c *call, rt *route) error {
	p := rt.permission
	if p.on == onBody || c.caller.isRoot() && p.on == onAll {
		return nil
	}
	if p.on == onFunction && c.caller.isRoot() && isPlainName(c.params[0]) {
		return nil // its own function: the way of nearly every call
	}
	var qualifier *string
	if rt.qualified {
		qualifier = c.query("Qualifier")
	}
	arn, owner := a.resource(c, p.on, qualifier)
	attached, err := a.attached(c, rt.name, p.on, owner, qualifier)
	switch {
	case err != nil:
		return err
	case owner != c.caller.Account && (p.on == onLayer || p.on == onLayerVersion || p.on == onQueryARN):
		attached = a.anybody // the handler asks the layer's own policy
	}
	if err := a.authorize(c, p.action, arn, owner, attached); err != nil {
		return err
	}
	c.caller.granted = owner
	return nil
}

// crossAccount are the operations that the policy of a function can open to
// other accounts (developer guide, "Granting Lambda function access to other
// accounts"). All others stay the owner's whatever a policy says, above all those
// that change policies.
var crossAccount = map[string]bool{
	"CreateAlias": true, "DeleteAlias": true, "GetAlias": true, "ListAliases": true, "UpdateAlias": true,
	"DeleteFunction": true, "GetFunction": true, "GetFunctionConfiguration": true, "UpdateFunctionCode": true,
	"Invoke": true, "InvokeAsync": true, "InvokeWithResponseStream": true,
	"PublishVersion": true, "ListVersionsByFunction": true,
	"DeleteFunctionConcurrency": true, "GetFunctionConcurrency": true, "PutFunctionConcurrency": true,
	"DeleteFunctionEventInvokeConfig": true, "GetFunctionEventInvokeConfig": true, "ListFunctionEventInvokeConfigs": true,
	"PutFunctionEventInvokeConfig": true, "UpdateFunctionEventInvokeConfig": true,
	"DeleteProvisionedConcurrencyConfig": true, "GetProvisionedConcurrencyConfig": true,
	"ListProvisionedConcurrencyConfigs": true, "PutProvisionedConcurrencyConfig": true,
	"GetPolicy": true,
}

// attached finds the policy of the function, version or alias that a request is
// about; nil where there is none, or none that counts. One that cannot be read
// lets nobody in.
func (a *API) attached(c *call, operation string, on resourceKind, owner lambent.AccountID, qualifier *string) (*policy.Document, error) {
	if on != onFunction || owner != c.caller.Account && !crossAccount[operation] {
		return nil, nil
	}
	ref := a.functionRef(c.caller.Account, c.params[0], qualifier)
	if ref.Region != a.region {
		return nil, nil
	}
	doc, err := a.policies.FunctionPolicy(ref.Account, ref.Name, ref.Qualifier).Document()
	if err != nil {
		return nil, &lambent.Error{Op: "read function policy", Resource: string(ref.Name), Kind: lambent.KindInternal, Err: err}
	}
	return doc, nil
}

// authorize refuses, in AWS's words, an action on a resource of owner's that
// neither the caller's policies nor the one attached to the resource (nil for
// none) allow, or that one of them denies. In another account's resource both
// must allow it.
func (a *API) authorize(c *call, action, arn string, owner lambent.AccountID, attached *policy.Document, keys ...policy.Key) error {
	if c.caller.isRoot() && owner == c.caller.Account && attached == nil {
		return nil
	}
	r := &policy.Request{Principal: c.caller.Principal, Action: action, Resource: arn, Account: owner, Now: c.received, Keys: append(a.conditionKeys(c), keys...)}
	if d := policy.Evaluate(r, policy.Policies{Identity: c.caller.Policies, Resource: attached}); !d.Allowed {
		return policy.Denial("authorize "+action, r, d)
	}
	return nil
}

// admitRole refuses to give a function a role that the caller may not hand on: it
// would otherwise lend itself what the role may do. Where nobody proves who he
// is, everybody may everything.
func (a *API) admitRole(c *call, role *string) error {
	if role == nil || a.guard != nil {
		return nil
	}
	owner := ownerOf(*role, c.caller.Account)
	if owner != c.caller.Account {
		return &lambent.Error{Op: "authorize iam:PassRole", Resource: *role, Kind: lambent.KindDenied, Message: "Cross-account pass role is not allowed."}
	}
	return a.authorize(c, "iam:PassRole", *role, owner, nil, policy.Key{Name: "iam:PassedToService", Values: []string{"lambda.amazonaws.com"}})
}

// conditionKeys are what policies can ask of a request beside who makes it
// (IAM user guide, "AWS global condition context keys").
func (a *API) conditionKeys(c *call) []policy.Key {
	secure := "false"
	if c.r.TLS != nil {
		secure = "true"
	}
	keys := []policy.Key{
		{Name: "aws:SecureTransport", Values: []string{secure}},
		{Name: "aws:RequestedRegion", Values: []string{a.region}},
		{Name: "aws:ViaAWSService", Values: []string{"false"}},
		{Name: "lambda:InvokedViaFunctionUrl", Values: []string{"false"}},
	}
	if host, _, err := net.SplitHostPort(c.r.RemoteAddr); err == nil {
		keys = append(keys, policy.Key{Name: "aws:SourceIp", Values: []string{host}})
	}
	for name, header := range map[string]string{"aws:UserAgent": "User-Agent", "aws:referer": "Referer"} {
		if given := c.r.Header.Get(header); given != "" {
			keys = append(keys, policy.Key{Name: name, Values: []string{given}})
		}
	}
	return keys
}

// resource is the ARN of what a request is about, and whose it is. What the
// path holds has not been checked yet: whatever it is, it stands in one place of
// an ARN. qualifier is the query's, nil where the operation has none: one that
// its handler passes over must not choose which policy decides.
func (a *API) resource(c *call, kind resourceKind, qualifier *string) (arn string, owner lambent.AccountID) {
	own := c.caller.Account
	switch kind {
	case onFunction:
		ref := a.functionRef(own, c.params[0], qualifier)
		return lambent.FunctionARN(ref.Region, ref.Account, ref.Name, ref.Qualifier), ref.Account
	case onLayer:
		return a.named(own, "layer", c.params[0])
	case onLayerVersion:
		arn, owner = a.named(own, "layer", c.params[0])
		version := c.params[1]
		if n, err := strconv.ParseInt(version, 10, 64); err == nil { // as the handler reads it: "01" is 1 to policies, too
			version = strconv.FormatInt(n, 10)
		}
		return arn + ":" + version, owner
	case onMapping:
		return a.named(own, "event-source-mapping", c.params[0])
	case onProvider:
		return a.named(own, "capacity-provider", c.params[0])
	case onARN:
		return c.params[0], ownerOf(c.params[0], own)
	case onQueryARN:
		if given := c.query("Arn"); given != nil {
			return *given, ownerOf(*given, own)
		}
	}
	return "*", own
}

// named is the ARN of what a path calls by its name or by its ARN.
func (a *API) named(own lambent.AccountID, kind, name string) (arn string, owner lambent.AccountID) {
	if strings.HasPrefix(name, "arn:") {
		return name, ownerOf(name, own)
	}
	return "arn:" + partition + ":lambda:" + a.region + ":" + string(own) + ":" + kind + ":" + name, own
}

// functionRef is what a caller names in any of the ways there are, whole.
func (a *API) functionRef(own lambent.AccountID, name string, qualifier *string) lambent.FunctionRef {
	ref := lambent.FunctionRef{Name: lambent.FunctionName(name)}
	if !isPlainName(name) {
		if parsed, err := lambent.ParseFunctionRef(name); err == nil {
			ref = parsed
		}
	}
	if ref.Account == "" {
		ref.Account = own
	}
	if ref.Region == "" {
		ref.Region = a.region
	}
	if qualifier != nil {
		ref.Qualifier = *qualifier
	}
	return ref
}

// ownerOf is the account in an ARN; where there is none, it is of the caller's
// own.
func ownerOf(arn string, own lambent.AccountID) lambent.AccountID {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 && lambent.IsAccountID(parts[4]) {
		return lambent.AccountID(parts[4])
	}
	return own
}

// Admit tells who sent a request for an operator's path, and refuses who may not
// do the action there. resource is an ARN or "*".
func (a *API) Admit(r *http.Request, action, resource string) (Caller, error) {
	caller, err := a.Authenticate(r)
	if err != nil || caller.Operator {
		return caller, err
	}
	c := &call{r: r, caller: caller, received: a.now()}
	return caller, a.authorize(c, action, resource, caller.Account, nil)
}
