package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"github.com/alecthomas/kong"

	"lambent/cmd/lambent/config"
	"lambent/internal/hostinfo"
)

type upCommand struct {
	Config      string `placeholder:"FILE" help:"Configuration file (YAML)."`
	PrintConfig bool   `help:"Print the whole configuration, with what each key is for, and end."`

	kong.Plugins // a flag for each key of the configuration
}

func (upCommand) Help() string {
	return `Serves until SIGTERM or Ctrl-C, then lets running executions end and exits with status 0. A second signal
ends it at once.

Each setting can be given in the file, in the environment (LAMBENT_IDLE_TIMEOUT) or as a flag; the later wins.

Examples:
  lambent up
  lambent up --listen 127.0.0.1:9000 --data ./data --idle-timeout 1m
  lambent up --print-config > lambent.yaml && lambent up --config lambent.yaml`
}

// Run serves.
func (u *upCommand) Run(ctx context.Context, s Streams, serve Serve) error {
	cfg, err := loadConfig(u.Config, u.Plugins, s, nil)
	if u.PrintConfig {
		// What is printed must be usable, so a broken one is only told of.
		if err == nil {
			_, err = io.WriteString(s.Out, cfg.Print())
		}
		return err
	}
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	log := newLogger(cfg, s.Err)
	return serve(ctx, cfg, log, func(addr string) {
		log.Info("lambent serves", "endpoint", "http://"+addr, "data", cfg.Data)
	})
}

// untilSignal gives a context that ends with the first SIGTERM or Ctrl-C. The
// signals then have their default effect again: a second one ends the process
// at once, however long the draining takes.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

func newLogger(cfg config.Config, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// newConfigFlags makes a struct with one field for each configuration
// key, for kong to fill: the table of keys stays the only list of them.
func newConfigFlags() any {
	var fields []reflect.StructField
	for i, k := range config.Keys() {
		typ := reflect.TypeFor[*string]()
		if k.Kind == config.KindBool {
			typ = reflect.TypeFor[*bool]() // so that --insecure alone is enough
		}
		fields = append(fields, reflect.StructField{
			Name: fmt.Sprintf("Key%d", i),
			Type: typ,
			Tag:  reflect.StructTag(fmt.Sprintf(`name:%q placeholder:%q help:%q group:"Configuration"`, k.Flag(), k.Kind, k.Help)),
		})
	}
	return reflect.New(reflect.StructOf(fields)).Interface()
}

// givenFlags reads back those of newConfigFlags' flags that were given.
func givenFlags(plugins kong.Plugins) map[string]string {
	flags := map[string]string{}
	for _, p := range plugins {
		v := reflect.ValueOf(p).Elem()
		for i, k := range config.Keys() {
			if f := v.Field(i); !f.IsNil() {
				flags[k.Flag()] = fmt.Sprint(f.Elem().Interface())
			}
		}
	}
	return flags
}

// RootlessEnv is set, to anything, in a server that is root only in a user
// namespace of its own.
const RootlessEnv = "_LAMBENT_ROOTLESS"

// loadConfig makes the configuration of a command; defaults stand in for flags
// that were not given.
func loadConfig(file string, plugins kong.Plugins, s Streams, defaults map[string]string) (config.Config, error) {
	dir, err := os.Getwd()
	if err != nil {
		return config.Config{}, fmt.Errorf("find the working directory: %w", err)
	}
	memoryMB, _ := hostinfo.Memory(hostinfo.System{})
	src := config.Sources{
		Place: config.Place{
			Root: os.Geteuid() == 0 && s.Getenv(RootlessEnv) == "", Home: s.Getenv("HOME"), XDGData: s.Getenv("XDG_DATA_HOME"), Dir: dir,
			Instances: config.Instances(memoryMB),
		},
		FileName: file, Getenv: s.Getenv, Environ: s.Environ, Flags: givenFlags(plugins),
	}
	for flag, value := range defaults {
		if _, given := src.Flags[flag]; !given {
			src.Flags[flag] = value
		}
	}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return config.Config{}, fmt.Errorf("read the configuration: %w", err)
		}
		src.File = data
	}
	cfg, err := config.Load(src)
	if err != nil {
		return cfg, fmt.Errorf("the configuration cannot be used:\n%w\nsee: lambent up --print-config", err)
	}
	return cfg, nil
}
