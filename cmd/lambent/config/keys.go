package config

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"lambent"
)

// Key is one setting: what it is called in each source and what it is for.
type Key struct {
	Name string // in the file: "pool.nodejs" is nodejs below pool
	Kind string // what a value looks like, for help: "DURATION"
	Help string // one sentence, or two

	get func(*Config) string        // as the file would have it
	set func(*Config, string) error // from the same text
}

// KindBool is the Kind of a key that is true or false.
const KindBool = "BOOL"

const envPrefix = "LAMBENT_"

// Env is the key's environment variable: LAMBENT_POOL_NODEJS.
func (k Key) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Flag is the key's name on the command line, without dashes: pool-nodejs.
func (k Key) Flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(k.Name)
}

// Keys lists all settings in the order in which --print-config prints them.
func Keys() []Key {
	keys := []Key{
		text("listen", "ADDR", "Address the API is served on. Another one than loopback is refused with auth: open, unless insecure: true.",
			func(c *Config) *string { return &c.Listen }),
		text("data", "DIR", "Folder of everything that is remembered: functions, code, logs. One server at a time.",
			func(c *Config) *string { return &c.Data }),
		text("auth", "MODE", "open: any credentials are taken; an access key of 12 digits is the account, any other means 000000000000. required: signatures are verified, by keys of lambent key create; see docs/access.md.",
			func(c *Config) *string { return &c.Auth }),
		boolean("insecure", "Serve other machines with auth: open. Whoever reaches the address may run code here.",
			func(c *Config) *bool { return &c.Insecure }),
		list("hosts", "Host names, separated by commas, that requests may be for with auth: open, beside localhost and IP addresses; web pages of these names may ask, too.",
			func(c *Config) *[]string { return &c.Hosts }),
		duration("idle_timeout", "A container unused for this long is destroyed, and its instance when nothing else is in it.",
			func(c *Config) *time.Duration { return &c.IdleTimeout }),
		duration("idle_timeout_max", "The same for code that is used much: twice the time for what was used 16 times within it, three times for 64. 0: no bound but that.",
			func(c *Config) *time.Duration { return &c.IdleTimeoutMax }),
		duration("init_timeout", "How long a function's code may take to load before the call fails.",
			func(c *Config) *time.Duration { return &c.InitTimeout }),
		duration("drain_timeout", "How long running executions may go on after SIGTERM.",
			func(c *Config) *time.Duration { return &c.DrainTimeout }),
		duration("role_credentials", "How long the credentials are valid that a function gets of its role. A container is not used again when they might end within its next call.",
			func(c *Config) *time.Duration { return &c.RoleCredentials }),
		text("region", "REGION", "Region in ARNs and in the functions' AWS_REGION.",
			func(c *Config) *string { return &c.Region }),
		text("s3.endpoint", "URL", "Store of S3's API that S3Bucket and S3Key name code in, such as https://s3.us-east-1.amazonaws.com. Empty: none.",
			func(c *Config) *string { return &c.S3Endpoint }),
		text("s3.region", "REGION", "Region that requests to the store are signed for.",
			func(c *Config) *string { return &c.S3Region }),
		boolean("s3.path_style", "Name the bucket in the path of requests, not in the host's name.",
			func(c *Config) *bool { return &c.S3PathStyle }),
		text("s3.credentials", "FILE", "File of the keys to sign with, in the form of ~/.aws/credentials, readable by its owner only. Read for each request; empty: nothing is signed.",
			func(c *Config) *string { return &c.S3Credentials }),
		list("s3.buckets", "Buckets that code may be taken from, separated by commas: NAME, or ACCOUNT/NAME for one account's functions; * at the end stands for any rest.",
			func(c *Config) *[]string { return &c.S3Buckets }),
		list("hot_reload", "Folders of this machine, separated by commas, whose content functions may have as code: S3Bucket hot-reload, S3Key the path. Only with auth: open on loopback.",
			func(c *Config) *[]string { return &c.HotReload }),
		list("images.registries", "Registries, separated by commas, that images of functions may come from, with their port where they have one; * is any.",
			func(c *Config) *[]string { return &c.ImageRegistries }),
		list("images.layouts", "Folders of this machine, separated by commas, in or below which OCI image layouts may be that functions name as oci:/folder:TAG.",
			func(c *Config) *[]string { return &c.ImageLayouts }),
		text("images.credentials", "FILE", "File in the form of Docker's config.json with what the registries ask for, readable by its owner only. Read for each request.",
			func(c *Config) *string { return &c.ImageCredentials }),
		text("endpoints.sqs", "URL", "Amazon SQS, or a service of its API, that destinations and dead letters go to, such as https://sqs.us-east-1.amazonaws.com. Empty: none.",
			func(c *Config) *string { return &c.EndpointSQS }),
		text("endpoints.sns", "URL", "The same for Amazon SNS.",
			func(c *Config) *string { return &c.EndpointSNS }),
		text("endpoints.eventbridge", "URL", "The same for Amazon EventBridge, such as https://events.us-east-1.amazonaws.com.",
			func(c *Config) *string { return &c.EndpointEventBridge }),
		text("endpoints.region", "REGION", "Region that requests to these are signed for; ARNs of others are refused.",
			func(c *Config) *string { return &c.EndpointRegion }),
		text("endpoints.credentials", "FILE", "File of the keys to sign with, in the form of ~/.aws/credentials, readable by its owner only. Read for each request; empty: nothing is signed.",
			func(c *Config) *string { return &c.EndpointCredentials }),
		list("endpoints.targets", "Queues, topics and buses of other accounts that may be delivered to, separated by commas: ARN, or ACCOUNT/ARN for one account's functions; * at the end stands for any rest. Those of an account itself need not be named.",
			func(c *Config) *[]string { return &c.EndpointTargets }),
		list("destinations.allow", "Hosts, addresses and networks, the first two perhaps with a port, separated by commas, that URLs of destinations may lead to beside the Internet; * is any host. With auth: open this machine and private networks are allowed as well.",
			func(c *Config) *[]string { return &c.DestinationAllow }),
		durations("async.retry_delays", "How long an event of an asynchronous call waits after its first failed attempt and, after a comma, after its second.",
			func(c *Config) *[]time.Duration { return &c.AsyncRetryDelays }),
		duration("async.backoff", "How long a function's events wait after it was throttled, or the platform failed; doubled with each time, up to async.backoff_most.",
			func(c *Config) *time.Duration { return &c.AsyncBackoff }),
		duration("async.backoff_most", "The longest such wait.",
			func(c *Config) *time.Duration { return &c.AsyncBackoffMost }),
		duration("async.age_second", "How long a second of MaximumEventAgeInSeconds lasts, for tests that cannot wait.",
			func(c *Config) *time.Duration { return &c.AsyncAgeSecond }),
	}
	for _, f := range lambent.Families() {
		keys = append(keys, number("pool."+string(f), "COUNT",
			"Instances kept warm for "+string(f)+" functions, if this machine has a runtime for them.",
			func(c *Config) int { return c.Pool[f] },
			func(c *Config, n int) { c.Pool[f] = n }))
	}
	return append(keys,
		number("instance.memory", "MB", "Memory one instance can give to its containers, in MiB.",
			func(c *Config) int { return c.InstanceMemoryMB }, func(c *Config, n int) { c.InstanceMemoryMB = n }),
		decimal("instance.cpus", "CPUS", "CPUs one instance can give to its containers.",
			func(c *Config) *float64 { return &c.InstanceCPUs }),
		number("instance.spares", "COUNT", "Runtimes kept waiting on an instance for its account's next function or next simultaneous call, while there is room.",
			func(c *Config) int { return c.InstanceSpares }, func(c *Config, n int) { c.InstanceSpares = n }),
		number("limits.instances", "COUNT", "Never more instances than this on the machine. 0: as many as its memory holds.",
			func(c *Config) int { return c.LimitInstances }, func(c *Config, n int) { c.LimitInstances = n }),
		number("limits.concurrency", "COUNT", "Simultaneous executions of each account, of which a tenth, 100 at most, cannot be reserved.",
			func(c *Config) int { return c.LimitConcurrency }, func(c *Config, n int) { c.LimitConcurrency = n }),
		number("streaming.bytes", "BYTES", "How long an answer may be that a function streams; one that is longer ends with an error. AWS: 200 MiB.",
			func(c *Config) int { return int(c.StreamBytes) }, func(c *Config, n int) { c.StreamBytes = int64(n) }),
		number("streaming.burst", "BYTES", "How much of a streamed answer goes out as fast as it is read. AWS: 6 MiB.",
			func(c *Config) int { return int(c.StreamBurst) }, func(c *Config, n int) { c.StreamBurst = int64(n) }),
		number("streaming.rate", "BYTES", "Bytes a second that the rest of it is held to, 0: to none. AWS: 2 MiB.",
			func(c *Config) int { return int(c.StreamRate) }, func(c *Config, n int) { c.StreamRate = int64(n) }),
		boolean("strict_runtimes", "Refuse a function whose runtime is not installed in exactly its version, instead of using the nearest.",
			func(c *Config) *bool { return &c.StrictRuntimes }),
		number("logs.bytes_per_function", "BYTES", "How much of each function's log is kept; the oldest goes first.",
			func(c *Config) int { return int(c.LogBytes) }, func(c *Config, n int) { c.LogBytes = int64(n) }),
		number("executions.keep", "COUNT", "Records of executions that are kept, all accounts together; the oldest go first. A million takes 150 MB of disk and 25 MB of memory.",
			func(c *Config) int { return c.KeepExecutions }, func(c *Config, n int) { c.KeepExecutions = n }),
		duration("failures.retention", "How long a request that was not processed is kept since it failed last.",
			func(c *Config) *time.Duration { return &c.FailureRetention }),
		number("failures.max_entries", "COUNT", "How many such requests are kept, half of them of one account at most. Where there is no room, events stay in their queue. A million takes 110 MB of memory.",
			func(c *Config) int { return c.FailureEntries }, func(c *Config, n int) { c.FailureEntries = n }),
		number("failures.max_bytes", "BYTES", "The same, in bytes on the disk.",
			func(c *Config) int { return int(c.FailureBytes) }, func(c *Config, n int) { c.FailureBytes = int64(n) }),
		list("failures.health_hosts", "Hosts, perhaps with a port, separated by commas, that the rules of functions may ask whether they are well, beside those on the Internet; * is any. This machine asks.",
			func(c *Config) *[]string { return &c.FailureHosts }),
		text("cgroup", "MODE", "Which control groups bound the instances: auto, v1, v2 or none. With none no limit on memory or CPU is kept.",
			func(c *Config) *string { return &c.CgroupMode }),
		Key{Name: "log_level", Kind: "LEVEL", Help: "What the server logs: debug, info, warn or error.",
			get: func(c *Config) string { return strings.ToLower(c.LogLevel.String()) },
			set: setLevel},
		text("log_format", "FORMAT", "How the server logs: text or json.",
			func(c *Config) *string { return &c.LogFormat }),
		list("roles", "What this server does, separated by commas. This build does all of it in one process.",
			func(c *Config) *[]string { return &c.Roles }),
	)
}

func setLevel(c *Config, s string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[strings.ToLower(s)]
	if !ok {
		return fmt.Errorf("%q is not one of debug, info, warn, error", s)
	}
	c.LogLevel = level
	return nil
}

func list(name, help string, field func(*Config) *[]string) Key {
	return Key{Name: name, Kind: "LIST", Help: help,
		get: func(c *Config) string { return strings.Join(*field(c), ",") },
		set: func(c *Config, s string) error {
			*field(c) = nil
			for part := range strings.SplitSeq(s, ",") {
				if part = strings.TrimSpace(part); part != "" {
					*field(c) = append(*field(c), part)
				}
			}
			return nil
		}}
}

func text(name, kind, help string, field func(*Config) *string) Key {
	return Key{Name: name, Kind: kind, Help: help,
		get: func(c *Config) string { return *field(c) },
		set: func(c *Config, s string) error { *field(c) = s; return nil }}
}

func boolean(name, help string, field func(*Config) *bool) Key {
	return Key{Name: name, Kind: KindBool, Help: help,
		get: func(c *Config) string { return strconv.FormatBool(*field(c)) },
		set: func(c *Config, s string) error {
			switch s {
			case "true", "false":
				*field(c) = s == "true"
				return nil
			}
			return fmt.Errorf("%q is neither true nor false", s)
		}}
}

func duration(name, help string, field func(*Config) *time.Duration) Key {
	return Key{Name: name, Kind: "DURATION", Help: help,
		get: func(c *Config) string { return formatDuration(*field(c)) },
		set: func(c *Config, s string) error {
			d, err := time.ParseDuration(s)
			if err != nil {
				return fmt.Errorf("%q is not a duration; write it like 250ms, 10s or 1h30m", s)
			}
			*field(c) = d
			return nil
		}}
}

func durations(name, help string, field func(*Config) *[]time.Duration) Key {
	return Key{Name: name, Kind: "DURATIONS", Help: help,
		get: func(c *Config) string {
			var texts []string
			for _, d := range *field(c) {
				texts = append(texts, formatDuration(d))
			}
			return strings.Join(texts, ",")
		},
		set: func(c *Config, s string) error {
			*field(c) = nil
			for part := range strings.SplitSeq(s, ",") {
				d, err := time.ParseDuration(strings.TrimSpace(part))
				if err != nil {
					return fmt.Errorf("%q is not durations; write them like 1m,2m", s)
				}
				*field(c) = append(*field(c), d)
			}
			return nil
		}}
}

// formatDuration is Duration.String without the zero units at its end: 10m for
// 10m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func number(name, kind, help string, get func(*Config) int, set func(*Config, int)) Key {
	return Key{Name: name, Kind: kind, Help: help,
		get: func(c *Config) string { return strconv.Itoa(get(c)) },
		set: func(c *Config, s string) error {
			n, err := strconv.Atoi(s)
			if err != nil {
				return fmt.Errorf("%q is not a whole number", s)
			}
			set(c, n)
			return nil
		}}
}

func decimal(name, kind, help string, field func(*Config) *float64) Key {
	return Key{Name: name, Kind: kind, Help: help,
		get: func(c *Config) string { return strconv.FormatFloat(*field(c), 'g', -1, 64) },
		set: func(c *Config, s string) error {
			f, err := strconv.ParseFloat(s, 64)
			if err != nil {
				return fmt.Errorf("%q is not a number", s)
			}
			*field(c) = f
			return nil
		}}
}
