package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent/internal/cluster"
	"lambent/internal/registry"
)

// storedDoor is an API over a real registry, whose functions settle at once.
type storedDoor struct {
	*door
	t       testing.TB
	settled chan registry.Change
	stored  *registry.Registry
}

func newStoredDoor(t testing.TB) *storedDoor {
	t.Helper()
	node := cluster.New(cluster.Options{Dir: t.TempDir(), Sync: cluster.SyncSometime})
	if err := node.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	r, err := registry.Open(t.Context(), node, registry.Options{Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	d := &storedDoor{t: t, stored: r, settled: make(chan registry.Change, 100)}
	r.Subscribe(func(c registry.Change) {
		if c.Before != nil && c.After != nil && c.After.UpdateStatus == "Successful" && c.Before.UpdateStatus != "Successful" {
			d.settled <- c
		}
	})
	d.door = newDoor(t, func(o *Options) { o.Functions = r })
	return d
}

func (d *storedDoor) wait() {
	d.t.Helper()
	select {
	case <-d.settled:
	case <-time.After(20 * time.Second):
		d.t.Fatal("waited in vain for a function to settle")
	}
}

// is sends a request that must be answered with a status.
func (d *storedDoor) is(status int, method, path, body string) answer {
	d.t.Helper()
	got := d.do(d.t, method, functionsPath+path, body)
	if got.status != status {
		d.t.Errorf("%s %s: %d, want %d; %s", method, path, got.status, status, got.raw)
	}
	return got
}

// code gives a function code that no other call has given it.
func (d *storedDoor) code(name string, n int, publish bool) answer {
	d.t.Helper()
	pkg := testZip(d.t)
	pkg = append(pkg[:len(pkg)-2], byte(len(fmt.Sprint(n))), 0) // a comment is the last of a zip
	pkg = append(pkg, fmt.Sprint(n)...)
	body, err := json.Marshal(map[string]any{"ZipFile": base64.StdEncoding.EncodeToString(pkg), "Publish": publish})
	if err != nil {
		d.t.Fatal(err)
	}
	got := d.is(200, "PUT", "/"+name+"/code", string(body))
	d.wait()
	if publish {
		d.wait()
	}
	return got
}

const fARN = "arn:aws:lambda:us-east-1:000000000000:function:f"

func TestVersionsThroughTheAPI(t *testing.T) {
	d := newStoredDoor(t)
	created := d.create(t, "f", "Publish", true, "Tags", map[string]string{"k": "v"})
	if created.status != 201 || created.body["Version"] != "1" || created.body["FunctionArn"] != fARN || created.body["State"] != "Pending" || created.body["LastUpdateStatus"] != nil {
		t.Errorf("created %d %s", created.status, created.raw)
	}
	d.wait()
	d.wait()
	same := d.is(201, "POST", "/f/versions", `{"Description":"unused, as nothing is new"}`)
	if same.body["Version"] != "1" || same.body["FunctionArn"] != fARN+":1" || same.body["State"] != "Active" || same.body["LastUpdateStatus"] != "Successful" || same.body["Description"] != "" {
		t.Errorf("published %s", same.raw)
	}
	updated := d.code("f", 2, true)
	if updated.body["Version"] != "2" || updated.body["FunctionArn"] != fARN+":2" || updated.body["State"] != "Pending" || updated.body["LastUpdateStatus"] != nil {
		t.Errorf("updated %s", updated.raw)
	}
	latest := d.code("f", 3, false)
	if latest.body["Version"] != "$LATEST" || latest.body["FunctionArn"] != fARN || latest.body["LastUpdateStatus"] != "InProgress" {
		t.Errorf("updated %s", latest.raw)
	}
	third := d.is(201, "POST", "/f/versions", `{"Description":"third","CodeSha256":"`+latest.body["CodeSha256"].(string)+`"}`)
	if third.body["Version"] != "3" || third.body["Description"] != "third" {
		t.Errorf("published %s", third.raw)
	}
	for path, want := range map[string]string{"/f": fARN + " $LATEST", "/f?Qualifier=$LATEST": fARN + ":$LATEST $LATEST", "/f:1": fARN + ":1 1", "/f?Qualifier=2": fARN + ":2 2",
		"/" + url.PathEscape(fARN+":3"): fARN + ":3 3"} {
		got := d.is(200, "GET", path, "")
		conf := got.body["Configuration"].(map[string]any)
		if have := fmt.Sprint(conf["FunctionArn"], " ", conf["Version"]); have != want {
			t.Errorf("GET %s: %s, want %s", path, have, want)
		}
		if diff := cmp.Diff(map[string]any{"k": "v"}, got.body["Tags"]); diff != "" {
			t.Errorf("GET %s: tags %s", path, diff)
		}
	}
	list := func(path string) (arns []string) {
		for marker := ""; ; {
			sep := "?"
			if strings.Contains(path, "?") {
				sep = "&"
			}
			got := d.is(200, "GET", path+sep+"MaxItems=2&Marker="+marker, "")
			for _, key := range []string{"Versions", "Functions"} {
				entries, _ := got.body[key].([]any)
				for _, e := range entries {
					arns = append(arns, e.(map[string]any)["FunctionArn"].(string))
				}
			}
			next, more := got.body["NextMarker"].(string)
			if !more {
				return arns
			}
			marker = next
		}
	}
	all := []string{fARN + ":$LATEST", fARN + ":1", fARN + ":2", fARN + ":3"}
	if diff := cmp.Diff(all, list("/f/versions")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(all, list("?FunctionVersion=ALL")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{fARN}, list("")); diff != "" {
		t.Error(diff)
	}
	d.is(204, "DELETE", "/f?Qualifier=2", "")
	d.is(404, "GET", "/f:2", "").wantError(t, 404, "ResourceNotFoundException")
	if diff := cmp.Diff([]string{all[0], all[1], all[3]}, list("/f/versions")); diff != "" {
		t.Error(diff)
	}
	d.is(204, "DELETE", "/f", "")
	d.is(404, "GET", "/f:1", "")
}

func TestAliasesThroughTheAPI(t *testing.T) {
	d := newStoredDoor(t)
	d.create(t, "f", "Publish", true)
	d.wait()
	d.wait()
	d.code("f", 2, true)
	created := d.is(201, "POST", "/f/aliases", `{"Name":"live","FunctionVersion":"1","Description":"d","RoutingConfig":{"AdditionalVersionWeights":{"2":0.25}}}`)
	want := map[string]any{"AliasArn": fARN + ":live", "Name": "live", "FunctionVersion": "1", "Description": "d", "RevisionId": created.body["RevisionId"],
		"RoutingConfig": map[string]any{"AdditionalVersionWeights": map[string]any{"2": 0.25}}}
	if diff := cmp.Diff(want, created.body); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, d.is(200, "GET", "/f/aliases/live", "").body); diff != "" {
		t.Error(diff)
	}
	if conf := d.is(200, "GET", "/f:live", "").body["Configuration"].(map[string]any); conf["FunctionArn"] != fARN+":live" || conf["Version"] != "1" {
		t.Errorf("GetFunction through it shows %v", conf)
	}
	kept := d.is(200, "PUT", "/f/aliases/live", `{"Description":""}`)
	want["Description"], want["RevisionId"] = "", kept.body["RevisionId"]
	if diff := cmp.Diff(want, kept.body); diff != "" {
		t.Error(diff)
	}
	d.is(412, "PUT", "/f/aliases/live", `{"RevisionId":"`+created.body["RevisionId"].(string)+`"}`).wantError(t, 412, "PreconditionFailedException")
	moved := d.is(200, "PUT", "/f/aliases/live", `{"FunctionVersion":"2","RoutingConfig":{},"RevisionId":"`+kept.body["RevisionId"].(string)+`"}`)
	delete(want, "RoutingConfig")
	want["FunctionVersion"], want["RevisionId"] = "2", moved.body["RevisionId"]
	if diff := cmp.Diff(want, moved.body); diff != "" {
		t.Error(diff)
	}
	d.is(201, "POST", "/f/aliases", `{"Name":"a","FunctionVersion":"$LATEST"}`)
	d.is(201, "POST", "/f/aliases", `{"Name":"b","FunctionVersion":"1"}`)
	list := func(query string) (names string) {
		for marker := ""; ; {
			got := d.is(200, "GET", "/f/aliases?MaxItems=1&Marker="+marker+query, "")
			for _, a := range got.body["Aliases"].([]any) {
				names += a.(map[string]any)["Name"].(string) + " "
			}
			next, more := got.body["NextMarker"].(string)
			if !more {
				return names
			}
			marker = next
		}
	}
	if got := list(""); got != "a b live " {
		t.Errorf("listed %s", got)
	}
	if got := list("&FunctionVersion=2"); got != "live " {
		t.Errorf("listed of version 2: %s", got)
	}
	if got := d.is(409, "DELETE", "/f?Qualifier=2", "").wantError(t, 409, "ResourceConflictException"); got != "Unable to delete version because the following aliases reference it: [live]" {
		t.Error(got)
	}
	for range 2 {
		if got := d.is(204, "DELETE", "/f/aliases/live", ""); got.raw != "" {
			t.Error(got.raw)
		}
	}
	d.is(204, "DELETE", "/f?Qualifier=2", "")
}

func TestVersionsAndAliasesThatCannotBeAreRefusedInAWSsWords(t *testing.T) {
	d := newStoredDoor(t)
	d.create(t, "f", "Publish", true)
	d.wait()
	d.wait()
	d.code("f", 2, true)
	d.is(201, "POST", "/f/aliases", `{"Name":"live","FunctionVersion":"1"}`)
	const (
		keys   = "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+, Member must not be null]"
		values = "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]"
		at     = "1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: "
		naming = "Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)"
	)
	weights := func(version, w string) string {
		return `{"Name":"x","FunctionVersion":"` + version + `","RoutingConfig":{"AdditionalVersionWeights":` + w + `}}`
	}
	routing := func(value, constraint string) string {
		return fmt.Sprintf(at, value, "routingConfig.additionalVersionWeights") + constraint
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
		kind, message      string
	}{
		{"POST", "/f/aliases", weights("1", `{"1":0.1,"2":0.1}`), 400, "InvalidParameterValueException", "Number of items in AdditionalVersionWeights cannot be greater than 1"},
		{"POST", "/f/aliases", weights("1", `{"2":2}`), 400, "ValidationException", routing("{2=2.0}", values)},
		{"POST", "/f/aliases", weights("1", `{"2":-1}`), 400, "ValidationException", routing("{2=-1.0}", values)},
		{"POST", "/f/aliases", weights("1", `{"2":1e300}`), 400, "ValidationException", routing("{2=1.0E300}", values)},
		{"POST", "/f/aliases", weights("1", `{"2":null}`), 400, "ValidationException", routing("{2=null}", values)},
		{"POST", "/f/aliases", weights("1", `{"$LATEST":0.5}`), 400, "ValidationException", routing("{$LATEST=0.5}", keys)},
		{"POST", "/f/aliases", weights("1", `{"1":0.5}`), 400, "InvalidParameterValueException", "Invalid function version 1. Function version 1 is already included in routing configuration."},
		{"POST", "/f/aliases", weights("$LATEST", `{"1":0.5}`), 400, "InvalidParameterValueException", "$LATEST is not supported for an alias pointing to more than 1 version"},
		{"POST", "/f/aliases", weights("10", `{"1":0.5}`), 404, "ResourceNotFoundException", "Function not found: " + fARN + ":10"},
		{"POST", "/f/aliases", weights("1", `{"10":0.5}`), 404, "ResourceNotFoundException", "Function not found: " + fARN + ":10"},
		{"POST", "/f/aliases", weights("1", `{"2":"a"}`), 400, "SerializationException", "STRING_VALUE can not be converted to a Double"},
		{"POST", "/f/aliases", weights("1", `[]`), 400, "SerializationException", "Start of list found where not expected."},
		{"POST", "/g/aliases", `{"Name":"x","FunctionVersion":"1"}`, 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:g:1"},
		{"POST", "/f/aliases", `{"Name":"live","FunctionVersion":"1"}`, 409, "ResourceConflictException", "Alias already exists: " + fARN + ":live"},
		{"POST", "/f/aliases", `{"Name":"12","FunctionVersion":"1"}`, 400, "ValidationException", fmt.Sprintf(at, "12", "name") + naming},
		{"POST", "/f/aliases", `{}`, 400, "ValidationException", "2 validation errors detected: Value null at 'functionVersion' failed to satisfy constraint: Member must not be null; Value null at 'name' failed to satisfy constraint: Member must not be null"},
		{"POST", "/f/aliases", `{"Name":"x","FunctionVersion":"live"}`, 400, "ValidationException", fmt.Sprintf(at, "live", "functionVersion") + `Member must satisfy regular expression pattern: (\$LATEST(\.PUBLISHED)?|[0-9]+)`},
		{"POST", "/f/aliases", `{"Name":"x","FunctionVersion":"$LATEST.PUBLISHED"}`, 404, "ResourceNotFoundException", "Function not found: " + fARN + ":$LATEST.PUBLISHED"},
		{"GET", "/f/aliases/none", "", 404, "ResourceNotFoundException", "Cannot find alias arn: " + fARN + ":none"},
		{"GET", "/f:live/aliases/live", "", 400, "InvalidParameterValueException", "GetAlias is about a whole function: name it without the version or alias live."},
		{"PUT", "/f/aliases/none", "{}", 404, "ResourceNotFoundException", "Alias not found: " + fARN + ":none"},
		{"PUT", "/f/aliases/live", `{"FunctionVersion":"9"}`, 404, "ResourceNotFoundException", "Function not found: " + fARN + ":9"},
		{"DELETE", "/g/aliases/x", "", 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:g"},
		{"GET", "/f/aliases?Marker=AAAA", "", 400, "InvalidParameterValueException", "The Marker is not one that this service gave out as NextMarker."},
		{"GET", "/f:none", "", 404, "ResourceNotFoundException", "Function not found: " + fARN + ":none"},
		{"GET", "/f:01", "", 404, "ResourceNotFoundException", "Function not found: " + fARN + ":01"},
		{"GET", "/g/versions", "", 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:g"},
		{"GET", "/f/versions?Marker=bGl2ZQ", "", 400, "InvalidParameterValueException", "The Marker is not one that this service gave out as NextMarker."},
		{"POST", "/f/versions", `{"CodeSha256":"abc"}`, 400, "InvalidParameterValueException", "CodeSHA256 (abc) is different from current CodeSHA256 in $LATEST (" + d.is(200, "GET", "/f/configuration", "").body["CodeSha256"].(string) + "). Please try again with the CodeSHA256 in $LATEST."},
		{"POST", "/f/versions", `{"RevisionId":"abc"}`, 412, "PreconditionFailedException", "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"},
		{"POST", "/f/versions", `{"PublishTo":"LATEST_PUBLISHED"}`, 400, "InvalidParameterValueException", "lambent does not support PublishTo yet: leave it out, or empty."},
		{"POST", "/f/versions", `{"PublishTo":"x"}`, 400, "ValidationException", fmt.Sprintf(at, "x", "publishTo") + "Member must satisfy enum value set: [LATEST_PUBLISHED]"},
		{"POST", "/g/versions", `{}`, 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:g"},
		{"DELETE", "/f?Qualifier=live", "", 400, "InvalidParameterValueException", "Deletion of aliases is not currently supported."},
		{"DELETE", "/f?Qualifier=1", "", 409, "ResourceConflictException", "Unable to delete version because the following aliases reference it: [live]"},
	} {
		if m := d.do(t, tc.method, functionsPath+tc.path, tc.body).wantError(t, tc.status, tc.kind); m != tc.message {
			t.Errorf("%s %s %s: message\n%s\nwant\n%s", tc.method, tc.path, tc.body, m, tc.message)
		}
	}
	latest := d.do(t, "POST", functionsPath+"/f/aliases", weights("$LATEST", `{"1":0.5}`))
	if latest.body["Type"] != nil { // seen at AWS
		t.Errorf("it says %s", latest.raw)
	}
}

func TestSecurityVersionsAndAliasesOfOthersAreOutOfReach(t *testing.T) {
	d := newStoredDoor(t)
	d.create(t, "f", "Publish", true)
	d.wait()
	d.wait()
	d.is(201, "POST", "/f/aliases", `{"Name":"live","FunctionVersion":"1"}`)
	auth := []string{"Authorization", "AWS4-HMAC-SHA256 Credential=111111111111/20261121/eu-west-3/lambda/aws4_request, SignedHeaders=host, Signature=0"}
	for _, r := range [][3]string{
		{"GET", "/f:1", ""}, {"GET", "/f:live", ""}, {"GET", "/f/versions", ""}, {"POST", "/f/versions", "{}"}, {"GET", "/f/aliases", ""}, {"GET", "/f/aliases/live", ""},
		{"POST", "/f/aliases", `{"Name":"x","FunctionVersion":"1"}`}, {"PUT", "/f/aliases/live", "{}"}, {"DELETE", "/f/aliases/live", ""}, {"DELETE", "/f?Qualifier=1", ""},
	} {
		d.do(t, r[0], functionsPath+r[1], r[2], auth...).wantError(t, 404, "ResourceNotFoundException")
		_, rest, _ := strings.Cut(r[1], "/f")
		if !strings.HasPrefix(rest, ":") {
			d.do(t, r[0], functionsPath+"/000000000000:function:f"+rest, r[2], auth...).wantError(t, 403, "AccessDeniedException")
		}
	}
	if got := d.do(t, "GET", functionsPath+"?FunctionVersion=ALL", "", auth...); got.raw != `{"Functions":[]}` {
		t.Errorf("another account lists %s", got.raw)
	}
	d.is(200, "GET", "/f/aliases/live", "")
}
