// Package cluster is where lambent remembers: a NATS JetStream server inside
// the process, and handles to the three shapes of memory the platform uses, small
// records by key (Bucket), large values by key (Blobs) and entries in the order in
// which they came (Journal). It is the only package that knows NATS.
//
// A write that was acknowledged is on the disk: every one is synced before its
// call returns, unless Options.Sync says otherwise. What a crash or a failing
// disk damaged is cut off and told of (Node.Damage); a folder whose data cannot
// be read at all is refused rather than begun anew.
//
// One process at a time has a data folder. Nothing listens on the network.
package cluster
