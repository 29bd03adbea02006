package deliver

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// toNATS publishes a message to a subject. Where a stream has the subject, the
// stream's acknowledgement is waited for; else the server has it, and with it
// whoever listens, when it answers what comes after.
//
// The connection is made for the message: nothing else keeps one, and the address
// is looked at each time.
func (s *Sender) toNATS(ctx context.Context, m *Message) error {
	u, err := ParseURL(m.To)
	if err != nil {
		return err
	}
	host := net.JoinHostPort(u.Hostname(), Port(u))
	d := &natsDialer{ctx: ctx, dial: s.opts.Dial}
	nc, err := nats.Connect("nats://"+host, nats.SetCustomDialer(d), nats.SkipHostLookup(), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.Name("lambent"),
		nats.Timeout(s.opts.Timeout), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return notTaken(m.To, errors.Join(err, d.failed))
	}
	defer nc.Close()
	subject := strings.TrimPrefix(u.Path, "/")
	msg := &nats.Msg{Subject: subject, Data: m.Body, Header: nats.Header{
		"Content-Type": {"application/json"}, "X-Lambent-Request-Id": {string(m.RequestID)}, "X-Lambent-Function": {m.FunctionARN},
		nats.MsgIdHdr: {m.ID},
	}}
	if err := publish(ctx, nc, msg); err != nil {
		if errors.Is(err, nats.ErrMaxPayload) {
			return &lambent.Error{Op: "deliver", Resource: m.To, Kind: lambent.KindInvalid, Message: "the record is larger than the NATS server takes", Err: err}
		}
		return notTaken(m.To, errors.Join(err, nc.LastError()))
	}
	return nil
}

// notTaken is the error of a message that the server did not take.
func notTaken(to string, err error) error {
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrPermissionViolation) {
		return &lambent.Error{Op: "deliver", Resource: to, Kind: lambent.KindUnavailable, Message: "the NATS server takes no such message from who has no credentials", Err: err}
	}
	return unreachable(to, err)
}

func publish(ctx context.Context, nc *nats.Conn, msg *nats.Msg) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	_, err = js.StreamNameBySubject(ctx, msg.Subject)
	switch {
	case err == nil:
		_, err = js.PublishMsg(ctx, msg)
		return err
	case !errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, jetstream.ErrJetStreamNotEnabled) && !errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) && !errors.Is(err, nats.ErrNoResponders):
		return err
	}
	if err := nc.PublishMsg(msg); err != nil {
		return err
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		return err
	}
	return nc.LastError() // a subject that may not be published to is told of before the flush is answered
}

// natsDialer connects as long as its context lasts.
type natsDialer struct {
	ctx    context.Context
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	failed error // why it did not
}

// Dial implements nats.CustomDialer. It is called by nats.Connect, before that
// returns.
func (d *natsDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := d.dial(d.ctx, network, address)
	d.failed = err
	return conn, err
}
