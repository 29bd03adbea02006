package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"lambent/conformance/lab"
)

// told is what the functions of these tests answer: who they are, and by which
// ARN they were called.
type told struct {
	Code    int
	Version string
	ARN     string
}

// coded is code that answers with a number of its own.
func coded(n int) []byte {
	return lab.File("index.js", fmt.Sprintf("exports.handler = async (e, c) => ({Code: %d, Version: process.env.AWS_LAMBDA_FUNCTION_VERSION, ARN: c.invokedFunctionArn})", n))
}

func codedFunction(name string, n int) lab.Function {
	return lab.Function{Name: name, Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: coded(n)}
}

// published makes a function with versions 1 to n, of code of their number, and
// waits until all is settled. $LATEST is as the last.
func published(t *testing.T, c *lab.Caller, name string, n int) {
	t.Helper()
	c.Create(t, codedFunction(name, 1))
	for k := 1; k <= n; k++ {
		if k > 1 {
			if _, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: coded(k)}); err != nil {
				t.Fatal(err)
			}
			c.AwaitActive(t, name)
		}
		out, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: &name})
		if err != nil {
			t.Fatal(err)
		}
		if aws.ToString(out.Version) != fmt.Sprint(k) || aws.ToString(out.FunctionArn) != c.ARN(name)+":"+fmt.Sprint(k) || out.State != types.StateActive {
			t.Fatalf("published version %s, %s, %s", aws.ToString(out.Version), aws.ToString(out.FunctionArn), out.State)
		}
	}
}

func qualified(qualifier string) lab.Option {
	return func(in *lambda.InvokeInput) { in.Qualifier = &qualifier }
}

func TestVersionsAndAliasesAreCalledSideBySide(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	published(t, c, "sided", 2)
	if _, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("sided"), ZipFile: coded(3)}); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "sided")
	for name, version := range map[string]string{"old": "1", "new": "2", "newest": "$LATEST"} {
		out, err := c.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: aws.String("sided"), Name: &name, FunctionVersion: &version})
		if err != nil || aws.ToString(out.AliasArn) != c.ARN("sided")+":"+name {
			t.Fatalf("alias %s: %v", name, err)
		}
	}
	containers := map[string]string{}
	for round := range 2 {
		for qualifier, want := range map[string]told{
			"":  {3, "$LATEST", c.ARN("sided")},
			"1": {1, "1", c.ARN("sided") + ":1"}, "2": {2, "2", c.ARN("sided") + ":2"}, "$LATEST": {3, "$LATEST", c.ARN("sided") + ":$LATEST"},
			"old": {1, "1", c.ARN("sided") + ":old"}, "new": {2, "2", c.ARN("sided") + ":new"}, "newest": {3, "$LATEST", c.ARN("sided") + ":newest"},
		} {
			options := []lab.Option{qualified(qualifier)}
			if qualifier == "" {
				options = nil
			}
			got, a := lab.Do[told](t, c, "sided", nil, options...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("round %d, by %q (-want +got):\n%s", round, qualifier, diff)
			}
			if aws.ToString(a.ExecutedVersion) != want.Version || a.Header.Get("X-Lambent-Served-Version") != want.Version {
				t.Errorf("by %q: executed %s, served %s", qualifier, aws.ToString(a.ExecutedVersion), a.Header.Get("X-Lambent-Served-Version"))
			}
			if before, ok := containers[want.Version]; ok && before != a.ContainerID() {
				t.Errorf("by %q: version %s in container %s and %s", qualifier, want.Version, before, a.ContainerID())
			}
			containers[want.Version] = a.ContainerID()
		}
	}
	if len(containers) != 3 || containers["1"] == containers["2"] || containers["1"] == containers["$LATEST"] {
		t.Errorf("versions share containers: %v", containers)
	}
	// An update of $LATEST leaves the containers of published versions alone.
	if _, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("sided"), ZipFile: coded(4)}); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "sided")
	for _, version := range []string{"1", "2"} {
		if _, a := lab.Do[told](t, c, "sided", nil, qualified(version)); a.ContainerID() != containers[version] {
			t.Errorf("version %s has moved from %s to %s", version, containers[version], a.ContainerID())
		}
	}
	// The deletion of the function ends them all.
	c.Delete(t, "sided")
	lab.Eventually(t, "all containers of the function are gone", func() error {
		all, err := c.Server.Containers()
		if err != nil {
			return err
		}
		for _, container := range all {
			if container.Account == c.Account {
				return fmt.Errorf("container %s of version %s is %s", container.ContainerID, container.Version, container.State)
			}
		}
		return nil
	})
	_, err := c.Call(t.Context(), "sided", nil, qualified("1"))
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "Function not found: "+c.ARN("sided")+":1")
}

func TestPublishingFollowsAWS(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	name := aws.String("pub")
	in := c.Input(codedFunction("pub", 1))
	in.Publish = true
	created, err := c.CreateFunction(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(created.Version) != "1" || aws.ToString(created.FunctionArn) != c.ARN("pub") || created.State != types.StatePending {
		t.Errorf("created version %s, %s, %s", aws.ToString(created.Version), aws.ToString(created.FunctionArn), created.State)
	}
	active := lambda.NewPublishedVersionActiveWaiter(c.Client)
	if err := active.Wait(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: name, Qualifier: aws.String("1")}, lab.Patience); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "pub")
	again, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: name, Description: aws.String("other")})
	if err != nil || aws.ToString(again.Version) != "1" || aws.ToString(again.Description) != "" {
		t.Fatalf("nothing new was published as version %s, %v", aws.ToString(again.Version), err)
	}
	_, err = c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: name, RevisionId: created.RevisionId})
	wantError[*types.PreconditionFailedException](t, err, "PreconditionFailedException", "")
	_, err = c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: name, CodeSha256: aws.String("x")})
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException",
		"CodeSHA256 (x) is different from current CodeSHA256 in $LATEST ("+aws.ToString(created.CodeSha256)+"). Please try again with the CodeSHA256 in $LATEST.")
	updated, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: name, ZipFile: coded(2), Publish: true})
	if err != nil || aws.ToString(updated.Version) != "2" || aws.ToString(updated.FunctionArn) != c.ARN("pub")+":2" || updated.LastUpdateStatus != "" {
		t.Fatalf("updated to version %s, %s, %s; %v", aws.ToString(updated.Version), aws.ToString(updated.FunctionArn), updated.LastUpdateStatus, err)
	}
	c.AwaitActive(t, "pub")
	var versions []string
	pages := lambda.NewListVersionsByFunctionPaginator(c.Client, &lambda.ListVersionsByFunctionInput{FunctionName: name, MaxItems: aws.Int32(1)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			versions = append(versions, aws.ToString(v.Version))
			if want := c.ARN("pub") + ":" + aws.ToString(v.Version); aws.ToString(v.FunctionArn) != want {
				t.Errorf("listed as %s, want %s", aws.ToString(v.FunctionArn), want)
			}
		}
	}
	if !slices.Equal(versions, []string{"$LATEST", "1", "2"}) {
		t.Errorf("listed %v", versions)
	}
	all, err := c.ListFunctions(t.Context(), &lambda.ListFunctionsInput{FunctionVersion: types.FunctionVersionAll})
	if err != nil || len(all.Functions) != 3 {
		t.Errorf("all versions of all functions: %d, %v", len(all.Functions), err)
	}
	if _, err := c.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: name, Name: aws.String("live"), FunctionVersion: aws.String("1")}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: name, Qualifier: aws.String("1")})
	wantError[*types.ResourceConflictException](t, err, "ResourceConflictException", "Unable to delete version because the following aliases reference it: [live]")
	_, err = c.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: name, Qualifier: aws.String("$LATEST")})
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "")
	if _, err = c.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: name, Qualifier: aws.String("2")}); err != nil {
		t.Error(err)
	}
	c.Delete(t, "pub")
	if created, err = c.CreateFunction(t.Context(), in); err != nil || aws.ToString(created.Version) != "3" {
		t.Errorf("a number was given away again: %s, %v", aws.ToString(created.Version), err)
	}
	c.AwaitActive(t, "pub")
	c.Delete(t, "pub")
}

// Of 10,000 calls each version gets its share, within 2 points.
func TestAnAliasShiftsCallsByWeight(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	published(t, c, "shifted", 2)
	name, alias := aws.String("shifted"), aws.String("live")
	made, err := c.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: name, Name: alias, FunctionVersion: aws.String("1"),
		RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"2": 0.25}}})
	if err != nil {
		t.Fatal(err)
	}
	const calls, callers = 10_000, 8
	var second, left atomic.Int64
	left.Store(calls)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				r := c.HTTP(t, http.MethodPost, "/2015-03-31/functions/shifted:live/invocations", []byte("{}"))
				var got told
				if err := json.Unmarshal(r.Body, &got); r.Status != 200 || err != nil || got.Version != r.Header.Get("X-Amz-Executed-Version") || fmt.Sprint(got.Code) != got.Version || got.ARN != c.ARN("shifted")+":live" {
					t.Errorf("%d %s executed %s", r.Status, r.Body, r.Header.Get("X-Amz-Executed-Version"))
					return
				}
				if got.Version == "2" {
					second.Add(1)
				}
			}
		})
	}
	all.Wait()
	if share := float64(second.Load()) / calls; share < 0.23 || share > 0.27 {
		t.Errorf("version 2 has %.1f %% of the calls, want 25", 100*share)
	}
	moved, err := c.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: name, Name: alias, FunctionVersion: aws.String("2"), RevisionId: made.RevisionId,
		RoutingConfig: &types.AliasRoutingConfiguration{}})
	if err != nil || moved.RoutingConfig != nil {
		t.Fatalf("%+v, %v", moved, err)
	}
	for range 20 {
		if got, _ := lab.Do[told](t, c, "shifted", nil, qualified("live")); got.Version != "2" {
			t.Fatalf("after the alias was moved version %s is called", got.Version)
		}
	}
}
