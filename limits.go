package lambent

// Limits of AWS Lambda that lambent keeps (developer guide, "Lambda quotas", and
// the service model).
const (
	MaxZipped       = 52428800  // bytes of a deployment package uploaded directly
	MaxUnzipped     = 262144000 // bytes of it unpacked, with its layers
	MinMemoryMB     = 128
	MaxMemoryMB     = 10240
	MinEphemeralMB  = 512
	MaxEphemeralMB  = 10240
	MaxTimeoutSecs  = 900
	DefaultMemoryMB = 128
)
