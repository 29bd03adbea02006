package conformance

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"lambent/conformance/lab"
)

func publish(t *testing.T, c *lab.Caller, name string, zip []byte) *lambda.PublishLayerVersionOutput {
	t.Helper()
	out, err := c.PublishLayerVersion(t.Context(), &lambda.PublishLayerVersionInput{LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: zip},
		CompatibleRuntimes: []types.Runtime{types.RuntimeNodejs22x}, CompatibleArchitectures: []types.Architecture{types.ArchitectureX8664}, LicenseInfo: aws.String("MIT")})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func createWith(t *testing.T, c *lab.Caller, f lab.Function, layers ...string) {
	t.Helper()
	in := c.Input(f)
	in.Layers = layers
	if _, err := c.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, f.Name)
}

func TestLayersAreSeenByNode(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	modules := publish(t, c, "modules", lab.Files(map[string]string{
		"nodejs/node_modules/greet/index.js": `exports.greet = (who) => "hello " + who`, "text": "from the first layer", "only-first": "1",
	}))
	top := publish(t, c, "top", lab.Zip(lab.Entry{Name: "text", Data: []byte("from the second layer")},
		lab.Entry{Name: "bin/tool", Mode: 0o755, Data: []byte("#!/bin/sh\necho from a tool\n")}))
	createWith(t, c, lab.Function{Name: "node", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.js", `
		const fs = require('fs'), { greet } = require('greet'), { execFileSync } = require('child_process');
		exports.handler = async () => {
			let write;
			try { fs.writeFileSync('/opt/text', 'mine'); } catch (e) { write = e.code; }
			return { greet: greet('you'), text: fs.readFileSync('/opt/text', 'utf8'), only: fs.existsSync('/opt/only-first'), tool: execFileSync('tool').toString(), write };
		};`)}, *modules.LayerVersionArn, *top.LayerVersionArn)
	type seen struct {
		Greet, Text, Tool, Write string
		Only                     bool
	}
	got, _ := lab.Do[seen](t, c, "node", nil)
	if diff := cmp.Diff(seen{"hello you", "from the second layer", "from a tool\n", "EACCES", true}, got); diff != "" {
		t.Error(diff)
	}
	// The order is what decides; and another set of layers is another container.
	if _, err := c.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("node"), Layers: []string{*top.LayerVersionArn, *modules.LayerVersionArn}}); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "node")
	if got, _ := lab.Do[seen](t, c, "node", nil); got.Text != "from the first layer" {
		t.Errorf("in the other order the text is %q", got.Text)
	}
	// What is deleted goes on working, also for a new container.
	for _, l := range []*lambda.PublishLayerVersionOutput{modules, top} {
		if _, err := c.DeleteLayerVersion(t.Context(), &lambda.DeleteLayerVersionInput{LayerName: l.LayerArn, VersionNumber: aws.Int64(l.Version)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("node"), Environment: &types.Environment{Variables: map[string]string{"AB": "1"}}}); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "node")
	if got, _ := lab.Do[seen](t, c, "node", nil); got.Greet != "hello you" {
		t.Errorf("with deleted layers: %+v", got)
	}
	_, err := c.CreateFunction(t.Context(), func() *lambda.CreateFunctionInput {
		in := c.Input(node(t).function("late"))
		in.Layers = []string{*top.LayerVersionArn}
		return in
	}())
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "Layer version "+*top.LayerVersionArn+" does not exist.")
}

func TestLayersAreSeenByPython(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	one := publish(t, c, "one", lab.Files(map[string]string{"python/greet.py": "def greet(who):\n    return 'hello ' + who\n"}))
	createWith(t, c, lab.Function{Name: "py", Runtime: types.RuntimePython313, Handler: "index.handler", Zip: lab.File("index.py",
		"from greet import greet\ndef handler(event, context):\n    return greet('you')\n")}, *one.LayerVersionArn)
	if got, _ := lab.Do[string](t, c, "py", nil); got != "hello you" {
		t.Errorf("it says %q", got)
	}
}

func TestBootstrapMayComeInALayer(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	runtime := publish(t, c, "runtime", golang(t).zip)
	createWith(t, c, lab.Function{Name: "own", Runtime: types.RuntimeProvidedal2023, Handler: "any", Zip: lab.File("data.txt", "x")}, *runtime.LayerVersionArn)
	if got, _ := lab.Do[string](t, c, "own", op{"op": "echo", "value": "through /opt/bootstrap"}); got != "through /opt/bootstrap" {
		t.Errorf("it answers %q", got)
	}
}

func TestLayerVersionsByTheSDK(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	pkg := lab.File("f", "1")
	first := publish(t, c, "l", pkg)
	arn := "arn:aws:lambda:" + lab.Region + ":" + c.Account + ":layer:l"
	if aws.ToString(first.LayerArn) != arn || aws.ToString(first.LayerVersionArn) != arn+":1" || first.Version != 1 || first.Content.CodeSize != int64(len(pkg)) || !modifiedShape.MatchString(aws.ToString(first.CreatedDate)) {
		t.Errorf("published %+v", first)
	}
	publish(t, c, "l", pkg)
	if _, err := c.DeleteLayerVersion(t.Context(), &lambda.DeleteLayerVersionInput{LayerName: aws.String("l"), VersionNumber: aws.Int64(2)}); err != nil {
		t.Fatal(err)
	}
	if third := publish(t, c, "l", pkg); third.Version != 3 {
		t.Errorf("version %d follows a deleted 2", third.Version)
	}
	byARN, err := c.GetLayerVersionByArn(t.Context(), &lambda.GetLayerVersionByArnInput{Arn: first.LayerVersionArn})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(aws.ToString(byARN.Content.Location))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != string(pkg) {
		t.Errorf("its location has %d bytes, %v", len(body), err)
	}
	versions, err := c.ListLayerVersions(t.Context(), &lambda.ListLayerVersionsInput{LayerName: aws.String("l")})
	if err != nil || len(versions.LayerVersions) != 2 || versions.LayerVersions[0].Version != 3 {
		t.Errorf("%+v, %v", versions, err)
	}
	layers, err := c.ListLayers(t.Context(), &lambda.ListLayersInput{CompatibleRuntime: types.RuntimeNodejs22x})
	if err != nil || len(layers.Layers) != 1 || layers.Layers[0].LatestMatchingVersion.Version != 3 {
		t.Errorf("%+v, %v", layers, err)
	}
	if none, err := c.ListLayers(t.Context(), &lambda.ListLayersInput{CompatibleRuntime: types.RuntimePython313}); err != nil || len(none.Layers) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
	_, err = c.GetLayerVersion(t.Context(), &lambda.GetLayerVersionInput{LayerName: aws.String("l"), VersionNumber: aws.Int64(2)})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "The resource you requested does not exist.")
}

func TestSecurityLayerIsUsedByOthersOnlyWithPermission(t *testing.T) {
	t.Parallel()
	owner, other := newCaller(t), newCaller(t)
	l := publish(t, owner, "shared", lab.File("secret", "shared text"))
	f := lab.Function{Name: "theirs", Runtime: types.RuntimeNodejs22x, Handler: "index.handler",
		Zip: lab.File("index.js", `exports.handler = async () => require('fs').readFileSync('/opt/secret', 'utf8')`)}
	in := other.Input(f)
	in.Layers = []string{*l.LayerVersionArn}
	_, err := other.CreateFunction(t.Context(), in)
	wantCode(t, err, "AccessDeniedException", "User: arn:aws:iam::"+other.Account+":root is not authorized to perform: lambda:GetLayerVersion on resource: "+*l.LayerVersionArn+" because no resource-based policy allows the lambda:GetLayerVersion action")
	added, err := owner.AddLayerVersionPermission(t.Context(), &lambda.AddLayerVersionPermissionInput{LayerName: aws.String("shared"), VersionNumber: aws.Int64(1),
		StatementId: aws.String("other"), Action: aws.String("lambda:GetLayerVersion"), Principal: &other.Account})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := owner.GetLayerVersionPolicy(t.Context(), &lambda.GetLayerVersionPolicyInput{LayerName: aws.String("shared"), VersionNumber: aws.Int64(1)})
	if err != nil || !strings.Contains(aws.ToString(policy.Policy), aws.ToString(added.Statement)) || aws.ToString(policy.RevisionId) != aws.ToString(added.RevisionId) {
		t.Errorf("%+v, %v", policy, err)
	}
	createWith(t, other, f, *l.LayerVersionArn)
	if got, _ := lab.Do[string](t, other, "theirs", nil); got != "shared text" {
		t.Errorf("it reads %q", got)
	}
	if _, err := owner.RemoveLayerVersionPermission(t.Context(), &lambda.RemoveLayerVersionPermissionInput{LayerName: aws.String("shared"), VersionNumber: aws.Int64(1), StatementId: aws.String("other")}); err != nil {
		t.Fatal(err)
	}
	_, err = other.GetLayerVersion(t.Context(), &lambda.GetLayerVersionInput{LayerName: l.LayerArn, VersionNumber: aws.Int64(1)})
	wantCode(t, err, "AccessDeniedException", "")
}
