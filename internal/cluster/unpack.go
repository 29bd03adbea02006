package cluster

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// What one request for packs brings at most. The engine reads whole blocks of 8
// MiB, and this is how much of one is held twice.
const (
	readPacks = 1024
	readBytes = 1 << 20
)

// errUnreadable says that a pack is there and is not what was written.
var errUnreadable = errors.New("it is damaged")

// Read reads one pack: KindNotFound where there is none of that number, as after
// it was dropped, and where it cannot be read.
func (j *Journal) Read(ctx context.Context, number uint64) (Pack, error) {
	if message := j.blocks.read(number); message != nil {
		if entries, err := unpack(message); err == nil {
			return Pack{Number: number, Entries: entries, Bytes: len(message)}, nil
		}
	}
	packs, err := j.ReadFrom(ctx, number, 0)
	if err == nil && (len(packs) == 0 || packs[0].Number != number) {
		err = storeError("read journal", fmt.Sprintf("%s/%d", j.name, number), jetstream.ErrMsgNotFound)
	}
	if err != nil {
		return Pack{}, err
	}
	return packs[0], nil
}

// ReadFrom reads the first pack that there is from a number on, and those that
// follow, until they have so many bytes (at most 1 MiB) and one more. None is no
// error. It passes over those that cannot be read.
func (j *Journal) ReadFrom(ctx context.Context, number uint64, bytes int) (packs []Pack, err error) {
	bytes = min(bytes, readBytes)
	batch := readPacks
	if bytes <= 0 {
		batch, bytes = 1, 1
	}
	msgs, err := j.fetch(ctx, max(number, 1), batch, bytes)
	if err != nil {
		return nil, storeError("read journal", fmt.Sprintf("%s/%d", j.name, number), err)
	}
	for _, m := range msgs {
		seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil {
			return nil, storeError("read journal", j.name, fmt.Errorf("number of a pack: %w", err))
		}
		if entries, err := unpack(m.Data); err == nil {
			packs = append(packs, Pack{Number: seq, Entries: entries, Bytes: len(m.Data)})
		}
	}
	return packs, nil
}

// fetch asks the engine for several messages at once (NATS ADR-31, "batched
// direct get"): they come one by one, and last one without content that tells
// the end.
func (j *Journal) fetch(ctx context.Context, from uint64, batch, bytes int) ([]*nats.Msg, error) {
	request, err := json.Marshal(map[string]uint64{"seq": from, "batch": uint64(batch), "max_bytes": uint64(bytes)})
	if err != nil {
		return nil, err
	}
	inbox := nats.NewInbox()
	answers := make(chan *nats.Msg, batch+1) // all there can be; the library's own would take 512 KiB for each call
	sub, err := j.reader.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection is closed, which takes it along
	if err := j.reader.PublishRequest("$JS.API.DIRECT.GET."+journalPrefix+j.name, inbox, request); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var msgs []*nats.Msg
	for {
		var m *nats.Msg
		select {
		case m = <-answers:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		switch status := m.Header.Get("Status"); status {
		case "":
			msgs = append(msgs, m)
		case "204", "404": // the end; nothing from there on
			return msgs, nil
		default:
			return nil, fmt.Errorf("the engine answered %s %s", status, m.Header.Get("Description"))
		}
	}
}

// All calls visit with every pack there is, the oldest first, until visit returns
// an error, which All then returns as it is. It tells how many packs are not there
// any more though later ones are, because they are damaged.
func (j *Journal) All(ctx context.Context, visit func(Pack) error) (damaged uint64, err error) {
	state, err := j.State(ctx)
	if err != nil {
		return 0, err
	}
	for next := state.First; next <= state.Last; {
		p, err := j.Read(ctx, next)
		if lambent.KindOf(err) == lambent.KindNotFound && err != nil {
			var more []Pack
			if more, err = j.ReadFrom(ctx, next+1, 0); err == nil && len(more) == 0 {
				damaged, next = damaged+1, next+1 // and the engine does not look further
				continue
			} else if err == nil {
				p = more[0]
			}
		}
		if err != nil {
			return damaged, err
		}
		damaged += p.Number - next
		next = p.Number + 1
		if err := visit(p); err != nil {
			return damaged, err
		}
	}
	return damaged, nil
}

// A pack is a version, the CRC-32C of what follows, and entries, each after its
// length.
const (
	packVersion = 1
	packHead    = 1 + 4
)

func packSum(pack []byte) uint32 {
	return crc32.Checksum(pack[packHead:], crc32.MakeTable(crc32.Castagnoli))
}

// seal completes a pack that was begun with packHead bytes of anything.
func seal(pack []byte) {
	pack[0] = packVersion
	binary.LittleEndian.PutUint32(pack[1:], packSum(pack))
}

// unpack takes a pack apart. The entries are parts of it.
func unpack(pack []byte) (entries [][]byte, err error) {
	fail := func(err error) ([][]byte, error) { return nil, &lambent.Error{Op: "read pack", Err: err} }
	switch {
	case len(pack) < packHead:
		return fail(errUnreadable)
	case pack[0] != packVersion:
		return fail(fmt.Errorf("it is of version %d, and this reads %d", pack[0], packVersion))
	case binary.LittleEndian.Uint32(pack[1:]) != packSum(pack):
		return fail(errUnreadable)
	}
	for rest := pack[packHead:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return fail(errUnreadable)
		}
		rest = rest[n:]
		entries = append(entries, rest[:size:size])
		rest = rest[size:]
	}
	return entries, nil
}
