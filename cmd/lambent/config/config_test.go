package config

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

var root = Place{Root: true, Home: "/root", Dir: "/srv"}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for _, p := range pairs {
			if v, ok := strings.CutPrefix(p, name+"="); ok {
				return v
			}
		}
		return ""
	}
}

func TestLaterSourcesWin(t *testing.T) {
	file := `
listen: 127.0.0.1:1111   # a comment
idle_timeout: 1m
region: eu-west-1
pool:
  nodejs: 7
  python: 0
`
	got, err := Load(Sources{
		Place: root, FileName: "l.yaml", File: []byte(file),
		Getenv: environment("LAMBENT_IDLE_TIMEOUT=2m", "LAMBENT_POOL_NODEJS=8", "LAMBENT_REGION="),
		Flags:  map[string]string{"pool-nodejs": "9"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default(root)
	want.Listen, want.Region = "127.0.0.1:1111", "eu-west-1"
	want.IdleTimeout = 2 * time.Minute
	want.Pool = map[lambent.Family]int{lambent.FamilyNode: 9, lambent.FamilyPython: 0, lambent.FamilyProvided: 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
}

func TestEveryProblemOfAFileIsToldAtOnceWithItsLine(t *testing.T) {
	file := `liten: 127.0.0.1:1
pool:
  nodjs: 3
memory: 12
idle_timeout: 10
region: {a: b}
region: us-east-1
auth: *anchor
strict_runtimes: yes
zzzzzzzzzzzzzzzzz: 1
`
	_, err := Load(Sources{Place: root, FileName: "l.yaml", File: []byte(file)})
	if err == nil {
		t.Fatal("Load took it")
	}
	for _, want := range []string{
		"line 1: unknown key liten; did you mean listen?",
		"line 3: unknown key pool.nodjs; did you mean pool.nodejs?",
		"line 4: unknown key memory; did you mean instance.memory?",
		`idle_timeout: "10" is not a duration; write it like 250ms, 10s or 1h30m (from l.yaml, line 5)`,
		"line 6: region takes one plain value",
		"line 8: auth takes one plain value",
		`strict_runtimes: "yes" is neither true nor false (from l.yaml, line 9)`,
		"line 10: unknown key zzzzzzzzzzzzzzzzz; lambent up --print-config lists all keys",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

func TestFilesThatAreNoConfigurationAreRefused(t *testing.T) {
	for name, tc := range map[string]struct{ file, want string }{
		"not YAML":                 {"a: [", "not YAML"},
		"a list":                   {"- listen", "keys with values are wanted here"},
		"a word":                   {"hello", "keys with values are wanted here"},
		"a group's value":          {"pool: 3", "keys with values are wanted here"},
		"two documents":            {"listen: 127.0.0.1:1\n---\nlisten: 127.0.0.1:2\n", "more than one YAML document"},
		"an empty one and another": {"---\n---\nlisten: 127.0.0.1:2\n", "more than one YAML document"},
		"one and an empty one":     {"listen: 127.0.0.1:2\n--- # nothing\n", "more than one YAML document"},
		"a key twice":              {"listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", "line 2: listen is given twice"},
		"a nested scalar":          {"roles: [front, [pool]]", "roles takes one plain value"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(Sources{Place: root, FileName: "l.yaml", File: []byte(tc.file)})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Load = %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestFilesWithNothingInThemAreTheDefaults(t *testing.T) {
	for _, file := range []string{"", "\n", "# only a comment\n", "pool:\n", "---\n"} {
		got, err := Load(Sources{Place: root, FileName: "l.yaml", File: []byte(file)})
		if err != nil {
			t.Errorf("Load(%q): %v", file, err)
			continue
		}
		if diff := cmp.Diff(Default(root), got); diff != "" {
			t.Errorf("Load(%q) (-want +got):\n%s", file, diff)
		}
	}
}

func TestValidateNamesEveryBoundThatIsBroken(t *testing.T) {
	set := func(change func(*Config)) Config {
		c := Default(root)
		change(&c)
		return c
	}
	for _, tc := range []struct {
		config Config
		want   string // empty: valid
	}{
		{Default(root), ""},
		{set(func(c *Config) { c.Listen = "[::1]:0" }), ""},
		{set(func(c *Config) { c.Listen = "localhost:80" }), ""},
		{set(func(c *Config) { c.Listen, c.Insecure = "0.0.0.0:4566", true }), ""},
		{set(func(c *Config) { c.IdleTimeout, c.DrainTimeout = 10*time.Millisecond, 0 }), ""},
		{set(func(c *Config) { c.Listen = "0.0.0.0:4566" }), "listen: 0.0.0.0:4566 can be reached from other machines"},
		{set(func(c *Config) { c.Listen = ":4566" }), "listen: :4566 can be reached"},
		{set(func(c *Config) { c.Listen = "example.com:80" }), "listen: example.com:80 can be reached"},
		{set(func(c *Config) { c.Listen = "4566" }), `listen: "4566" is not host:port`},
		{set(func(c *Config) { c.Listen = "127.0.0.1:99999" }), "no port between 0 and 65535"},
		{set(func(c *Config) { c.Listen = "127.0.0.1:http" }), "no port between 0 and 65535"},
		{set(func(c *Config) { c.Hosts = []string{"lambent.lan", "build-box"} }), ""},
		{set(func(c *Config) { c.Hosts = []string{"http://lambent.lan:80"} }), `hosts: "http://lambent.lan:80" is not a host name`},
		{set(func(c *Config) { c.Hosts = []string{"*"} }), `hosts: "*" is not a host name`},
		{set(func(c *Config) { c.Data = "" }), `data: "" is not an absolute path`},
		{set(func(c *Config) { c.Auth = "none" }), `auth: "none" is not one of open, required`},
		{set(func(c *Config) { c.IdleTimeout = time.Millisecond }), "idle_timeout: 1ms is not between 10ms and 24h0m0s"},
		{set(func(c *Config) { c.InitTimeout = time.Hour }), "init_timeout: 1h0m0s is not between 10ms and 15m0s"},
		{set(func(c *Config) { c.DrainTimeout = -1 }), "drain_timeout: -1ns is not between 0s and 15m0s"},
		{set(func(c *Config) { c.Region = "Vienna" }), `region: "Vienna" does not look like a region`},
		{set(func(c *Config) { c.Pool[lambent.FamilyPython] = -1 }), "pool.python: -1 is not between 0 and 1000"},
		{set(func(c *Config) { c.InstanceMemoryMB = 64 }), "instance.memory: 64 MiB is not between 128 and 1048576"},
		{set(func(c *Config) { c.InstanceCPUs = 0 }), "instance.cpus: 0 is not between 0.1 and 1024"},
		{set(func(c *Config) { c.LimitConcurrency = 0 }), "limits.concurrency: 0 is not between 1 and"},
		{set(func(c *Config) { c.LimitInstances = -1 }), "limits.instances: -1 is not between 0"},
		{set(func(c *Config) { c.StreamBytes = 0 }), "streaming.bytes: 0 is not between 1 and 1099511627776"},
		{set(func(c *Config) { c.StreamBurst = -1 }), "streaming.burst: -1 is not between 0 and 1099511627776"},
		{set(func(c *Config) { c.StreamRate = 1 }), "streaming.rate: 1 is neither 0"},
		{set(func(c *Config) { c.StreamRate = 0 }), ""},
		{set(func(c *Config) { c.LogBytes = 1 }), "logs.bytes_per_function: 1 is not between 65536"},
		{set(func(c *Config) { c.FailureRetention = time.Millisecond }), "failures.retention: 1ms is not between"},
		{set(func(c *Config) { c.FailureEntries = 1 }), "failures.max_entries: 1 is not between"},
		{set(func(c *Config) { c.FailureBytes = 1 }), "failures.max_bytes: 1 is not between"},
		{set(func(c *Config) { c.FailureHosts = []string{"http://db/"} }), "failures.health_hosts"},
		{set(func(c *Config) { c.KeepExecutions = 10 }), "executions.keep: 10 is not between 1000 and 2000000"},
		{set(func(c *Config) { c.CgroupMode = "v3" }), `cgroup: "v3" is not one of auto, v1, v2, none`},
		{set(func(c *Config) { c.LogFormat = "xml" }), `log_format: "xml" is not one of text, json`},
		{set(func(c *Config) { c.Roles = []string{"front"} }), "roles: pool is missing"},
		{set(func(c *Config) { c.S3Endpoint = "s3.test" }), `s3.endpoint: "s3.test" is not a base URL`},
		{set(func(c *Config) { c.S3Endpoint = "https://s3.test/x" }), `s3.endpoint: "https://s3.test/x" is not a base URL`},
		{set(func(c *Config) { c.S3Region = "x" }), `s3.region: "x" does not look like a region`},
		{set(func(c *Config) { c.S3Credentials = "c" }), `s3.credentials: "c" is not an absolute path`},
		{set(func(c *Config) { c.S3Buckets = []string{"a/b"} }), `s3.buckets: "a/b" is not the name of a bucket`},
		{set(func(c *Config) { c.EndpointSQS = "http://u:p@q/" }), `endpoints.sqs: "http://u:p@q/" is not a base URL`},
		{set(func(c *Config) { c.EndpointSNS = "sns" }), `endpoints.sns: "sns" is not a base URL`},
		{set(func(c *Config) { c.EndpointEventBridge = "http://e/x" }), `endpoints.eventbridge: "http://e/x" is not a base URL`},
		{set(func(c *Config) { c.EndpointRegion = "x" }), `endpoints.region: "x" does not look like a region`},
		{set(func(c *Config) { c.EndpointCredentials = "c" }), `endpoints.credentials: "c" is not an absolute path`},
		{set(func(c *Config) { c.EndpointTargets = []string{"queue"} }), `endpoints.targets: "queue" is not an ARN`},
		{set(func(c *Config) {
			c.EndpointTargets = []string{"*", "111122223333/*", "arn:aws:events:eu-west-1:1:event-bus/*"}
		}), ""},
		{set(func(c *Config) { c.DestinationAllow = []string{"http://x/"} }), `destinations.allow: "http://x/" is no host, address or network`},
		{set(func(c *Config) { c.ImageRegistries = []string{"docker.io", "r.lan:5000", "*"} }), ""},
		{set(func(c *Config) { c.ImageRegistries = []string{"https://docker.io"} }), `images.registries: "https://docker.io" is not a registry`},
		{set(func(c *Config) { c.ImageLayouts = []string{"i"} }), `images.layouts: "i" is not an absolute path`},
		{set(func(c *Config) { c.ImageCredentials = "c" }), `images.credentials: "c" is not an absolute path`},
		{set(func(c *Config) { c.HotReload = []string{"code"} }), `hot_reload: "code" is not an absolute path`},
		{set(func(c *Config) { c.HotReload, c.Listen, c.Insecure = []string{"/code"}, "0.0.0.0:4566", true }), "hot_reload: who may call the API"},
		{set(func(c *Config) { c.Roles = append(Roles(), "back") }), `roles: "back" is not one of front`},
	} {
		err := tc.config.Validate()
		if tc.want == "" {
			if err != nil {
				t.Errorf("Validate = %v, want none", err)
			}
		} else if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Validate = %v, want an error with %q", err, tc.want)
		}
	}

	both := Default(root)
	both.Auth, both.Region = "x", "y"
	if got := strings.Count(fmt.Sprint(both.Validate()), "\n") + 1; got != 2 {
		t.Errorf("two broken bounds make %d lines of error:\n%v", got, both.Validate())
	}
}

func TestAMisspeltVariableIsAnErrorThatNamesTheNearest(t *testing.T) {
	load := func(environ ...string) error {
		_, err := Load(Sources{Place: root, Getenv: environment(environ...), Environ: environ})
		return err
	}
	for variable, want := range map[string]string{
		"LAMBENT_IDEL_TIMEOUT=1m":  "LAMBENT_IDEL_TIMEOUT: there is no such setting in the environment; did you mean LAMBENT_IDLE_TIMEOUT?",
		"LAMBENT_NODEJS=3":         "did you mean LAMBENT_POOL_NODEJS?",
		"LAMBENT_ZZZZZZZZZZZZZZ=1": "lambent up --print-config lists all",
	} {
		if err := load(variable); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", variable, err, want)
		}
	}
	if err := load("LAMBENT_IDLE_TIMEOUT=1m", "LAMBENT_GONE=", "LAMBENT_BIN=/bin/lambent", "_LAMBENT_ENTERED=1", "PATH=/bin", "LAMBENT_SERVICE_HOST=10.0.0.1",
		"LAMBENT_SERVICE_PORT_HTTP=80", "LAMBENT_PORT=tcp://10.0.0.1:80", "LAMBENT_PORT_80_TCP_ADDR=10.0.0.1"); err != nil {
		t.Errorf("settings, and variables of others: %v", err)
	}
}

func TestPoolsThatCouldNeverBeFullAreRefused(t *testing.T) {
	for _, tc := range []struct {
		flags   map[string]string
		machine int
		ok      bool
	}{
		{nil, 5, true},
		{nil, 4, false},
		{nil, 0, true}, // nobody knows
		{map[string]string{"limits.concurrency": "77", "limits-instances": "4"}, 0, false},
		{map[string]string{"limits.concurrency": "77", "limits-instances": "5"}, 4, true},
		{map[string]string{"pool-nodejs": "1000"}, 200, false},
	} {
		place := root
		place.Instances = tc.machine
		_, err := Load(Sources{Place: place, Flags: tc.flags})
		if (err == nil) != tc.ok {
			t.Errorf("%v on a machine good for %d: %v, want ok %v", tc.flags, tc.machine, err, tc.ok)
		}
	}
}

func TestTheNameListenedOnIsOneOfTheNames(t *testing.T) {
	for listen, want := range map[string]string{"127.0.0.1:1": "a.lan", "[::]:1": "a.lan", ":1": "a.lan", "build-box:1": "a.lan build-box"} {
		c := Config{Listen: listen, Hosts: []string{"a.lan"}}
		if got := strings.Join(c.Names(), " "); got != want {
			t.Errorf("listening on %s: Names = %q, want %q", listen, got, want)
		}
	}
}

func TestPrintedConfigurationReadsBackTheSame(t *testing.T) {
	odd := Default(root)
	odd.Data = "/srv/my data: #1"
	odd.IdleTimeout = 90 * time.Second
	odd.InstanceCPUs = 0.5
	odd.LogLevel = slog.LevelDebug
	odd.StrictRuntimes = true
	odd.Hosts = []string{"lambent.lan", "build-box"}
	odd.Pool[lambent.FamilyProvided] = 0
	for _, c := range []Config{Default(root), odd} {
		text := c.Print()
		got, err := Load(Sources{Place: Place{Dir: "/"}, FileName: "printed", File: []byte(text)})
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("read back (-want +got):\n%s\nfrom\n%s", diff, text)
		}
		for _, k := range Keys() {
			if !strings.Contains(text, k.Env()+", --"+k.Flag()) {
				t.Errorf("the printed configuration does not name %s", k.Env())
			}
		}
	}
}

func TestTheDocumentedConfigurationIsTheDefault(t *testing.T) {
	text, err := os.ReadFile("../../../docs/lambent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(root).Print(), string(text)); diff != "" {
		t.Errorf("docs/lambent.yaml is not what --print-config prints as root (-want +got):\n%s", diff)
	}
}

func TestEveryKeyCanComeFromTheEnvironmentAndTheCommandLine(t *testing.T) {
	values := map[string]string{
		"listen": "127.0.0.1:9", "data": "/d", "auth": "open", "insecure": "true", "hosts": "a.lan,b", "idle_timeout": "1s", "init_timeout": "2s", "idle_timeout_max": "9s", "role_credentials": "1h",
		"drain_timeout": "3s", "region": "eu-west-1",
		"s3.endpoint": "http://127.0.0.1:9000", "s3.region": "eu-west-1", "s3.path_style": "false", "s3.credentials": "/c", "s3.buckets": "a,123456789012/b*", "hot_reload": "/a,/b",
		"images.registries": "docker.io,registry.lan:5000", "images.layouts": "/i,/j", "images.credentials": "/d/config.json",
		"endpoints.sqs": "http://127.0.0.1:9324", "endpoints.sns": "http://127.0.0.1:9911", "endpoints.eventbridge": "https://events.eu-west-1.amazonaws.com", "endpoints.region": "eu-west-1", "endpoints.credentials": "/c",
		"endpoints.targets": "arn:aws:sqs:eu-west-1:123456789012:*,111122223333/arn:aws:sns:eu-west-1:123456789012:t", "destinations.allow": "hooks.lan,10.0.0.0/8,127.0.0.1:8080",
		"async.retry_delays": "50ms,100ms", "async.backoff": "20ms", "async.backoff_most": "2s", "async.age_second": "10ms",
		"pool.nodejs": "3", "pool.python": "4", "pool.provided": "5",
		"instance.memory": "512", "instance.cpus": "1.5", "instance.spares": "2", "limits.concurrency": "77", "limits.instances": "6", "strict_runtimes": "true",
		"streaming.bytes": "1000", "streaming.burst": "10", "streaming.rate": "2000",
		"logs.bytes_per_function": "100000", "executions.keep": "5000",
		"failures.retention": "3h", "failures.max_entries": "1000", "failures.max_bytes": "2000000", "failures.health_hosts": "db.lan,127.0.0.1:80,::1", "cgroup": "none", "log_level": "error", "log_format": "json", "roles": "source,host,pool,front",
	}
	for _, k := range Keys() {
		value, ok := values[k.Name]
		if !ok {
			t.Errorf("the test has no value for %s", k.Name)
			continue
		}
		fromEnv, err := Load(Sources{Place: root, Getenv: environment(k.Env() + "=" + value)})
		if err != nil {
			t.Errorf("%s: %v", k.Env(), err)
		}
		fromFlag, err := Load(Sources{Place: root, Flags: map[string]string{k.Flag(): value}})
		if err != nil {
			t.Errorf("--%s: %v", k.Flag(), err)
		}
		if diff := cmp.Diff(fromEnv, fromFlag); diff != "" || k.get(&fromFlag) != value {
			t.Errorf("%s = %q, want %q; environment and flag differ by:\n%s", k.Name, k.get(&fromFlag), value, diff)
		}
	}
}

func TestDefaultDataFollowsTheUser(t *testing.T) {
	for want, place := range map[string]Place{
		"/var/lib/lambent":             {Root: true, Home: "/root", XDGData: "/x"},
		"/x/lambent":                   {Home: "/home/u", XDGData: "/x"},
		"/home/u/.local/share/lambent": {Home: "/home/u", XDGData: "relative"},
		"":                             {},
	} {
		if got := place.DefaultData(); got != want {
			t.Errorf("%+v: DefaultData = %q, want %q", place, got, want)
		}
	}
	c, err := Load(Sources{Place: root, Flags: map[string]string{"data": "d"}})
	if err != nil || c.Data != "/srv/d" {
		t.Errorf("a relative data folder became %q, %v, want /srv/d", c.Data, err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(Default(root).Print()))
	f.Add([]byte("a: &x [1]\nb: *x\n<<: {c: d}\n? e\n: f\n"))
	f.Add([]byte("!!binary listen: \"\\x00\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Load(Sources{Place: root, FileName: "f", File: data})
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Errorf("Load took what Validate refuses: %v", err)
			}
		}
	})
}
