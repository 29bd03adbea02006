package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"lambent"
)

// Sync says when a write is acknowledged.
type Sync uint8

// The ways to acknowledge a write.
const (
	SyncEach     Sync = iota // when it is on the disk: survives a power loss
	SyncSometime             // when the kernel has it: survives a crash of the process, loses up to SyncInterval at a power loss
)

// SyncInterval is how often SyncSometime syncs.
const SyncInterval = time.Second

// Options configure a Node.
type Options struct {
	// Dir is the data folder. It is made, for its owner only, where it is not
	// there.
	Dir string
	// Sync is SyncEach unless set.
	Sync Sync
	// MaxStoreBytes bounds what is stored; 0 is what the disk has room for.
	MaxStoreBytes int64
	// MarkerTTL is how long a deleted key is remembered as deleted, for watchers
	// that were away; 0 is an hour, and less than a second is a second.
	MarkerTTL time.Duration
	// Log takes what the engine notes (debug) and complains about (warn); nil
	// is nowhere.
	Log *slog.Logger
}

// maxPayload bounds one message and so one record: 2 MiB, and a chunk of a blob
// with room for its headers. The server's own default, 1 MiB, would make chunks
// smaller and their syncs more.
const maxPayload = 2 << 20

// maxMemoryStore bounds streams that are kept in memory; lambent has none, so
// this only keeps a mistake from being expensive.
const maxMemoryStore = 32 << 20

// unbounded leaves it to requireSpace to see that the disk does not fill up. The
// server's own default is three quarters of what the disk has when it starts: one
// that is started with a full disk would take nothing after room was made.
const unbounded = 1 << 60

// What writes leave of the disk. Blobs, which are what fills it, stop first, so
// that there is room for records.
const (
	recordReserve = 16 << 20
	blobReserve   = 64 << 20
)

// reconnectWait is between attempts to connect again, as after a machine slept
// for so long that server and client gave each other up. It is all in process,
// so there is nobody to spare.
const reconnectWait = 50 * time.Millisecond

// startLimit bounds the wait for the server to take connections, which it does
// as soon as it has read its data.
const startLimit = 10 * time.Second

// Node is one server process's part of the memory. Make it with New, then Open
// it; Close it last. Handles made from it are for any number of goroutines.
type Node struct {
	opts Options
	log  *serverLog
	free func(dir string) (int64, error) // bytes of the disk; a test's is smaller

	mu sync.Mutex
	// +checklocks:mu
	lock *os.File
	// +checklocks:mu
	server *server.Server
	// +checklocks:mu
	conn *nats.Conn
	// +checklocks:mu
	js jetstream.JetStream
	// +checklocks:mu
	damage []Damage
}

// New prepares a node and touches nothing.
func New(o Options) *Node {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MarkerTTL == 0 {
		o.MarkerTTL = time.Hour
	}
	o.MarkerTTL = max(o.MarkerTTL, time.Second) // the least the engine takes
	return &Node{opts: o, log: &serverLog{log: o.Log}, free: freeBytes}
}

// Open locks the folder, reads what is there and starts to serve. It may be
// called once. Errors are *lambent.Error, KindUnavailable where another process
// has the folder. After an error nothing is held, and Close is not needed.
func (n *Node) Open(ctx context.Context) (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	const op = "open data folder"
	if n.server != nil {
		return &lambent.Error{Op: op, Resource: n.opts.Dir, Kind: lambent.KindExists, Message: "it is open already"}
	}
	store := filepath.Join(n.opts.Dir, "jetstream")
	if err := os.MkdirAll(store, 0o700); err != nil {
		return &lambent.Error{Op: op, Resource: n.opts.Dir, Err: err}
	}
	if n.lock, err = lockFolder(n.opts.Dir); err != nil {
		return err
	}
	if err := n.start(ctx, store); err != nil {
		err = &lambent.Error{Op: op, Resource: n.opts.Dir, Kind: lambent.KindOf(err), Err: err}
		return errors.Join(err, n.closeLocked())
	}
	return nil
}

// start brings up server and connection.
// +checklocks:n.mu
func (n *Node) start(ctx context.Context, store string) error {
	before, err := scanStreams(store)
	if err != nil {
		return err
	}
	if err := forgetSummaries(before); err != nil {
		return err
	}
	copies := copyStreams(ctx, n.opts.Dir, before, n.opts.Log)
	defer copies.drop()
	mended, err := copies.mendStreams(before)
	if err != nil {
		return err
	}
	if n.server, err = server.NewServer(n.serverOptions(store)); err != nil {
		return fmt.Errorf("configure jetstream: %w", err)
	}
	debug := n.opts.Log.Enabled(ctx, slog.LevelDebug)
	n.server.SetLoggerV2(n.log, debug, false, false)
	n.server.Start()
	if !n.server.ReadyForConnections(startLimit) || !n.server.JetStreamEnabled() {
		return fmt.Errorf("jetstream did not start: %s", n.log.lastComplaint())
	}
	if n.damage, err = n.checkRecovered(before, mended, copies); err != nil {
		return err
	}
	n.conn, err = connect(n.server, "lambent", n.log)
	if err != nil {
		return fmt.Errorf("connect to jetstream in process: %w", err)
	}
	n.js, err = jetstream.New(n.conn, jetstream.WithDefaultTimeout(startLimit))
	if err != nil {
		return fmt.Errorf("use jetstream: %w", err)
	}
	return context.Cause(ctx)
}

// connect makes a connection to a server in this process.
func connect(s *server.Server, name string, log *serverLog) (*nats.Conn, error) {
	return nats.Connect(nats.DefaultURL, nats.InProcessServer(s), nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warnf("connection: %v", err) }))
}

// connect makes another connection to an open node's engine, for whoever closes
// it.
func (n *Node) connect(name string) (*nats.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server == nil {
		return nil, nats.ErrConnectionClosed
	}
	return connect(n.server, name, n.log)
}

func (n *Node) serverOptions(store string) *server.Options {
	return &server.Options{
		ServerName:             "lambent",
		DontListen:             true,
		NoSigs:                 true,
		NoSystemAccount:        true,
		DisableJetStreamBanner: true,
		JetStream:              true,
		StoreDir:               filepath.Dir(store), // the server adds "jetstream"
		JetStreamMaxMemory:     maxMemoryStore,
		JetStreamMaxStore:      cmp.Or(n.opts.MaxStoreBytes, unbounded),
		SyncAlways:             n.opts.Sync == SyncEach,
		SyncInterval:           SyncInterval,
		MaxPayload:             maxPayload,
	}
}

// Close stops the server, waits until all is written, and gives the folder
// back. It may be called more than once.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closeLocked()
}

// +checklocks:n.mu
func (n *Node) closeLocked() error {
	if n.conn != nil {
		n.conn.Close()
	}
	if n.server != nil {
		n.server.Shutdown()
		n.server.WaitForShutdown()
	}
	var err error
	if n.lock != nil {
		err = n.lock.Close()
	}
	n.conn, n.js, n.server, n.lock = nil, nil, nil, nil
	if err != nil {
		return fmt.Errorf("unlock data folder %s: %w", n.opts.Dir, err)
	}
	return nil
}

// requireSpace refuses a write that would leave the disk with less than reserve
// bytes. A stream the disk refuses a write of takes no other until the server is
// started again, so it must not come to that.
func (n *Node) requireSpace(op, resource string, reserve int64) error {
	free, err := n.free(n.opts.Dir)
	if err != nil {
		return &lambent.Error{Op: op, Resource: resource, Err: fmt.Errorf("measure the free space of %s: %w", n.opts.Dir, err)}
	}
	if free >= reserve {
		return nil
	}
	return &lambent.Error{
		Op: op, Resource: resource, Kind: lambent.KindUnavailable, Reason: "DiskFull",
		Message: "The storage of this server is full. Its operator can make room on it.",
		Err:     fmt.Errorf("the disk of %s has %d bytes free and must have %d; make room on it", n.opts.Dir, free, reserve),
	}
}

// Room tells, as an error, that the disk has too little room for code to be
// stored, or that this could not be found out.
func (n *Node) Room() error { return n.requireSpace("store code", "", blobReserve) }

// freeBytes measures what may still be written to the disk of a folder.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Damage tells what could not be read when the node was opened and was dropped,
// so that its owner can say so: nobody else does.
func (n *Node) Damage() []Damage {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.damage
}

// stream gives the handle of an open node's engine.
func (n *Node) stream(op, resource string) (jetstream.JetStream, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.js == nil {
		return nil, &lambent.Error{Op: op, Resource: resource, Kind: lambent.KindUnavailable, Message: "the data folder is not open"}
	}
	return n.js, nil
}
