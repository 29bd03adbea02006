package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// formatVersion is the newest form of a record this version reads. It changes
// only when an older version could not even tolerate what is new.
const formatVersion = 1

// record is a function version as it is stored. The names are for ever; new
// fields may be added, and a field an older version does not know is kept by it.
type record struct {
	Format        int               `json:"format"`
	Account       string            `json:"account"`
	Name          string            `json:"name"`
	Version       string            `json:"version"`
	Runtime       string            `json:"runtime,omitempty"`
	Role          string            `json:"role,omitempty"`
	Handler       string            `json:"handler,omitempty"`
	Description   string            `json:"description,omitempty"`
	TimeoutSecs   int               `json:"timeout_secs"`
	MemoryMB      int               `json:"memory_mb"`
	EphemeralMB   int               `json:"ephemeral_mb"`
	PackageType   string            `json:"package_type,omitempty"`
	Architectures []string          `json:"architectures,omitempty"`
	Environment   map[string]string `json:"environment,omitempty"`
	Tags          map[string]string `json:"tags,omitempty"`
	Layers        []recordLayer     `json:"layer_versions,omitempty"`
	TracingMode   string            `json:"tracing_mode,omitempty"`
	KMSKeyArn     string            `json:"kms_key_arn,omitempty"`
	LoggingFormat string            `json:"logging_format,omitempty"`
	LogGroup      string            `json:"log_group,omitempty"`
	Tenancy       string            `json:"tenant_isolation,omitempty"`
	DeadLetter    string            `json:"dead_letter,omitempty"`

	Code          string    `json:"code"`
	CodeSize      int64     `json:"code_size"`
	Unpacked      int64     `json:"unpacked,omitempty"`
	HotFolder     string    `json:"hot_folder,omitempty"`
	ImageURI      string    `json:"image_uri,omitempty"`
	ImageRef      string    `json:"image_ref,omitempty"`
	EntryPoint    []string  `json:"entry_point,omitempty"`
	Command       []string  `json:"command,omitempty"`
	WorkingDir    string    `json:"working_dir,omitempty"`
	Revision      string    `json:"revision"`
	PublishedFrom string    `json:"published_from,omitempty"`
	ConfigHash    string    `json:"config_hash"`
	LastModified  time.Time `json:"last_modified"`

	State            string `json:"state"`
	StateReason      string `json:"state_reason,omitempty"`
	StateReasonCode  string `json:"state_reason_code,omitempty"`
	UpdateStatus     string `json:"update_status,omitempty"`
	UpdateReason     string `json:"update_reason,omitempty"`
	UpdateReasonCode string `json:"update_reason_code,omitempty"`

	Previous *record `json:"previous,omitempty"`
}

// recordLayer is a layer version that a function has.
type recordLayer struct {
	ARN      string `json:"arn"`
	Code     string `json:"code"`
	Size     int64  `json:"size"`
	Unpacked int64  `json:"unpacked"`
}

func recordLayers(layers []lambent.Layer) (out []recordLayer) {
	for _, l := range layers {
		out = append(out, recordLayer{l.ARN, string(l.Code), l.Size, l.Unpacked})
	}
	return out
}

func layersOf(rec *record) (out []lambent.Layer) {
	for _, l := range rec.Layers {
		out = append(out, lambent.Layer{ARN: l.ARN, Code: lambent.CodeHash(l.Code), Size: l.Size, Unpacked: l.Unpacked})
	}
	return out
}

// extras are fields of a stored record that this version does not know.
type extras map[string]json.RawMessage

// recordKey is where a function version is stored. Aliases and whatever else
// will belong to a function get a first part of their own.
func recordKey(fn *lambent.Function) string {
	return cluster.Key("fn", string(fn.Account), string(fn.Name), string(fn.Version))
}

// encodeRecord gives the JSON of a record, with the extras it came with.
func encodeRecord(fn *lambent.Function, extra extras) ([]byte, error) {
	text, err := json.Marshal(recordOf(fn))
	if err != nil {
		return nil, err
	}
	return withExtras(text, extra)
}

// recordOf is how a function version is stored.
func recordOf(fn *lambent.Function) *record {
	if fn == nil {
		return nil
	}
	return &record{
		Format: formatVersion, Account: string(fn.Account), Name: string(fn.Name), Version: string(fn.Version),
		Runtime: string(fn.Runtime), Role: fn.Role, Handler: fn.Handler, Description: fn.Description,
		TimeoutSecs: fn.TimeoutSecs, MemoryMB: fn.MemoryMB, EphemeralMB: fn.EphemeralMB, PackageType: fn.PackageType,
		Architectures: fn.Architectures, Environment: fn.Environment, Tags: fn.Tags, Layers: recordLayers(fn.Layers),
		TracingMode: fn.TracingMode, KMSKeyArn: fn.KMSKeyArn, LoggingFormat: fn.LoggingFormat, LogGroup: fn.LogGroup, Tenancy: fn.TenantIsolation, DeadLetter: fn.DeadLetter,
		Code: string(fn.Code), CodeSize: fn.CodeSize, Unpacked: fn.Unpacked, HotFolder: fn.HotFolder, ImageURI: fn.ImageURI, ImageRef: fn.ImageRef,
		EntryPoint: fn.ImageConfig.EntryPoint, Command: fn.ImageConfig.Command, WorkingDir: fn.ImageConfig.WorkingDirectory, Revision: fn.Revision, PublishedFrom: fn.PublishedFrom, ConfigHash: fn.ConfigHash, LastModified: fn.LastModified,
		State: fn.State, StateReason: fn.StateReason, StateReasonCode: fn.StateReasonCode,
		UpdateStatus: fn.UpdateStatus, UpdateReason: fn.UpdateReason, UpdateReasonCode: fn.UpdateReasonCode,
		Previous: recordOf(fn.Previous),
	}
}

// withExtras adds the extras to the JSON of a record.
func withExtras(text []byte, extra extras) ([]byte, error) {
	if len(extra) == 0 {
		return text, nil
	}
	all := extras{}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	maps.Copy(all, extra)
	return json.Marshal(all)
}

// decodeRecord reads what encodeRecord wrote under key, perhaps in another
// version of lambent.
func decodeRecord(key string, text []byte) (*lambent.Function, extras, error) {
	fail := func(err error) (*lambent.Function, extras, error) {
		return nil, nil, &lambent.Error{Op: "read function record", Resource: key, Kind: lambent.KindInternal, Reason: "Unreadable", Err: err}
	}
	var rec record
	extra, err := unmarshal(text, &rec)
	if err != nil {
		return fail(err)
	}
	if rec.Format < 1 || rec.Format > formatVersion {
		return fail(fmt.Errorf("it has format %d, and this version of lambent reads up to %d: use the version that wrote it, or a newer one", rec.Format, formatVersion))
	}
	fn := rec.function()
	if want := recordKey(fn); want != key {
		return fail(fmt.Errorf("it belongs under %s", want))
	}
	return fn, extra, nil
}

// function undoes recordOf.
func (rec *record) function() *lambent.Function {
	if rec == nil {
		return nil
	}
	return &lambent.Function{
		Account: lambent.AccountID(rec.Account), Name: lambent.FunctionName(rec.Name), Version: lambent.Version(rec.Version),
		Runtime: lambent.Runtime(rec.Runtime), Role: rec.Role, Handler: rec.Handler, Description: rec.Description,
		TimeoutSecs: rec.TimeoutSecs, MemoryMB: rec.MemoryMB, EphemeralMB: rec.EphemeralMB, PackageType: rec.PackageType,
		Architectures: rec.Architectures, Environment: rec.Environment, Tags: rec.Tags, Layers: layersOf(rec),
		TracingMode: rec.TracingMode, KMSKeyArn: rec.KMSKeyArn, LoggingFormat: rec.LoggingFormat, LogGroup: rec.LogGroup, TenantIsolation: rec.Tenancy, DeadLetter: rec.DeadLetter,
		Code: lambent.CodeHash(rec.Code), CodeSize: rec.CodeSize, Unpacked: rec.Unpacked, HotFolder: rec.HotFolder, ImageURI: rec.ImageURI, ImageRef: rec.ImageRef,
		ImageConfig: lambent.ImageConfig{EntryPoint: rec.EntryPoint, Command: rec.Command, WorkingDirectory: rec.WorkingDir}, Revision: rec.Revision, PublishedFrom: rec.PublishedFrom, ConfigHash: rec.ConfigHash, LastModified: rec.LastModified,
		State: rec.State, StateReason: rec.StateReason, StateReasonCode: rec.StateReasonCode,
		UpdateStatus: rec.UpdateStatus, UpdateReason: rec.UpdateReason, UpdateReasonCode: rec.UpdateReasonCode,
		Previous: rec.Previous.function(),
	}
}

// unmarshal reads a record and the fields it does not know, which few have.
func unmarshal[T any](text []byte, rec *T) (extras, error) {
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(rec); err == nil && !strict.More() {
		return nil, nil
	}
	*rec = *new(T)
	if err := json.Unmarshal(text, rec); err != nil {
		return nil, err
	}
	var all extras
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	for _, name := range fieldsOf[T]() {
		delete(all, name)
	}
	return all, nil
}

// fieldsOf lists the names the JSON of a struct may have.
func fieldsOf[T any]() (names []string) {
	var list func(t reflect.Type)
	list = func(t reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous && name == "" {
				list(f.Type)
				continue
			}
			names = append(names, cmp.Or(name, f.Name))
		}
	}
	list(reflect.TypeFor[T]())
	return names
}

// clone copies a record with all it refers to, for its successor to be made of.
func clone(fn *lambent.Function) *lambent.Function {
	c := *fn
	c.Architectures = slices.Clone(fn.Architectures)
	c.Layers = slices.Clone(fn.Layers)
	c.Environment = maps.Clone(fn.Environment)
	c.Tags = maps.Clone(fn.Tags)
	return &c
}
