// Package identity remembers who may call: accounts, their access keys, their
// roles, and the operator's keys.
//
// All of it is in memory, where a request finds it, and on the node's disk
// before a change is acknowledged; what is revoked is refused from then on. A
// secret is shown once, when its key is made. It is kept sealed (AES-256-GCM)
// under a key in a file of its own in the data folder, so that neither the
// node's files nor a copy of them let anybody in; the file must be the server's
// alone.
//
// # Who there is
//
//   - The operator, by an operator's key: sees everything, and makes accounts.
//   - The root of an account, by one of its keys that has no policy: may do
//     everything in the account.
//   - A user of an account, by a key with a policy in AWS's JSON: may do what the
//     policy says. Each key has its own.
//   - A function, by the credentials of its role: a key that begins with ASIA, a
//     secret and a session token. They are not stored: the token holds, sealed,
//     whose they are and until when, and the secret follows from the key. They
//     end with their time, or with the role.
package identity
