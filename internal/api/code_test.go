package api

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"lambent"
)

func TestCodeComesFromTheObjectStore(t *testing.T) {
	pkg := string(testZip(t))
	var asked []string
	content, size := pkg, int64(len(pkg))
	var fail error
	d := newDoor(t, func(o *Options) {
		o.FetchObject = func(_ context.Context, account lambent.AccountID, bucket, key, version string) (io.ReadCloser, int64, error) {
			asked = append(asked, strings.Join([]string{string(account), bucket, key, version}, " "))
			return io.NopCloser(strings.NewReader(content)), size, fail
		}
	})
	const code = `{"S3Bucket":"code","S3Key":"k","S3ObjectVersion":"v"}`
	source := map[string]any{"S3Bucket": "code", "S3Key": "k", "S3ObjectVersion": "v", "S3ObjectStorageMode": "COPY"}
	if got := d.create(t, "f", "Code", source); got.status != http.StatusCreated || got.body["CodeSize"] != float64(len(pkg)) {
		t.Fatal(got.raw)
	}
	size = -1 // not told
	if got := d.do(t, "PUT", functionsPath+"/f/code", code); got.status != http.StatusOK {
		t.Error(got.raw)
	}
	if got := d.publish(t, "l", map[string]any{"Content": source}); got.status != http.StatusCreated {
		t.Error(got.raw)
	}
	if len(asked) != 3 || asked[0] != "000000000000 code k v" {
		t.Errorf("asked %q", asked)
	}
	put := func() refusal { return refusal{d.do(t, "PUT", functionsPath+"/f/code", code)} }
	content = "no zip"
	put().refused(t, "Could not unzip uploaded file. Please check your file, then try to upload again.")
	size = lambent.MaxUnzipped + 1
	put().refused(t, "Unzipped size must be smaller than 262144000 bytes")
	size = int64(len(content)) - 1
	if got := put(); got.status != http.StatusServiceUnavailable {
		t.Errorf("an object of more bytes than were told: %d %s", got.status, got.raw)
	}
	fail = &lambent.Error{Kind: lambent.KindInvalid, Message: "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist."}
	put().refused(t, "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.")
	for body, want := range map[string]string{
		`{"S3Bucket":"code"}`: "Code in S3 is named by S3Bucket and S3Key: please provide both.",
		`{"S3Bucket":"code","S3Key":"k","S3ObjectStorageMode":"REFERENCE"}`: "lambent does not support S3ObjectStorageMode REFERENCE yet: leave it out, or empty.",
		`{"S3Bucket":"hot-reload","S3Key":"/srv"}`:                          "S3Bucket hot-reload stands for a folder of the server's machine, and this server serves none: its setting hot_reload names those it may serve.",
	} {
		refusal{d.do(t, "PUT", functionsPath+"/f/code", body)}.refused(t, want)
	}
	if n := d.bodies.inFlight(); n != 0 {
		t.Errorf("%d bytes of the body budget are still taken", n)
	}
}

// refusal is an answer that ought to be a refusal.
type refusal struct{ answer }

func (a refusal) refused(t *testing.T, want string) {
	t.Helper()
	if text := a.wantError(t, 400, "InvalidParameterValueException"); text != want {
		t.Errorf("says %q, want %q", text, want)
	}
}

func TestObjectsNeedTheCallersPermission(t *testing.T) {
	caller := ann(t, `{"Effect":"Allow","Action":["lambda:*","iam:PassRole"],"Resource":"*"}`)
	d := newDoor(t, askedBy(&caller), func(o *Options) {
		o.FetchObject = func(context.Context, lambent.AccountID, string, string, string) (io.ReadCloser, int64, error) {
			return nil, 0, errors.New("asked")
		}
	})
	text := d.create(t, "f", "Role", "arn:aws:iam::"+ownAccount+":role/r", "Code", map[string]any{"S3Bucket": "code", "S3Key": "k"}).wantError(t, 403, "AccessDeniedException")
	if !strings.Contains(text, "s3:GetObject on resource: arn:aws:s3:::code/k") {
		t.Errorf("says %q", text)
	}
}

func TestFunctionFollowsAFolderUntilItIsGivenOtherCode(t *testing.T) {
	pkg := testZip(t)
	d := newDoor(t, func(o *Options) {
		o.PackFolder = func(path string) (string, []byte, error) {
			if path != "/srv/f" {
				return "", nil, &lambent.Error{Kind: lambent.KindInvalid, Message: "not there"}
			}
			return "/real/f", pkg, nil
		}
	})
	if got := d.create(t, "f", "Code", map[string]any{"S3Bucket": "hot-reload", "S3Key": "/srv/f"}); got.status != http.StatusCreated || d.functions.byName["f"].HotFolder != "/real/f" {
		t.Fatal(got.raw)
	}
	d.create(t, "g", "Code", map[string]any{"S3Bucket": "hot-reload", "S3Key": "/etc"}).wantError(t, 400, "InvalidParameterValueException")
	d.publish(t, "l", map[string]any{"Content": map[string]any{"S3Bucket": "hot-reload", "S3Key": "/srv/f"}}).wantError(t, 400, "InvalidParameterValueException")
	if got := d.do(t, "PUT", functionsPath+"/f/code", `{"ZipFile":"`+base64.StdEncoding.EncodeToString(pkg)+`"}`); got.status != http.StatusOK || d.functions.byName["f"].HotFolder != "" {
		t.Errorf("%s %q", got.raw, d.functions.byName["f"].HotFolder)
	}
}
