package conformance

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lambent/conformance/lab"
)

func TestFunctionLivesFromCreateToDelete(t *testing.T) {
	t.Parallel()
	for _, l := range languages(t) {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			c := newCaller(t)
			name := "life-" + l.name
			created := c.Create(t, l.function(name))
			if created.State != types.StatePending || aws.ToString(created.StateReason) != "The function is being created." || created.StateReasonCode != types.StateReasonCodeCreating {
				t.Errorf("created with State %s, %q, %s, want Pending, %q, Creating", created.State, aws.ToString(created.StateReason), created.StateReasonCode, "The function is being created.")
			}
			if created.LastUpdateStatus != "" {
				t.Errorf("created with LastUpdateStatus %s, want none", created.LastUpdateStatus)
			}
			if got, _ := lab.Do[string](t, c, name, op{"op": "echo", "value": "hello"}); got != "hello" {
				t.Errorf("the first call answers %q", got)
			}

			updated, err := c.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
				FunctionName: &name, Environment: &types.Environment{Variables: map[string]string{"COLOUR": "grün"}}, Timeout: aws.Int32(7), Description: aws.String("new"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if updated.LastUpdateStatus != types.LastUpdateStatusInProgress || updated.LastUpdateStatusReasonCode != "Creating" || aws.ToString(updated.RevisionId) == aws.ToString(created.RevisionId) {
				t.Errorf("updated with LastUpdateStatus %s, %s, revision changed: %v; want InProgress, Creating, true",
					updated.LastUpdateStatus, updated.LastUpdateStatusReasonCode, aws.ToString(updated.RevisionId) != aws.ToString(created.RevisionId))
			}
			c.AwaitActive(t, name)
			env, _ := lab.Do[map[string]string](t, c, name, op{"op": "env"})
			if env["COLOUR"] != "grün" {
				t.Errorf("the call after the update sees COLOUR=%q, want grün", env["COLOUR"])
			}
			got, err := c.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
			if err != nil {
				t.Fatal(err)
			}
			if aws.ToInt32(got.Timeout) != 7 || aws.ToString(got.Description) != "new" || got.LastUpdateStatus != types.LastUpdateStatusSuccessful || aws.ToString(got.RevisionId) == aws.ToString(updated.RevisionId) {
				t.Errorf("after the update: timeout %d, description %q, status %s, revision changed %v",
					aws.ToInt32(got.Timeout), aws.ToString(got.Description), got.LastUpdateStatus, aws.ToString(got.RevisionId) != aws.ToString(updated.RevisionId))
			}

			c.Delete(t, name)
			_, err = c.Call(t.Context(), name, nil)
			wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "Function not found: "+c.ARN(name))
		})
	}
}

func TestNextCallSeesTheNewCode(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, lab.Function{Name: "code", Runtime: types.RuntimeNodejs22x, Handler: "index.handler",
		Zip: lab.File("index.js", `exports.handler = async () => 1`)})
	for version := 1; version <= 3; version++ {
		if got, a := lab.Do[int](t, c, "code", nil); got != version {
			t.Fatalf("version %d answers %d from container %s", version, got, a.ContainerID())
		}
		pkg := lab.File("index.js", fmt.Sprintf("exports.handler = async () => %d", version+1))
		out, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("code"), ZipFile: pkg})
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(pkg); aws.ToString(out.CodeSha256) != base64.StdEncoding.EncodeToString(sum[:]) || out.CodeSize != int64(len(pkg)) {
			t.Errorf("CodeSha256 %s, CodeSize %d", aws.ToString(out.CodeSha256), out.CodeSize)
		}
		c.AwaitActive(t, "code")
	}
}

var (
	uuidShape     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	modifiedShape = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$`)
)

func TestGetFunctionShowsWhatWasCreated(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	l := python(t)
	in := c.Input(l.function("shown"))
	in.Environment = &types.Environment{Variables: map[string]string{"A1": "1"}}
	in.Tags = map[string]string{"team": "blue"}
	in.Description = aws.String("what it is for")
	in.Timeout, in.MemorySize = nil, aws.Int32(256)
	if _, err := c.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "shown")
	got, err := c.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("shown")})
	if err != nil {
		t.Fatal(err)
	}
	conf := got.Configuration
	for what, ok := range map[string]bool{
		"RevisionId":   uuidShape.MatchString(aws.ToString(conf.RevisionId)),
		"LastModified": modifiedShape.MatchString(aws.ToString(conf.LastModified)),
	} {
		if !ok {
			t.Errorf("%s has another shape than AWS's: %s %s", what, aws.ToString(conf.RevisionId), aws.ToString(conf.LastModified))
		}
	}
	arch := types.ArchitectureX8664
	if runtime.GOARCH == "arm64" {
		arch = types.ArchitectureArm64
	}
	sum := sha256.Sum256(l.zip)
	want := &types.FunctionConfiguration{
		FunctionName: aws.String("shown"), FunctionArn: aws.String(c.ARN("shown")), Runtime: l.runtime, Handler: &l.handler, Role: c.Role(),
		Description: aws.String("what it is for"), Timeout: aws.Int32(3), MemorySize: aws.Int32(256), CodeSize: int64(len(l.zip)),
		CodeSha256: aws.String(base64.StdEncoding.EncodeToString(sum[:])), Version: aws.String("$LATEST"),
		Environment:   &types.EnvironmentResponse{Variables: map[string]string{"A1": "1"}},
		TracingConfig: &types.TracingConfigResponse{Mode: types.TracingModePassThrough},
		State:         types.StateActive, LastUpdateStatus: types.LastUpdateStatusSuccessful, PackageType: types.PackageTypeZip,
		Architectures: []types.Architecture{arch}, EphemeralStorage: &types.EphemeralStorage{Size: aws.Int32(512)},
		SnapStart:     &types.SnapStartResponse{ApplyOn: types.SnapStartApplyOnNone, OptimizationStatus: types.SnapStartOptimizationStatusOff},
		LoggingConfig: &types.LoggingConfig{LogFormat: types.LogFormatText, LogGroup: aws.String("/aws/lambda/shown")},
	}
	ignore := []cmp.Option{
		cmpopts.IgnoreFields(types.FunctionConfiguration{}, "RevisionId", "LastModified", "RuntimeVersionConfig"),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".noSmithyDocumentSerde" }, cmp.Ignore()),
		cmpopts.IgnoreTypes(middleware.Metadata{}),
	}
	if diff := cmp.Diff(want, conf, ignore...); diff != "" {
		t.Errorf("GetFunction's Configuration (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"team": "blue"}, got.Tags); diff != "" {
		t.Errorf("GetFunction's Tags (-want +got):\n%s", diff)
	}
	if aws.ToString(got.Code.RepositoryType) != "S3" {
		t.Errorf("Code.RepositoryType is %q, want S3", aws.ToString(got.Code.RepositoryType))
	}
	resp, err := http.Get(aws.ToString(got.Code.Location))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if pkg, err := io.ReadAll(resp.Body); err != nil || !slices.Equal(pkg, l.zip) {
		t.Errorf("Code.Location gives %d bytes (%s, %v), want the package of %d", len(pkg), resp.Status, err, len(l.zip))
	}
}

func TestListFunctionsPagesThroughAllOfTheAccountsFunctions(t *testing.T) {
	t.Parallel()
	c, other := newCaller(t), newCaller(t)
	other.Create(t, python(t).function("not-mine"))
	var want []string
	for n := range 53 {
		f := python(t).function(fmt.Sprintf("f%02d", n))
		if _, err := c.CreateFunction(t.Context(), c.Input(f)); err != nil {
			t.Fatal(err)
		}
		want = append(want, f.Name)
	}
	for _, max := range []*int32{nil, aws.Int32(10), aws.Int32(10000)} {
		var got []string
		var pages []int
		p := lambda.NewListFunctionsPaginator(c, &lambda.ListFunctionsInput{MaxItems: max})
		for p.HasMorePages() {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range page.Functions {
				got = append(got, *f.FunctionName)
			}
			pages = append(pages, len(page.Functions))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with MaxItems %v all pages (-want +got):\n%s", aws.ToInt32(max), diff)
		}
		wantPages := []int{50, 3}
		if max != nil && *max == 10 {
			wantPages = []int{10, 10, 10, 10, 10, 3}
		}
		if diff := cmp.Diff(wantPages, pages); diff != "" {
			t.Errorf("with MaxItems %v sizes of pages (-want +got):\n%s", aws.ToInt32(max), diff)
		}
	}
	_, err := c.ListFunctions(t.Context(), &lambda.ListFunctionsInput{Marker: aws.String("made up!")})
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "")
}

func TestUpdatesAreRefusedForReasons(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	l := python(t)
	c.Create(t, l.function("guarded"))
	name, other := aws.String("guarded"), aws.String("0b9b3d0c-7d5c-4b6a-9f0e-111111111111")

	_, err := c.CreateFunction(t.Context(), c.Input(l.function("guarded")))
	wantError[*types.ResourceConflictException](t, err, "ResourceConflictException", "Function already exist: guarded")

	const stale = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
	_, err = c.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: name, RevisionId: other})
	wantError[*types.PreconditionFailedException](t, err, "PreconditionFailedException", stale)
	_, err = c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: name, RevisionId: other, ZipFile: l.zip})
	wantError[*types.PreconditionFailedException](t, err, "PreconditionFailedException", stale)

	before, err := c.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: name})
	if err != nil {
		t.Fatal(err)
	}
	dry, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: name, DryRun: true, ZipFile: lab.File("kit.py", "")})
	if err != nil {
		t.Fatal(err)
	}
	after, err := c.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: name})
	if err != nil {
		t.Fatal(err)
	}
	if *dry.CodeSha256 == *before.CodeSha256 || *after.CodeSha256 != *before.CodeSha256 || *after.RevisionId != *before.RevisionId {
		t.Errorf("a dry run changed the function, or did not tell what it would: before %s, dry %s, after %s", *before.CodeSha256, *dry.CodeSha256, *after.CodeSha256)
	}

	const missing = "absent"
	notFound := "Function not found: " + c.ARN(missing)
	_, err = c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String(missing), ZipFile: l.zip})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", notFound)
	_, err = c.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String(missing)})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", notFound)
	_, err = c.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String(missing)})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", notFound)
	_, err = c.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String(missing)})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", notFound)
}

func TestFunctionNamesInAllForms(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, node(t).function("named"))
	for _, name := range []string{"named", c.Account + ":function:named", "function:named", c.ARN("named"),
		"named:$LATEST", c.Account + ":function:named:$LATEST", c.ARN("named") + ":$LATEST"} {
		if got, _ := lab.Do[string](t, c, name, op{"op": "echo", "value": "x"}); got != "x" {
			t.Errorf("invoke %s answers %q", name, got)
		}
		got, err := c.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			t.Errorf("get %s: %v", name, err)
		} else if aws.ToString(got.FunctionName) != "named" {
			t.Errorf("get %s finds %s", name, aws.ToString(got.FunctionName))
		}
	}

	latest, err := c.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("named"), Qualifier: aws.String("$LATEST")})
	if err != nil {
		t.Fatal(err)
	}
	if got := aws.ToString(latest.FunctionArn); got != c.ARN("named")+":$LATEST" {
		t.Errorf("asked for with a qualifier the ARN is %s", got)
	}

	_, err = c.Call(t.Context(), "named:$LATEST", nil, func(in *lambda.InvokeInput) { in.Qualifier = aws.String("7") })
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "The derived qualifier from the function name does not match the specified qualifier.")
	_, err = c.Call(t.Context(), "named:7", nil)
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "Function not found: "+c.ARN("named")+":7")
	_, err = c.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("arn:aws:lambda:eu-west-1:" + c.Account + ":function:named")})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')")

	stranger := newCaller(t)
	_, err = stranger.Call(t.Context(), c.ARN("named"), nil)
	wantCode(t, err, "AccessDeniedException", "User: arn:aws:iam::"+stranger.Account+":root is not authorized to perform: lambda:InvokeFunction on resource: "+c.ARN("named")+
		" because no resource-based policy allows the lambda:InvokeFunction action")
	_, err = stranger.Call(t.Context(), "named", nil)
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "Function not found: "+stranger.ARN("named"))
}
