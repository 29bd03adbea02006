package lambent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Function is the record of one function version: everything an execution and
// the API need to know of it. A *Function that has been handed out is never
// changed: an update makes a new record. Every field an execution depends on is
// covered by Code or ConfigHash, and so by the match key.
type Function struct {
	Account AccountID
	Name    FunctionName
	Version Version

	Runtime       Runtime // empty for images
	Role          string
	Handler       string
	Description   string
	TimeoutSecs   int
	MemoryMB      int
	EphemeralMB   int
	PackageType   string   // "Zip" or "Image"
	Architectures []string // one of "x86_64", "arm64"
	Environment   map[string]string
	Tags          map[string]string
	Layers        []Layer // mounted at /opt, later ones over earlier ones
	TracingMode   string  // "PassThrough" or "Active"
	KMSKeyArn     string
	LoggingFormat string // "Text" or "JSON"
	LogGroup      string // empty: /aws/lambda/NAME
	DeadLetter    string // ARN of where asynchronous events go that failed; empty: nowhere
	// TenantIsolation is "PER_TENANT" where no container serves two of the function's
	// tenants, each named by its caller; else empty. It never changes.
	TenantIsolation string

	Code     CodeHash
	CodeSize int64 // bytes of the deployment package, zipped
	Unpacked int64 // bytes of it unpacked; 0 where nobody counted them

	ImageURI    string // of an image, as the caller named it
	ImageRef    string // of an image, by its digest: what is run
	ImageConfig ImageConfig

	HotFolder string // of this machine, whose changes become the code; empty for none

	Revision     string // UUID; another one with every change, AWS's RevisionId
	ConfigHash   string // HashConfig as of the last change
	LastModified time.Time
	// PublishedFrom, of a numbered version, digests $LATEST as it was then: as long
	// as that is the same, there is nothing to publish.
	PublishedFrom string

	State            string // Pending, Active, Inactive, Failed
	StateReason      string
	StateReasonCode  string
	UpdateStatus     string // InProgress, Successful, Failed; empty while it is being created
	UpdateReason     string
	UpdateReasonCode string

	// Previous, of a $LATEST whose last change is not in place yet, is what is in
	// place: what it goes back to if the change fails, and what may stand in for it
	// until then. It has no Previous itself.
	Previous *Function

	Tenant string // of whose calls this is; never of a record: see ForTenant
}

// Publishing says whether a change of $LATEST is published as a version at once.
type Publishing bool

// What becomes of a change of $LATEST.
const (
	Unpublished Publishing = false
	Published   Publishing = true
)

// ForTenant is the record as it is for the calls of one tenant, which containers
// of no other serve.
func (f *Function) ForTenant(tenant string) *Function {
	c := *f
	c.Tenant = tenant
	return &c
}

// The package types.
const (
	PackageZip   = "Zip"
	PackageImage = "Image"
)

// ImageConfig takes the place of what an image says of how it is started, where
// it is not empty.
type ImageConfig struct {
	EntryPoint, Command []string
	WorkingDirectory    string
}

// Key is what a container must equal to serve f.
func (f *Function) Key() MatchKey {
	return MatchKey{
		Account: f.Account, Function: f.Name, Version: f.Version, Code: f.Code, Config: f.ConfigHash,
		Tenant: f.Tenant,
		Size:   Size{MemoryMB: f.MemoryMB, EphemeralMB: f.EphemeralMB},
	}
}

// CanStandIn reports whether a container of f may serve a call for other while
// there is none of other: where nothing but the code, and with it the version,
// differs of what a container has taken in. The calls get the answers of other
// code, never another role, environment, policy, layer, runtime, handler or size.
func (f *Function) CanStandIn(other *Function) bool {
	mine, its := f.Key(), other.Key()
	if mine == its {
		return false
	}
	mine.Code, mine.Version = its.Code, its.Version
	return mine == its
}

// HashConfig digests the configuration a running container has taken in:
// runtime, handler, environment, layers and the like. What can change under a
// running container (description, timeout, tags, state) is left out, so that
// such a change keeps the warm containers. Whoever writes a record stores the
// digest in ConfigHash.
func (f *Function) HashConfig() string {
	h := sha256.New()
	put := func(parts ...string) {
		for _, p := range parts {
			fmt.Fprintf(h, "%d:%s", len(p), p)
		}
	}
	put(string(f.Runtime), f.Role, f.Handler, f.PackageType, f.TracingMode, f.KMSKeyArn, f.LoggingFormat, f.LogGroup)
	put(f.Architectures...)
	for _, l := range f.Layers {
		put(l.ARN, string(l.Code))
	}
	for _, k := range slices.Sorted(maps.Keys(f.Environment)) {
		put(k, f.Environment[k])
	}
	if c := f.ImageConfig; f.PackageType == PackageImage {
		put(c.WorkingDirectory, fmt.Sprint(len(c.EntryPoint)))
		put(c.EntryPoint...)
		put(c.Command...)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Timeout is how long an execution may take.
func (f *Function) Timeout() time.Duration { return time.Duration(f.TimeoutSecs) * time.Second }
