package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// fakeImages has the image r.test/app:v1.
type fakeImages struct{ architectures []string }

const testDigest = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

func (f *fakeImages) Resolve(_ context.Context, uri, architecture string) (string, lambent.CodeHash, error) {
	f.architectures = append(f.architectures, architecture)
	if uri != "r.test/app:v1" {
		return "", "", &lambent.Error{Kind: lambent.KindInvalid, Reason: "ImageDeleted", Message: "Source image " + uri + " does not exist. Provide a valid source image."}
	}
	return "r.test/app@sha256:e3b0", testDigest, nil
}

func withImages(o *Options) { o.Images = &fakeImages{} }

// createImage makes a function of an image and adds to what must be given.
func (d *door) createImage(t *testing.T, name string, extra ...any) answer {
	t.Helper()
	return d.create(t, name, append([]any{"Runtime", nil, "Handler", nil, "PackageType", "Image", "Code", m{"ImageUri": "r.test/app:v1"}}, extra...)...)
}

func TestFunctionOfAnImageIsShownAsAWSShowsIt(t *testing.T) {
	d := newDoor(t, withImages)
	got := d.createImage(t, "f", "ImageConfig", m{"EntryPoint": []any{"/e"}, "Command": []any{"a", "b"}, "WorkingDirectory": "/w"})
	if got.status != http.StatusCreated {
		t.Fatal(got.raw)
	}
	const hexDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for name, want := range map[string]any{"PackageType": "Image", "CodeSha256": hexDigest, "CodeSize": 0.0, "Runtime": nil, "Handler": nil, "RuntimeVersionConfig": nil,
		"ImageConfigResponse": map[string]any{"ImageConfig": map[string]any{"EntryPoint": []any{"/e"}, "Command": []any{"a", "b"}, "WorkingDirectory": "/w"}}} {
		if diff := cmp.Diff(want, got.body[name]); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	f := d.do(t, "GET", functionsPath+"/f", "")
	if diff := cmp.Diff(map[string]any{"RepositoryType": "ECR", "ImageUri": "r.test/app:v1", "ResolvedImageUri": "r.test/app@sha256:e3b0"}, f.body["Code"]); diff != "" {
		t.Error(diff)
	}
	got = d.do(t, "PUT", functionsPath+"/f/configuration", `{"ImageConfig":{"Command":["c"]}}`)
	if diff := cmp.Diff(map[string]any{"ImageConfig": map[string]any{"EntryPoint": []any{"/e"}, "Command": []any{"c"}, "WorkingDirectory": "/w"}}, got.body["ImageConfigResponse"]); diff != "" {
		t.Errorf("%s\n%s", got.raw, diff)
	}
	got = d.do(t, "PUT", functionsPath+"/f/configuration", `{"ImageConfig":{"EntryPoint":[],"Command":[],"WorkingDirectory":""}}`)
	if _, there := got.body["ImageConfigResponse"]; there || got.status != http.StatusOK {
		t.Errorf("emptied: %s", got.raw)
	}
	if got := d.do(t, "PUT", functionsPath+"/f/code", `{"ImageUri":"r.test/app:v1","DryRun":true}`); got.status != http.StatusOK || got.body["CodeSha256"] != hexDigest {
		t.Error(got.raw)
	}
	if got := storedHash(hexDigest); got != testDigest {
		t.Errorf("the digest shown is stored as %s", got)
	}
	if got := storedHash(testDigest); got != testDigest {
		t.Errorf("a package's hash becomes %s", got)
	}
}

func TestWhatDoesNotGoWithAnImageIsRefused(t *testing.T) {
	d := newDoor(t, withImages)
	d.createImage(t, "image")
	d.create(t, "zip")
	d.publish(t, "l", nil)
	update := func(name, what, body string) answer {
		return d.do(t, "PUT", functionsPath+"/"+name+"/"+what, body)
	}
	for _, test := range []struct {
		name string
		got  answer
		want string
	}{
		{"runtime", d.createImage(t, "f", "Runtime", "nodejs22.x"), "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."},
		{"handler", d.createImage(t, "f", "Handler", "a.b"), "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."},
		{"layers", d.createImage(t, "f", "Layers", []any{layerARN + "l:1"}), "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."},
		{"no code", d.createImage(t, "f", "Code", m{}), "Please provide ImageUri, and no other code, for a function with packageType Image."},
		{"zip", d.createImage(t, "f", "Code", m{"ImageUri": "r.test/app:v1", "ZipFile": "eA=="}), "Please provide ImageUri, and no other code, for a function with packageType Image."},
		{"not there", d.createImage(t, "f", "Code", m{"ImageUri": "r.test/app:v2"}), "Source image r.test/app:v2 does not exist. Provide a valid source image."},
		{"image of a zip", d.create(t, "f", "Code", m{"ImageUri": "r.test/app:v1"}), "Please don't provide ImageUri for a function with packageType Zip."},
		{"ImageConfig of a zip", d.create(t, "f", "ImageConfig", m{"Command": []any{"x"}}), "Please don't provide ImageConfig for a function with packageType Zip."},
		{"update to a zip", update("image", "code", `{"ZipFile":"eA=="}`), "Please provide ImageUri when updating a function with packageType Image."},
		{"update to S3", update("image", "code", `{"S3Bucket":"abc","S3Key":"k"}`), "Please provide ImageUri when updating a function with packageType Image."},
		{"update to nothing", update("image", "code", `{}`), "Please provide ImageUri when updating a function with packageType Image."},
		{"update to an image", update("zip", "code", `{"ImageUri":"r.test/app:v1"}`), "Please don't provide ImageUri when updating a function with packageType Zip."},
		{"configure a runtime", update("image", "configuration", `{"Runtime":"nodejs22.x"}`), "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."},
		{"configure ImageConfig", update("zip", "configuration", `{"ImageConfig":{"WorkingDirectory":"/"}}`), "Please don't provide ImageConfig for a function with packageType Zip."},
	} {
		t.Run(test.name, func(t *testing.T) {
			if text := test.got.wantError(t, 400, "InvalidParameterValueException"); text != test.want {
				t.Errorf("says %q", text)
			}
		})
	}
	if text := newDoor(t).createImage(t, "f").wantError(t, 400, "InvalidParameterValueException"); !strings.Contains(text, "images.registries") {
		t.Errorf("without images configured: %q", text)
	}
}

func TestImagesAreNotSigned(t *testing.T) {
	d := realDoor(t, withImages)
	got := d.do(t, "POST", "/2020-04-22/code-signing-configs", `{"AllowedPublishers":{"SigningProfileVersionArns":["arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/abc"]}}`)
	config, _ := got.body["CodeSigningConfig"].(map[string]any)
	d.createImage(t, "image")
	for what, got := range map[string]answer{
		"create": d.createImage(t, "f", "CodeSigningConfigArn", config["CodeSigningConfigArn"]),
		"put":    d.do(t, "PUT", "/2020-06-30/functions/image/code-signing-config", `{"CodeSigningConfigArn":"`+fmt.Sprint(config["CodeSigningConfigArn"])+`"}`),
	} {
		if text := got.wantError(t, 400, "InvalidParameterValueException"); text != "Functions of the package type Image do not support code signing." {
			t.Errorf("%s says %q", what, text)
		}
	}
}
