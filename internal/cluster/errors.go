package cluster

import (
	"context"
	"errors"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// storeError gives an error of the engine its kind.
func storeError(op, resource string, err error) error {
	return &lambent.Error{Op: op, Resource: resource, Kind: kindOf(err), Err: err}
}

func kindOf(err error) lambent.Kind {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(jetstream.ErrKeyNotFound, jetstream.ErrKeyDeleted, jetstream.ErrMsgNotFound):
		return lambent.KindNotFound
	case is(jetstream.ErrKeyRevisionMismatch): // before ErrKeyExists, which has the same code
		return lambent.KindPrecondition
	case is(jetstream.ErrKeyExists):
		return lambent.KindExists
	case is(jetstream.ErrInvalidKey, jetstream.ErrInvalidBucketName):
		return lambent.KindInvalid
	case is(nats.ErrMaxPayload):
		return lambent.KindTooLarge
	case is(context.Canceled, context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse, nats.ErrConnectionClosed,
		nats.ErrConnectionDraining, nats.ErrReconnectBufExceeded, jetstream.ErrJetStreamNotEnabled, jetstream.ErrJetStreamNotEnabledForAccount):
		return lambent.KindUnavailable
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch server.ErrorIdentifier(api.ErrorCode) {
		case server.JSInsufficientResourcesErr, server.JSStorageResourcesExceededErr, server.JSMemoryResourcesExceededErr,
			server.JSClusterNotAvailErr, server.JSStreamStoreFailedF:
			return lambent.KindUnavailable
		}
	}
	return lambent.KindInternal
}
