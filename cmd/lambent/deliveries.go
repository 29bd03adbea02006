package main

import (
	"context"
	"fmt"
	"log/slog"

	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/internal/deliver"
	"lambent/internal/egress"
	"lambent/internal/identity"
	"lambent/internal/invoke"
	"lambent/internal/registry"
	"lambent/internal/s3"
	"lambent/internal/sigv4"
)

// deliveries hands records of asynchronous calls to what is no function, as far as
// the function's account and role may.
type deliveries struct {
	cfg       config.Config
	functions *registry.Registry
	roles     *identity.Store
	guard     *egress.Guard
	sender    *deliver.Sender
}

func openDeliveries(cfg config.Config, functions *registry.Registry, roles *identity.Store, log *slog.Logger) (*deliveries, error) {
	guard, err := egress.New(egress.Options{Allow: cfg.DestinationAllow, Near: cfg.Auth == config.AuthOpen, Setting: "destinations.allow"})
	if err == nil {
		err = guard.Own(cfg.Listen)
	}
	if err != nil {
		return nil, err
	}
	if cfg.EndpointCredentials == "" && cfg.EndpointSQS+cfg.EndpointSNS+cfg.EndpointEventBridge != "" {
		log.Warn("what is delivered to the endpoints is not signed: the setting endpoints.credentials names no keys")
	}
	sender, err := deliver.New(deliver.Options{Dial: guard.Dial, Endpoints: deliver.Endpoints{
		SQS: cfg.EndpointSQS, SNS: cfg.EndpointSNS, EventBridge: cfg.EndpointEventBridge, Region: cfg.EndpointRegion, Credentials: endpointCredentials(cfg),
	}})
	if err != nil {
		return nil, err
	}
	return &deliveries{cfg, functions, roles, guard, sender}, nil
}

func endpointCredentials(cfg config.Config) func() (sigv4.Credentials, error) {
	return func() (sigv4.Credentials, error) {
		if cfg.EndpointCredentials == "" {
			return sigv4.Credentials{}, nil
		}
		c, err := s3.ReadCredentials(cfg.EndpointCredentials)
		return sigv4.Credentials{AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey, SessionToken: c.SessionToken}, err
	}
}

// close ends the connections that are kept.
func (d *deliveries) close() error { return d.sender.Close() }

// send is invoke.DispatcherOptions.Send. What a role may is asked each time: it may
// have changed since the destination was named.
func (d *deliveries) send(ctx context.Context, m *invoke.Message) error {
	out := &deliver.Message{Account: m.Account, To: m.To, Body: m.Body, ID: m.ID, FunctionARN: m.FunctionARN, RequestID: m.RequestID, Success: m.Success}
	for _, a := range m.Attributes {
		out.Attributes = append(out.Attributes, deliver.Attribute(a))
	}
	if _, err := deliver.ParseARN(m.To); err == nil {
		fn, err := d.functions.Function(m.Account, m.Line.Function, m.Line.Qualifier)
		if err != nil {
			return err
		}
		if err := d.deliverable(m.Account, fn.Role, m.To); err != nil {
			return err
		}
	} else if s, err := d.functions.PlatformSettings(m.Account, m.Line.Function); err == nil && s != nil && s.Destinations != nil {
		out.Secret = s.Destinations.Secret
	}
	return d.sender.Send(ctx, out)
}

// deliverable is api.Deliverable. With auth: open nobody knows what a role may.
func (d *deliveries) deliverable(account lambent.AccountID, role, arn string) error {
	action := "lambda:InvokeFunction"
	if to, err := deliver.ParseARN(arn); err == nil {
		refuse := func(why string) error {
			return &lambent.Error{Op: "deliver", Resource: arn, Kind: lambent.KindInvalid, Message: "Nothing can be delivered to " + arn + ": " + why + "."}
		}
		if err := d.sender.Configured(to); err != nil {
			return refuse(err.Error())
		}
		if !d.cfg.MayDeliver(account, to.Account, arn) {
			return refuse("it is of another account, and the setting endpoints.targets does not allow it for account " + string(account))
		}
		action = to.Service.Action()
	}
	if d.cfg.Auth != config.AuthRequired || d.roles.RoleMay(account, role, action, arn) {
		return nil
	}
	return &lambent.Error{Op: "deliver", Resource: arn, Kind: lambent.KindDenied, Message: fmt.Sprintf("the function's execution role %s does not allow %s", role, action)}
}
