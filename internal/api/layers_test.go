package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// fakeLayers keeps layers in memory. Their packages are not kept.
type fakeLayers struct {
	mu       sync.Mutex
	versions map[string][]*lambent.LayerVersion // by account and name, the newest first
	last     map[string]int64
	revision int
}

func newFakeLayers() *fakeLayers {
	return &fakeLayers{versions: map[string][]*lambent.LayerVersion{}, last: map[string]int64{}}
}

func (f *fakeLayers) PublishLayerVersion(_ context.Context, spec *lambent.LayerVersion, pkg []byte) (*lambent.LayerVersion, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := string(spec.Account) + "/" + spec.Name
	f.last[key]++
	v := *spec
	v.Version, v.Code, v.CodeSize = f.last[key], "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=", int64(len(pkg))
	v.Created = time.Date(2026, 11, 21, 3, 4, 5, 678_000_000, time.UTC)
	f.versions[key] = slices.Insert(f.versions[key], 0, &v)
	return &v, nil
}

func (f *fakeLayers) LayerVersion(account lambent.AccountID, name string, version int64) (*lambent.LayerVersion, error) {
	for _, v := range f.LayerVersions(account, name) {
		if v.Version == version {
			return v, nil
		}
	}
	return nil, &lambent.Error{Kind: lambent.KindNotFound, Message: noSuchLayer}
}

func (f *fakeLayers) LayerVersions(account lambent.AccountID, name string) []*lambent.LayerVersion {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.versions[string(account)+"/"+name])
}

func (f *fakeLayers) ListLayers(account lambent.AccountID, after string, limit int, match func(*lambent.LayerVersion) bool) (newest []*lambent.LayerVersion, next string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(f.versions)) {
		name, mine := strings.CutPrefix(key, string(account)+"/")
		k := slices.IndexFunc(f.versions[key], match)
		if !mine || name <= after || k < 0 {
			continue
		}
		if len(newest) == limit {
			return newest, newest[limit-1].Name
		}
		newest = append(newest, f.versions[key][k])
	}
	return newest, ""
}

func (f *fakeLayers) DeleteLayerVersion(_ context.Context, account lambent.AccountID, name string, version int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := string(account) + "/" + name
	f.versions[key] = slices.DeleteFunc(f.versions[key], func(v *lambent.LayerVersion) bool { return v.Version == version })
	return nil
}

func (f *fakeLayers) EditLayerPolicy(_ context.Context, account lambent.AccountID, name string, version int64, change func(*lambent.LayerVersion) ([]lambent.LayerStatement, error)) (*lambent.LayerVersion, error) {
	old, _ := f.LayerVersion(account, name, version)
	statements, err := change(old)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next := *old
	f.revision++
	next.Statements, next.PolicyRevision = statements, fmt.Sprint("r", f.revision)
	key := string(account) + "/" + name
	f.versions[key][slices.Index(f.versions[key], old)] = &next
	return &next, nil
}

// as is the header of a caller of an account.
func as(account string) []string {
	return []string{"Authorization", "AWS4-HMAC-SHA256 Credential=" + account + "/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=" + strings.Repeat("0", 64)}
}

const layersPath = "/2018-10-31/layers"

func (d *door) publish(t testing.TB, name string, extra map[string]any) answer {
	t.Helper()
	q := map[string]any{"Content": map[string]any{"ZipFile": base64.StdEncoding.EncodeToString(testZip(t))}}
	maps.Copy(q, extra)
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return d.do(t, "POST", layersPath+"/"+name+"/versions", string(body))
}

const layerARN = "arn:aws:lambda:us-east-1:000000000000:layer:"

func TestPublishedLayerVersionIsShownInAWSShape(t *testing.T) {
	d := newDoor(t)
	published := d.publish(t, "l", map[string]any{"Description": "d", "LicenseInfo": "MIT", "CompatibleRuntimes": []string{"nodejs22.x", "python3.13"}, "CompatibleArchitectures": []string{"x86_64"}})
	if published.status != http.StatusCreated {
		t.Fatalf("%d %s", published.status, published.raw)
	}
	item := map[string]any{"LayerVersionArn": layerARN + "l:1", "Version": 1.0, "Description": "d", "CreatedDate": "2026-11-21T03:04:05.678+0000",
		"CompatibleRuntimes": []any{"nodejs22.x", "python3.13"}, "LicenseInfo": "MIT", "CompatibleArchitectures": []any{"x86_64"}}
	want := maps.Clone(item)
	content := published.body["Content"].(map[string]any)
	want["LayerArn"] = layerARN + "l"
	want["Content"] = map[string]any{"Location": content["Location"], "CodeSha256": "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=", "CodeSize": float64(len(testZip(t)))}
	if diff := cmp.Diff(want, published.body); diff != "" {
		t.Error(diff)
	}
	for _, path := range []string{"/l/versions/1", "/" + layerARN + "l/versions/1", "?find=LayerVersion&Arn=" + layerARN + "l:1"} {
		if got := d.do(t, "GET", layersPath+path, ""); got.status != http.StatusOK || cmp.Diff(want, got.body) != "" {
			t.Errorf("%s: %d %s", path, got.status, got.raw)
		}
	}
	bare := d.publish(t, "l", nil)
	if diff := cmp.Diff([]string{"Content", "CreatedDate", "Description", "LayerArn", "LayerVersionArn", "Version"}, slices.Sorted(maps.Keys(bare.body))); diff != "" {
		t.Error(diff)
	}
	if got := d.do(t, "GET", layersPath+"?CompatibleRuntime=nodejs22.x", ""); cmp.Diff(map[string]any{"Layers": []any{map[string]any{"LayerName": "l", "LayerArn": layerARN + "l", "LatestMatchingVersion": item}}}, got.body) != "" {
		t.Errorf("ListLayers: %s", got.raw)
	}
	got := d.do(t, "GET", layersPath+"/l/versions?MaxItems=1", "")
	marker, _ := got.body["NextMarker"].(string)
	next := d.do(t, "GET", layersPath+"/l/versions?MaxItems=1&Marker="+marker, "")
	if diff := cmp.Diff(map[string]any{"LayerVersions": []any{item}}, next.body); marker == "" || diff != "" {
		t.Errorf("%s\n%s", got.raw, diff)
	}
	if got := d.do(t, "GET", layersPath+"/never/versions", ""); got.status != 200 || got.raw != `{"LayerVersions":[]}` {
		t.Errorf("versions of a layer that never was: %d %s", got.status, got.raw)
	}
}

func TestLayersAreRefusedInAWSWords(t *testing.T) {
	d := newDoor(t)
	d.publish(t, "l", nil)
	for _, test := range []struct {
		name         string
		got          answer
		status       int
		class, text_ string
	}{
		{"unknown runtime", d.publish(t, "l", map[string]any{"CompatibleRuntimes": []string{"cobol"}}), 400, "ValidationException",
			"1 validation error detected: Value '[cobol]' at 'compatibleRuntimes' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [" + strings.Join(runtimeNames(), ", ") + "], Member must not be null]"},
		{"no content", d.publish(t, "l", map[string]any{"Content": nil}), 400, "ValidationException", "1 validation error detected: Value null at 'content' failed to satisfy constraint: Member must not be null"},
		{"no zip", d.publish(t, "l", map[string]any{"Content": map[string]any{"ZipFile": "eA=="}}), 400, "InvalidParameterValueException", "Could not unzip uploaded file. Please check your file, then try to upload again."},
		{"version 0", d.do(t, "GET", layersPath+"/l/versions/0", ""), 400, "InvalidParameterValueException", "Layer Version Cannot be less than 1"},
		{"version x", d.do(t, "GET", layersPath+"/l/versions/x", ""), 400, "SerializationException", ""},
		{"delete 0", d.do(t, "DELETE", layersPath+"/l/versions/0", ""), 400, "InvalidParameterValueException", "Layer Version Cannot be less than 1"},
		{"not there", d.do(t, "GET", layersPath+"/l/versions/9", ""), 404, "ResourceNotFoundException", noSuchLayer},
		{"other region", d.do(t, "GET", layersPath+"?find=LayerVersion&Arn=arn:aws:lambda:eu-west-1:000000000000:layer:l:1", ""), 404, "ResourceNotFoundException", noSuchLayer},
		{"by an ARN without version", d.do(t, "GET", layersPath+"?find=LayerVersion&Arn="+layerARN+"l", ""), 400, "ValidationException", ""},
		{"by no ARN", d.do(t, "GET", layersPath+"?find=LayerVersion", ""), 400, "ValidationException", ""},
		{"marker", d.do(t, "GET", layersPath+"?Marker=..", ""), 400, "InvalidParameterValueException", ""},
		{"51 items", d.do(t, "GET", layersPath+"?MaxItems=51", ""), 400, "ValidationException", ""},
		{"policy of none", d.do(t, "GET", layersPath+"/l/versions/1/policy", ""), 404, "ResourceNotFoundException", "No policy is associated with the given resource."},
		{"policy of no version", d.do(t, "GET", layersPath+"/l/versions/2/policy", ""), 404, "ResourceNotFoundException", "Layer version " + layerARN + "l:2 does not exist."},
	} {
		t.Run(test.name, func(t *testing.T) {
			if text := test.got.wantError(t, test.status, test.class); test.text_ != "" && text != test.text_ {
				t.Errorf("says %q", text)
			}
		})
	}
	for range 2 {
		if got := d.do(t, "DELETE", layersPath+"/l/versions/1", ""); got.status != http.StatusNoContent || got.raw != "" {
			t.Errorf("delete: %d %s", got.status, got.raw)
		}
	}
}

func TestFunctionIsGivenLayersInTheirOrder(t *testing.T) {
	d := newDoor(t)
	for _, name := range []string{"a", "b", "b", "c"} {
		d.publish(t, name, nil)
	}
	arn := func(suffix string) string { return layerARN + suffix }
	got := d.create(t, "f", "Layers", []string{arn("b:2"), arn("a:1")})
	size := float64(len(testZip(t)))
	if diff := cmp.Diff([]any{map[string]any{"Arn": arn("b:2"), "CodeSize": size}, map[string]any{"Arn": arn("a:1"), "CodeSize": size}}, got.body["Layers"]); diff != "" {
		t.Errorf("%s\n%s", got.raw, diff)
	}
	const config = "/2015-03-31/functions/f/configuration"
	for _, test := range []struct {
		name   string
		layers []string
		text   string
	}{
		{"six", slices.Repeat([]string{arn("a:1")}, 6), "Cannot reference more than 5 layers."},
		{"not there", []string{arn("a:1"), arn("never:1")}, "Layer version " + arn("never:1") + " does not exist."},
		{"deleted or never made", []string{arn("b:3")}, "Layer version " + arn("b:3") + " does not exist."},
		{"twice", []string{arn("b:1"), arn("b:2")}, "Two different versions of the same layer are not allowed to be referenced in the same function. " + arn("b:1") + " and " + arn("b:2") + " are versions of the same layer."},
		{"elsewhere", []string{"arn:aws:lambda:eu-west-1:000000000000:layer:a:1"}, "Layers are not in the same region as the function. Layers are expected to be in region us-east-1."},
	} {
		t.Run(test.name, func(t *testing.T) {
			body, _ := json.Marshal(map[string]any{"Layers": test.layers})
			if text := d.do(t, "PUT", config, string(body)).wantError(t, 400, "InvalidParameterValueException"); text != test.text {
				t.Errorf("says %q", text)
			}
			if text := d.create(t, "g", "Layers", test.layers).wantError(t, 400, "InvalidParameterValueException"); text != test.text {
				t.Errorf("says %q", text)
			}
		})
	}
	if got := d.do(t, "PUT", config, `{"Description":"x"}`); len(got.body["Layers"].([]any)) != 2 {
		t.Errorf("an update without Layers: %s", got.raw)
	}
	if got := d.do(t, "PUT", config, `{"Layers":[]}`); got.body["Layers"] != nil {
		t.Errorf("an update to no layers: %s", got.raw)
	}
}

func TestCodeAndLayersTogetherAreBounded(t *testing.T) {
	d := newDoor(t)
	v, _ := d.layers.PublishLayerVersion(t.Context(), &lambent.LayerVersion{Account: lambent.DefaultAccount, Name: "big", Unpacked: lambent.MaxUnzipped - 36}, nil)
	arn := lambent.LayerVersionARN("us-east-1", v.Account, v.Name, v.Version)
	const want = "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 262144001 bytes."
	if text := d.create(t, "f", "Layers", []string{arn}).wantError(t, 400, "InvalidParameterValueException"); text != want {
		t.Errorf("says %q", text)
	}
	d.create(t, "f")
	d.functions.byName["f"].Unpacked = 0 // as of an earlier version of lambent
	if text := d.do(t, "PUT", "/2015-03-31/functions/f/configuration", `{"Layers":["`+arn+`"]}`).wantError(t, 400, "InvalidParameterValueException"); text != want {
		t.Errorf("says %q", text)
	}
}

func TestSecurityLayerIsForWhomItsPolicySays(t *testing.T) {
	d := newDoor(t)
	d.publish(t, "l", nil)
	const path, other = layersPath + "/" + layerARN + "l/versions/1", "222222222222"
	refused := func(when string) {
		t.Helper()
		const want = "User: arn:aws:iam::222222222222:root is not authorized to perform: lambda:GetLayerVersion on resource: arn:aws:lambda:us-east-1:000000000000:layer:l:1 because no resource-based policy allows the lambda:GetLayerVersion action"
		if text := d.do(t, "GET", path, "", as(other)...).wantError(t, 403, "AccessDeniedException"); text != want {
			t.Errorf("%s: says %q", when, text)
		}
		body, _ := json.Marshal(map[string]any{"FunctionName": "f", "Role": testRole, "Runtime": "nodejs22.x", "Handler": "index.handler",
			"Code": map[string]any{"ZipFile": testZip(t)}, "Layers": []string{layerARN + "l:1"}})
		if text := d.do(t, "POST", "/2015-03-31/functions", string(body), as(other)...).wantError(t, 403, "AccessDeniedException"); text != want {
			t.Errorf("%s: says %q", when, text)
		}
	}
	refused("without a policy")
	d.do(t, "GET", layersPath+"/"+layerARN+"never/versions/1", "", as(other)...).wantError(t, 403, "AccessDeniedException") // nor is anything told of what is there
	add := func(sid, rest string) answer {
		return d.do(t, "POST", layersPath+"/l/versions/1/policy", `{"StatementId":"`+sid+`","Action":"lambda:GetLayerVersion",`+rest+`}`)
	}
	first := add("mine", `"Principal":"333333333333"`)
	refused("with a policy for somebody else")
	add("org", `"Principal":"*","OrganizationId":"o-abcdefghij"`)
	refused("with a policy for an organization")
	third := add("other", `"Principal":"`+other+`"`)
	if third.status != http.StatusCreated || third.body["RevisionId"] == first.body["RevisionId"] ||
		third.body["Statement"] != `{"Sid":"other","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::222222222222:root"},"Action":"lambda:GetLayerVersion","Resource":"`+layerARN+`l:1"}` {
		t.Errorf("%d %s", third.status, third.raw)
	}
	if got := d.do(t, "GET", path, "", as(other)...); got.status != http.StatusOK {
		t.Errorf("with a policy: %s", got.raw)
	}
	for method, path := range map[string]string{"DELETE": path, "POST": layersPath + "/" + layerARN + "l/versions", "GET": path + "/policy"} {
		d.do(t, method, path, `{"Content":{"ZipFile":"eA=="}}`, as(other)...).wantError(t, 403, "AccessDeniedException")
	}
	if text := add("mine", `"Principal":"*"`).wantError(t, 409, "ResourceConflictException"); text != "The statement id (mine) provided already exists. Please provide a new statement id, or remove the existing statement." {
		t.Errorf("says %q", text)
	}
	policy := d.do(t, "GET", layersPath+"/l/versions/1/policy", "")
	var doc map[string]any
	if err := json.Unmarshal([]byte(policy.body["Policy"].(string)), &doc); err != nil || doc["Version"] != "2012-10-17" || doc["Id"] != "default" || len(doc["Statement"].([]any)) != 3 {
		t.Errorf("%v %s", err, policy.raw)
	}
	const remove = layersPath + "/l/versions/1/policy/"
	d.do(t, "DELETE", remove+"other?RevisionId=old", "").wantError(t, 412, "PreconditionFailedException")
	if text := d.do(t, "DELETE", remove+"none", "").wantError(t, 404, "ResourceNotFoundException"); text != "Statement none is not found in resource policy." {
		t.Errorf("says %q", text)
	}
	if got := d.do(t, "DELETE", remove+"other?RevisionId="+policy.body["RevisionId"].(string), ""); got.status != http.StatusNoContent {
		t.Errorf("%d %s", got.status, got.raw)
	}
	refused("after the statement was removed")
	for _, bad := range []string{`"Principal":"root"`, `"Principal":"*","OrganizationId":"x"`} {
		add("bad", bad).wantError(t, 400, "ValidationException")
	}
}

func TestSecurityLayerIsGivenToAFunctionOnlyByWhoMayGetIt(t *testing.T) {
	caller := openCaller(ownAccount, false)
	d := newDoor(t, askedBy(&caller))
	d.publish(t, "l", nil)
	arn := lambent.LayerVersionARN("us-east-1", ownAccount, "l", 1)
	const all = `{"Effect":"Allow","Action":["lambda:CreateFunction","iam:PassRole"],"Resource":"*"}`
	role := "arn:aws:iam::" + ownAccount + ":role/r"
	caller = ann(t, all)
	if text := d.create(t, "f", "Role", role, "Layers", []string{arn}).wantError(t, 403, "AccessDeniedException"); !strings.Contains(text, "user/ann is not authorized to perform: lambda:GetLayerVersion on resource: "+arn) {
		t.Errorf("says %q", text)
	}
	caller = ann(t, all+`,{"Effect":"Allow","Action":"lambda:GetLayerVersion","Resource":"`+arn+`"}`)
	if got := d.create(t, "f", "Role", role, "Layers", []string{arn}); got.status != http.StatusCreated {
		t.Error(got.raw)
	}
}

// Policies are asked by the ARN: no other way to write a version's number gets
// past them.
func TestSecurityALayerVersionHasOneNameToPolicies(t *testing.T) {
	caller := openCaller(ownAccount, false)
	d := newDoor(t, askedBy(&caller))
	d.publish(t, "l", nil)
	if got := d.create(t, "f", "Role", "arn:aws:iam::111111111111:role/r"); got.status != http.StatusCreated {
		t.Fatal(got.raw)
	}
	arn := lambent.LayerVersionARN("us-east-1", ownAccount, "l", 1)
	caller = ann(t, `{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":"`+arn+`"}`)
	for _, version := range []string{"1", "01", "0001", "%2B1", "%31"} {
		for _, request := range [][3]string{{"GET", "", ""}, {"GET", "/policy", ""}, {"DELETE", "", ""}} {
			d.do(t, request[0], "/2018-10-31/layers/l/versions/"+version+request[1], request[2]).wantError(t, 403, "AccessDeniedException")
		}
	}
	other := strings.TrimSuffix(arn, "1") + "01"
	if got := d.do(t, "GET", "/2018-10-31/layers?find=LayerVersion&Arn="+url.QueryEscape(other), ""); got.status != http.StatusNotFound {
		t.Error(got.raw)
	}
	if got := d.do(t, "PUT", functionsPath+"/f/configuration", `{"Layers":["`+other+`"]}`); got.status != http.StatusBadRequest {
		t.Error(got.raw)
	}
}
