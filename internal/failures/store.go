package failures

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// Options configure a Store.
type Options struct {
	Retention  time.Duration // how long a failure is kept since it failed last; 0: DefaultRetention
	MaxEntries int           // that are kept; 0: DefaultEntries
	MaxBytes   int64         // of them on the disk; 0: DefaultBytes

	// Queue takes the events of redrives; nil: there is none, and Redrive refuses.
	Queue Queue
	// Rules gives a function's rules for redriving by itself, nil where it has none;
	// nil: no function has. It must not block.
	Rules func(lambent.AccountID, lambent.FunctionName) *Rules
	// Changed tells when a function's code was changed last, the zero time where
	// nobody knows; nil: nobody does. It must not block.
	Changed func(lambent.AccountID, lambent.FunctionName) time.Time
	// HealthHosts are the hosts, with a port or without, whose health may be asked
	// though they are not on the Internet; "*" is any.
	HealthHosts []string

	Log *slog.Logger // what is lost, and what the disk does not take; nil: nowhere

	now func() time.Time // a test's
}

// The defaults.
const (
	DefaultRetention = 14 * 24 * time.Hour // as long as SQS keeps a message at most
	DefaultEntries   = 1_000_000           // 100 MB of memory
	DefaultBytes     = 16 << 30
)

// ReasonFull is the Reason of a KindUnavailable error of a store that has all it
// may have, or all of one account.
const ReasonFull = "FailureStoreFull"

// journalName names the journal in its node. It is stored, so it stays.
const journalName = "failures"

// markLimit is how long a failure may be in the queue again: events are at most
// six hours old, and their last attempt takes minutes. One that is marked for
// longer is in no queue any more, whatever became of it.
const markLimit = 24 * time.Hour

// Store keeps failures. It is for any number of goroutines at once. One process
// has it open once.
type Store struct {
	opts    Options
	journal *cluster.Journal

	stop    context.CancelCauseFunc
	running context.Context // until Close
	workers sync.WaitGroup
	tidy    chan struct{} // the journal can be shortened
	look    chan struct{} // there may be something to redrive
	age     chan struct{} // there is something that will be too old

	engine *engine

	holding sync.Mutex
	// +checklocks:holding
	held map[hash]chan struct{} // closed when it is let go

	mu sync.Mutex // held for microseconds, and milliseconds while there are many; no I/O
	// +checklocks:mu
	index index
	// +checklocks:mu
	order uint64 // of the newest failure
	// +checklocks:mu
	coming map[lambent.AccountID]account // that are being written and were not there; the sum is under ""
}

// Open reads what an earlier process kept. The node is open, and closed after the
// store. What cannot be read is told in the log, and the rest is served.
func Open(ctx context.Context, node *cluster.Node, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	o.Retention = cmp.Or(o.Retention, DefaultRetention)
	o.MaxEntries = cmp.Or(o.MaxEntries, DefaultEntries)
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultBytes)
	journal, err := node.Journal(ctx, journalName)
	if err != nil {
		return nil, err
	}
	s := &Store{opts: o, journal: journal, held: map[hash]chan struct{}{}, coming: map[lambent.AccountID]account{},
		tidy: make(chan struct{}, 1), look: make(chan struct{}, 1), age: make(chan struct{}, 1)}
	s.engine = newEngine(s)
	if err := s.recover(ctx); err != nil {
		_ = journal.Close() // it says nothing that the error does not
		return nil, fmt.Errorf("open the store of failures: %w", err)
	}
	s.running, s.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	s.workers.Go(s.shorten)
	s.workers.Go(s.expire)
	s.workers.Go(s.engine.run)
	wake(s.tidy)
	return s, nil
}

// Close ends. It waits for what is being written; calls that come later fail. It
// may be called more than once.
func (s *Store) Close() error {
	s.stop(&lambent.Error{Op: "use store of failures", Kind: lambent.KindUnavailable, Message: "it is closed"})
	s.workers.Wait()
	return s.journal.Close()
}

// wake tells a goroutine that there is something to do. It may know already.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// recover reads the journal.
//
// +checklocksignore: nobody else has the store yet
func (s *Store) recover(ctx context.Context) error {
	r := recovery{store: s}
	damaged, err := s.journal.All(ctx, r.pack)
	if err != nil {
		return err
	}
	if damaged > 0 || r.bad > 0 {
		s.opts.Log.Error("a part of the failures cannot be read from the disk any more, and is lost; some of those that were settled may be back",
			"packs", damaged, "entries", r.bad, "failures_kept", s.index.count)
	}
	return nil
}

// recovery reads the journal of a store that nobody has yet.
type recovery struct {
	store *Store
	bad   int // entries that cannot be read
}

// pack does what a pack says.
//
// +checklocksignore
func (r *recovery) pack(p cluster.Pack) error {
	if p.Number >= 1<<(64-indexBits) {
		return &lambent.Error{Op: "read journal of failures", Kind: lambent.KindUnsupported, Message: "it has more packs than this version can number"}
	}
	r.store.index.packs.add(p.Number, p.Bytes)
	for i, entry := range p.Entries {
		if err := r.store.replay(makeRef(p.Number, uint32(i)), entry); err != nil {
			r.bad++
		}
	}
	return nil
}

// replay does what an entry says.
//
// +checklocksignore
func (s *Store) replay(at ref, entry []byte) error {
	d := decoder{rest: entry}
	switch kind := d.byte(); {
	case d.err != nil:
	case kind == kindRecord:
		if env := d.envelope(); d.err == nil {
			s.index.put(env.key.hash(), env, at, len(entry))
			s.order = max(s.order, env.order)
		}
	case kind == kindGone:
		for _, k := range d.hashes() {
			s.index.remove(k)
		}
	case kind == kindMarks:
		m := d.mark()
		s.index.markAll(d.hashes(), m)
	default:
		d.fail(errForeign)
	}
	return d.err
}

// hold waits until nobody else changes what is there of a key. Who holds one waits
// for no other, but for shorten: so nobody waits in a circle.
func (s *Store) hold(ctx context.Context, k hash) error {
	for {
		s.holding.Lock()
		other, busy := s.held[k]
		if !busy {
			s.held[k] = make(chan struct{})
			s.holding.Unlock()
			return nil
		}
		s.holding.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return &lambent.Error{Op: "change failure", Kind: lambent.KindUnavailable, Err: context.Cause(ctx)}
		}
	}
}

// tryHold is hold without waiting.
func (s *Store) tryHold(k hash) (ok bool) {
	s.holding.Lock()
	defer s.holding.Unlock()
	if _, busy := s.held[k]; busy {
		return false
	}
	s.held[k] = make(chan struct{})
	return true
}

func (s *Store) letGo(keys ...hash) {
	s.holding.Lock()
	defer s.holding.Unlock()
	for _, k := range keys {
		close(s.held[k])
		delete(s.held, k)
	}
}

// Put keeps a failure: it is on the disk when Put returns nil. One that is there
// already under its Key, since its request was redriven and failed again, goes
// on: its attempts and actions are added to, and it is marked no more.
//
// After KindUnavailable with Reason "DiskFull" or ReasonFull, KindTooLarge and
// KindInvalid nothing was stored; after another error it is not known. The record
// stays the caller's.
func (s *Store) Put(ctx context.Context, r *Record) error {
	const op = "store failure"
	now := s.opts.now()
	r, err := r.bounded(op, now)
	if err != nil {
		return err
	}
	r.Redrives, r.Original, r.Redriving, r.RedriveBy = 0, nil, time.Time{}, ""
	k := r.Key.hash()
	if err := s.hold(ctx, k); err != nil {
		return err
	}
	defer s.letGo(k)
	old, err := s.read(ctx, k)
	isNew := lambent.KindOf(err) == lambent.KindNotFound
	switch {
	case err == nil:
		r.follow(old, now)
	case lambent.KindOf(err) == lambent.KindInternal:
		s.opts.Log.Error("what was known of a failure that happened again is lost", "account", r.Account, "request_id", r.RequestID, "err", err)
	case !isNew:
		return err
	}
	err = s.write(ctx, r, 0, mark{}, isNew)
	if lambent.KindOf(err) == lambent.KindTooLarge && r.Original != nil { // its event would be given back for ever
		r.Original.Payload = nil
		r.Actions = cutActions(append(r.Actions, Action{now.UTC(), "the payload before it was changed is not kept: both are too large together"}))
		err = s.write(ctx, r, 0, mark{}, isNew)
	}
	return err
}

// write stores a record of a key that is held, with a mark, which stands for one
// of its redrives. order is the one it keeps; 0: it is the newest. isNew says that
// it must fit the store's bounds.
func (s *Store) write(ctx context.Context, r *Record, order uint64, m mark, isNew bool) error {
	s.mu.Lock()
	if order == 0 {
		s.order++
		order = s.order
	}
	s.mu.Unlock()
	k := r.Key.hash()
	env := envelope{key: r.Key, function: r.Function, order: order, last: r.LastAt.UnixMilli(), mark: m, redrives: r.Redrives, reason: r.Reason.number()}
	if m.since != 0 {
		env.redrives--
	}
	entry, err := encodeRecord(env, r)
	if err != nil {
		return err
	}
	if isNew {
		if err := s.reserve(r.Account, int64(len(entry))); err != nil {
			return err
		}
		defer s.unreserve(r.Account, int64(len(entry)))
	}
	err = s.journal.Append(ctx, cluster.Append{Entries: [][]byte{entry}, Stored: func(at cluster.Position) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.index.packs.add(at.Pack, at.Bytes)
		s.index.put(k, env, makeRef(at.Pack, at.Index), len(entry))
		s.checkTidy()
	}})
	if err == nil {
		wake(s.look)
		wake(s.age)
	}
	return err
}

// reserve refuses what the store has no room for by its bounds. An account has at
// most half of them, so that none keeps the others' failures out.
func (s *Store) reserve(of lambent.AccountID, bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, own := s.coming[""], s.coming[of]
	there := account{}
	if a := s.index.accounts[of]; a != nil {
		there = *a
	}
	whose := ""
	switch {
	case s.index.count+all.count >= s.opts.MaxEntries || s.index.packs.live+all.bytes+bytes > s.opts.MaxBytes:
		whose = "the store"
	case there.count+own.count >= (s.opts.MaxEntries+1)/2 || there.bytes+own.bytes+bytes > s.opts.MaxBytes/2:
		whose = "account " + string(of)
	default:
		s.come(of, 1, bytes)
		return nil
	}
	return &lambent.Error{Op: "store failure", Kind: lambent.KindUnavailable, Reason: ReasonFull,
		Message: fmt.Sprintf("There is no room for more failures of %s: redrive or delete some, or raise failures.max_entries or failures.max_bytes", whose)}
}

func (s *Store) unreserve(of lambent.AccountID, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.come(of, -1, -bytes)
}

// +checklocks:s.mu
func (s *Store) come(of lambent.AccountID, count int, bytes int64) {
	for _, id := range []lambent.AccountID{"", of} {
		c := s.coming[id]
		c.count += count
		c.bytes += bytes
		if s.coming[id] = c; c.count == 0 {
			delete(s.coming, id)
		}
	}
}

// read reads what is there under a key; KindNotFound where nothing is.
func (s *Store) read(ctx context.Context, k hash) (*Record, error) {
	at := ref(0)
	for {
		s.mu.Lock()
		e := s.index.find(k)
		var m mark
		was := at
		if at = 0; e != nil {
			at, m = e.ref, e.mark()
		}
		s.mu.Unlock()
		if at == 0 {
			return nil, &lambent.Error{Op: "find failure", Kind: lambent.KindNotFound, Message: "There is no failure of that request id"}
		}
		pack, err := s.journal.Read(ctx, at.pack())
		if err == nil && at.index() < len(pack.Entries) {
			return s.decode(pack.Entries[at.index()], m)
		}
		if err != nil && lambent.KindOf(err) != lambent.KindNotFound {
			return nil, err
		}
		if at == was { // it was not only moved
			return nil, &lambent.Error{Op: "read failure", Kind: lambent.KindInternal, Message: "It cannot be read from the disk any more", Err: err}
		}
	}
}

// decode reads an entry of the journal, which has the mark m.
func (s *Store) decode(entry []byte, m mark) (*Record, error) {
	_, r, err := decodeRecord(entry)
	if err != nil {
		return nil, &lambent.Error{Op: "read failure", Kind: lambent.KindInternal, Err: err}
	}
	if m.since != 0 {
		r.Redriving = time.Unix(m.since, 0).UTC()
		r.RedriveBy = m.cause.String()
		r.Redrives++
	}
	return r, nil
}

// Get gives a failure; KindNotFound where there is none.
func (s *Store) Get(ctx context.Context, k Key) (*Record, error) { return s.read(ctx, k.hash()) }

// Succeeded says that the request of a failure was processed after all: it is
// gone from the disk when Succeeded returns nil. None of that key is no error.
func (s *Store) Succeeded(ctx context.Context, k Key) error {
	if err := s.Delete(ctx, k); lambent.KindOf(err) != lambent.KindNotFound {
		return err
	}
	return nil
}

// Delete removes a failure; KindNotFound where there is none. An event of it that
// is in the queue again goes on.
func (s *Store) Delete(ctx context.Context, k Key) error {
	h := k.hash()
	if err := s.hold(ctx, h); err != nil {
		return err
	}
	defer s.letGo(h)
	s.mu.Lock()
	there := s.index.find(h) != nil
	s.mu.Unlock()
	if !there {
		return &lambent.Error{Op: "delete failure", Resource: string(k.RequestID), Kind: lambent.KindNotFound, Message: "There is no failure of that request id"}
	}
	return s.remove(ctx, []hash{h})
}

// remove writes that keys, which are held, are gone.
func (s *Store) remove(ctx context.Context, keys []hash) error {
	return s.journal.Append(ctx, cluster.Append{Entries: [][]byte{encodeGone(keys)}, Essential: true, Stored: func(at cluster.Position) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.index.packs.add(at.Pack, at.Bytes)
		for _, k := range keys {
			s.index.remove(k)
		}
		s.checkTidy()
	}})
}

// Edit is what is to be changed of a failure; nil stays.
type Edit struct {
	Function  *lambent.FunctionName
	Qualifier *string
	Payload   []byte
}

// Edit changes a failure before it is redriven, and keeps what it was in
// Original. KindNotFound where there is none, KindExists while it is in the
// queue again.
func (s *Store) Edit(ctx context.Context, k Key, by Edit, what string) (*Record, error) {
	return s.change(ctx, k, true, func(r *Record) {
		original := r.Original
		if original == nil {
			original = &Original{r.Function, r.Qualifier, r.Payload}
		}
		r.State = nil // which is of the request as it was
		if by.Function != nil {
			r.Function = *by.Function
		}
		if by.Qualifier != nil {
			r.Qualifier = *by.Qualifier
		}
		if by.Payload != nil {
			r.Payload = by.Payload
		}
		r.Original = original
		r.Actions = append(r.Actions, Action{s.opts.now().UTC(), what})
	})
}

// Note adds to what was done on a failure; KindNotFound where there is none.
func (s *Store) Note(ctx context.Context, k Key, what ...string) error {
	_, err := s.change(ctx, k, false, func(r *Record) {
		for _, w := range what {
			r.Actions = append(r.Actions, Action{s.opts.now().UTC(), w})
		}
	})
	return err
}

// change alters a failure, which keeps its place among the others and its mark.
func (s *Store) change(ctx context.Context, k Key, waiting bool, edit func(*Record)) (*Record, error) {
	const op = "change failure"
	h := k.hash()
	if err := s.hold(ctx, h); err != nil {
		return nil, err
	}
	defer s.letGo(h)
	r, err := s.read(ctx, h)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	e := s.index.find(h)
	order, m := e.order, e.mark()
	s.mu.Unlock()
	if waiting && s.inQueue(m) {
		return nil, &lambent.Error{Op: op, Resource: string(k.RequestID), Kind: lambent.KindExists,
			Message: "The failure is being redriven: wait until that has ended"}
	}
	edit(r)
	redrives, redriving, redriveBy := r.Redrives, r.Redriving, r.RedriveBy
	if r, err = r.bounded(op, s.opts.now()); err != nil {
		return nil, err
	}
	r.Redrives, r.Redriving, r.RedriveBy = redrives, redriving, redriveBy
	if waiting {
		m, r.Redriving, r.RedriveBy = mark{}, time.Time{}, "" // it had been in the queue for too long to be there still
	}
	return r, s.write(ctx, r, order, m, false)
}

// inQueue tells whether a mark holds still.
func (s *Store) inQueue(m mark) bool {
	return m.since != 0 && s.opts.now().Sub(time.Unix(m.since, 0)) < markLimit
}
