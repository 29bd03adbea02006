// Package config is the configuration of the server: its keys, their defaults,
// where their values come from, and which values are allowed.
//
// A value comes from, the later winning: the defaults, a YAML file, the
// environment (LAMBENT_…), the command line. Every source speaks the same text
// for the same key, so all go through one table (keys.go) and, at the end,
// through one Validate that names every bound that is broken.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"lambent"
	"lambent/internal/stream"
)

// Config is the configuration of one server. The zero value is not valid:
// start from Default.
type Config struct {
	Listen   string   // host:port the API is served on
	Data     string   // folder of everything that is remembered
	Auth     string   // AuthOpen or AuthRequired
	Insecure bool     // allows AuthOpen on an address others can reach
	Hosts    []string // names, beside localhost, that requests may be for with AuthOpen

	S3Endpoint    string   // base URL of the store that S3Bucket and S3Key name code in; empty: none
	S3Region      string   // signed for
	S3PathStyle   bool     // the bucket is in the path, not in the host's name
	S3Credentials string   // file of the keys to sign with; empty: nothing is signed
	S3Buckets     []string // that code may be taken from: NAME, ACCOUNT/NAME, * at the end for any rest
	HotReload     []string // folders whose content may be served as code

	ImageRegistries  []string // hosts that images may come from; "*" is any
	ImageLayouts     []string // folders in or below which image layouts may be
	ImageCredentials string   // file of Docker's for the registries; empty: none

	EndpointSQS         string   // base URLs of services that records of asynchronous calls go to; empty: none
	EndpointSNS         string   //
	EndpointEventBridge string   //
	EndpointRegion      string   // signed for
	EndpointCredentials string   // file of the keys to sign with; empty: nothing is signed
	EndpointTargets     []string // ARNs of other accounts that may be delivered to: ARN, ACCOUNT/ARN, * at the end for any rest
	DestinationAllow    []string // hosts, addresses and networks beside the Internet's that URLs may lead to

	AsyncRetryDelays []time.Duration // before the second attempt of an event, the third
	AsyncBackoff     time.Duration   // after the first throttle of a function with events
	AsyncBackoffMost time.Duration
	AsyncAgeSecond   time.Duration // what a second of MaximumEventAgeInSeconds lasts

	IdleTimeout    time.Duration // a container unused for this long is destroyed
	IdleTimeoutMax time.Duration // the same for code that is used much; 0: three times IdleTimeout
	InitTimeout    time.Duration // how long a runtime may take to load its function
	DrainTimeout   time.Duration // how long executions may go on after SIGTERM
	Region         string        // in ARNs and AWS_REGION

	Pool             map[lambent.Family]int // warm instances kept ready, where the runtime was found
	InstanceMemoryMB int                    // what one instance can hold, in MiB
	InstanceCPUs     float64
	InstanceSpares   int   // runtimes kept waiting on an instance
	LimitInstances   int   // never more on this machine; 0: as many as its memory holds
	StreamBytes      int64 // of a streamed answer in all
	StreamBurst      int64 // bytes of it that go out as fast as they are read
	StreamRate       int64 // bytes a second after those; 0: no slower
	LimitConcurrency int   // simultaneous executions of each account
	StrictRuntimes   bool
	LogBytes         int64         // kept of each function's log
	KeepExecutions   int           // records of executions, all accounts together
	FailureRetention time.Duration // how long a failure is kept since it failed last
	FailureEntries   int           // failures that are kept at most
	FailureBytes     int64         // of them on the disk
	FailureHosts     []string      // beside those on the Internet, that the rules of functions may ask for their health
	RoleCredentials  time.Duration // how long those of a function's role are valid
	CgroupMode       string
	LogLevel         slog.Level // of the server's own log
	LogFormat        string     // LogText or LogJSON
	Roles            []string
}

// The values of Auth, CgroupMode and LogFormat.
const (
	AuthOpen     = "open"
	AuthRequired = "required"

	CgroupAuto = "auto"
	CgroupV1   = "v1"
	CgroupV2   = "v2"
	CgroupNone = "none"

	LogText = "text"
	LogJSON = "json"
)

// Roles lists what a server can be; it is all of them.
func Roles() []string { return []string{"front", "pool", "host", "source"} }

// Place is what the defaults depend on.
type Place struct {
	Root    bool   // the process runs as root
	Home    string // the user's home folder, may be empty
	XDGData string // $XDG_DATA_HOME, may be empty
	Dir     string // what a relative data folder is below: the working directory

	Instances int // what the machine is good for; 0: unknown
}

// DefaultData is the data folder of a server that was told none:
// /var/lib/lambent as root, else the user's data folder as the XDG base
// directory specification has it.
func (p Place) DefaultData() string {
	switch {
	case p.Root:
		return "/var/lib/lambent"
	case filepath.IsAbs(p.XDGData):
		return filepath.Join(p.XDGData, "lambent")
	case p.Home != "":
		return filepath.Join(p.Home, ".local", "share", "lambent")
	}
	return ""
}

// Default is the configuration nobody has touched.
func Default(p Place) Config {
	aws := stream.AWS()
	return Config{
		Listen: "127.0.0.1:4566", Data: p.DefaultData(), Auth: AuthOpen,
		AsyncRetryDelays: []time.Duration{time.Minute, 2 * time.Minute}, AsyncBackoff: time.Second, AsyncBackoffMost: 5 * time.Minute, AsyncAgeSecond: time.Second,
		IdleTimeout: 10 * time.Minute, InitTimeout: 10 * time.Second, DrainTimeout: 10 * time.Second,
		Region: "us-east-1", S3Region: "us-east-1", S3PathStyle: true, S3Buckets: []string{"*"}, EndpointRegion: "us-east-1",
		Pool:             map[lambent.Family]int{lambent.FamilyNode: 2, lambent.FamilyPython: 2, lambent.FamilyProvided: 1},
		InstanceMemoryMB: 2048, InstanceCPUs: 2, InstanceSpares: 1, LimitConcurrency: 1000,
		StreamBytes: aws.Most, StreamBurst: aws.Burst, StreamRate: aws.Rate,
		LogBytes: 10 << 20, KeepExecutions: 100_000, FailureRetention: 14 * 24 * time.Hour, FailureEntries: 1_000_000, FailureBytes: 16 << 30, RoleCredentials: 12 * time.Hour, CgroupMode: CgroupAuto, LogLevel: slog.LevelInfo, LogFormat: LogText,
		Roles: Roles(),
	}
}

// minTime is the shortest time that is taken: short enough for tests from
// outside, long enough not to be a slip of a unit.
const minTime = 10 * time.Millisecond

// regionPattern is the shape of a region in ARNs.
var regionPattern = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d$`)

// hostPattern is the shape of a host name.
var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)

// healthHostPattern is the shape of a host, perhaps with a port. That an IPv6
// address without one is meant is seen from its colons.
var healthHostPattern = regexp.MustCompile(`^([A-Za-z0-9_.-]+(:[0-9]{1,5})?|[0-9A-Fa-f:.]+|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5})$`)

// Validate names every bound c breaks, each on a line of its own that says which
// key it is and what it may be. It is pure: whether the data folder can be
// written is found out by writing to it.
func (c Config) Validate() error {
	var problems []error
	check := func(ok bool, key, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf("%s: "+format, append([]any{key}, args...)...))
		}
	}
	between := func(key string, d, lo, hi time.Duration) {
		check(d >= lo && d <= hi, key, "%v is not between %v and %v", d, lo, hi)
	}
	oneOf := func(key, value string, allowed ...string) {
		check(slices.Contains(allowed, value), key, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}

	if err := checkListen(c.Listen); err != nil {
		check(false, "listen", "%v", err)
	} else if c.Auth == AuthOpen && !c.Insecure {
		check(isLoopback(c.Listen), "listen", "%s can be reached from other machines, and with auth: open anybody there may run code here; "+
			"listen on 127.0.0.1, or set insecure: true if the network is yours alone", c.Listen)
	}
	check(filepath.IsAbs(c.Data), "data", "%q is not an absolute path; say which folder with --data", c.Data)
	oneOf("auth", c.Auth, AuthOpen, AuthRequired)
	for _, h := range c.Hosts {
		check(hostPattern.MatchString(h), "hosts", "%q is not a host name; write it without scheme and port, as in lambent.lan", h)
	}
	c.validateCode(check)
	c.validateDestinations(check)
	check(len(c.AsyncRetryDelays) > 0 && len(c.AsyncRetryDelays) <= 2, "async.retry_delays", "there are %d of them, not one or two", len(c.AsyncRetryDelays))
	for _, d := range c.AsyncRetryDelays {
		between("async.retry_delays", d, 0, time.Hour)
	}
	between("async.backoff", c.AsyncBackoff, minTime, time.Hour)
	between("async.backoff_most", c.AsyncBackoffMost, c.AsyncBackoff, time.Hour)
	between("async.age_second", c.AsyncAgeSecond, time.Millisecond, time.Minute)
	between("idle_timeout", c.IdleTimeout, minTime, 24*time.Hour)
	between("idle_timeout_max", c.IdleTimeoutMax, 0, 72*time.Hour)
	between("init_timeout", c.InitTimeout, minTime, 15*time.Minute)
	between("drain_timeout", c.DrainTimeout, 0, 15*time.Minute)
	between("role_credentials", c.RoleCredentials, minTime, 36*time.Hour)
	check(regionPattern.MatchString(c.Region), "region", "%q does not look like a region; one is us-east-1", c.Region)
	for _, f := range lambent.Families() {
		check(c.Pool[f] >= 0 && c.Pool[f] <= 1000, "pool."+string(f), "%d is not between 0 and 1000", c.Pool[f])
	}
	check(c.InstanceMemoryMB >= 128 && c.InstanceMemoryMB <= 1<<20, "instance.memory", "%d MiB is not between 128 and 1048576", c.InstanceMemoryMB)
	check(c.InstanceCPUs >= 0.1 && c.InstanceCPUs <= 1024, "instance.cpus", "%v is not between 0.1 and 1024", c.InstanceCPUs)
	check(c.InstanceSpares >= 0 && c.InstanceSpares <= 16, "instance.spares", "%d is not between 0 and 16", c.InstanceSpares)
	check(c.LimitInstances >= 0 && c.LimitInstances <= 10000, "limits.instances", "%d is not between 0 (as many as the memory holds) and 10000", c.LimitInstances)
	check(c.StreamBytes >= 1 && c.StreamBytes <= 1<<40, "streaming.bytes", "%d is not between 1 and 1099511627776", c.StreamBytes)
	check(c.StreamBurst >= 0 && c.StreamBurst <= 1<<40, "streaming.burst", "%d is not between 0 and 1099511627776", c.StreamBurst)
	check(c.StreamRate == 0 || c.StreamRate >= 1<<10 && c.StreamRate <= 1<<40, "streaming.rate", "%d is neither 0 (as fast as it is read) nor between 1024 and 1099511627776", c.StreamRate)
	check(c.LimitConcurrency >= 1 && c.LimitConcurrency <= 1_000_000, "limits.concurrency", "%d is not between 1 and 1000000", c.LimitConcurrency)
	check(c.LogBytes >= 64<<10 && c.LogBytes <= 1<<40, "logs.bytes_per_function", "%d is not between 65536 and 1099511627776", c.LogBytes)
	check(c.KeepExecutions >= 1000 && c.KeepExecutions <= 2_000_000, "executions.keep", "%d is not between 1000 and 2000000", c.KeepExecutions)
	between("failures.retention", c.FailureRetention, minTime, 366*24*time.Hour)
	check(c.FailureEntries >= 100 && c.FailureEntries <= 100_000_000, "failures.max_entries", "%d is not between 100 and 100000000", c.FailureEntries)
	check(c.FailureBytes >= 1<<20 && c.FailureBytes <= 1<<50, "failures.max_bytes", "%d is not between 1048576 and 1125899906842624", c.FailureBytes)
	for _, h := range c.FailureHosts {
		check(h == "*" || healthHostPattern.MatchString(h), "failures.health_hosts", "%q is neither * nor a host, with its port where only that may be asked", h)
	}
	oneOf("cgroup", c.CgroupMode, CgroupAuto, CgroupV1, CgroupV2, CgroupNone)
	oneOf("log_format", c.LogFormat, LogText, LogJSON)
	for _, r := range c.Roles {
		oneOf("roles", r, Roles()...)
	}
	for _, r := range Roles() {
		check(slices.Contains(c.Roles, r), "roles", "%s is missing: this build runs all roles in one process; leave roles as it is", r)
	}
	return errors.Join(problems...)
}

func checkListen(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port between 0 and 65535", addr)
	}
	return nil
}

// Names are the host names requests may be for: Hosts, and the one listened on
// where it is a name.
func (c Config) Names() []string {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil || host == "" || net.ParseIP(host) != nil {
		return c.Hosts
	}
	return append(slices.Clone(c.Hosts), host)
}

// instanceMB is what an instance with a small idle function takes in all.
const instanceMB = 96

// Instances is how many instances a machine with so much memory is good for:
// four fifths of it, at what a small idle one takes.
func Instances(memoryMB int) int { return max(4, memoryMB*4/5/instanceMB) }

// checkPools refuses warming pools that could never be full on a machine that
// can run so many instances.
func (c Config) checkPools(machine int) error {
	limit, sum := c.LimitInstances, 0
	if limit == 0 {
		limit = machine
	}
	for _, n := range c.Pool {
		sum += n
	}
	if limit == 0 || sum <= limit {
		return nil
	}
	return fmt.Errorf("pool: the warming pools ask for %d instances (pool.nodejs + pool.python + pool.provided) and this machine may run %d (limits.instances, from its memory where 0): lower the pools or raise the limit", sum, limit)
}

// isLoopback reports whether only this machine can reach addr. A name other
// than localhost may mean anything, so it counts as reachable.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Arch is the architecture functions of this server run on, in AWS's words.
func Arch() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}
