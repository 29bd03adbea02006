package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

func TestCodeIsTakenFromAStoreThatSpeaksS3(t *testing.T) {
	t.Parallel()
	store := lab.NewS3(t)
	answering := func(text string) []byte {
		return lab.File("index.js", fmt.Sprintf("exports.handler = async () => %q", text))
	}
	store.Put("code", "dir/ä b+c.zip", "", answering("current"))
	store.Put("code", "dir/ä b+c.zip", "v1", answering("old"))
	store.Put("code", "layer.zip", "", lab.File("text", "of a layer"))
	store.Put("code", "no.zip", "", []byte("no zip"))
	s := newServer(t, append(store.Flags(), "--s3-buckets", "code,none")...)
	c := s.Caller(t, fix.accounts.Next())
	in := c.Input(lab.Function{Name: "stored", Runtime: types.RuntimeNodejs22x, Handler: "index.handler"})
	in.Code = &types.FunctionCode{S3Bucket: aws.String("code"), S3Key: aws.String("dir/ä b+c.zip"), S3ObjectVersion: aws.String("v1")}
	if _, err := c.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "stored")
	if got, _ := lab.Do[string](t, c, "stored", nil); got != "old" {
		t.Errorf("the version answers %q", got)
	}
	update := func(bucket, key string) error {
		_, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("stored"), S3Bucket: &bucket, S3Key: &key})
		return err
	}
	if err := update("code", "dir/ä b+c.zip"); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "stored")
	if got, _ := lab.Do[string](t, c, "stored", nil); got != "current" {
		t.Errorf("after the update it answers %q", got)
	}
	const refused = "Error occurred while GetObject. S3 Error Code: "
	for _, test := range [][3]string{
		{"code", "none.zip", refused + "NoSuchKey. S3 Error Message: The specified key does not exist."},
		{"none", "none.zip", refused + "NoSuchBucket. S3 Error Message: The specified bucket does not exist"},
		{"other", "x.zip", refused + "AccessDenied. S3 Error Message: Access Denied"}, // not of s3.buckets
		{"code", "no.zip", "Could not unzip uploaded file. Please check your file, then try to upload again."},
	} {
		wantError[*types.InvalidParameterValueException](t, update(test[0], test[1]), "InvalidParameterValueException", test[2])
	}
	layer, err := c.PublishLayerVersion(t.Context(), &lambda.PublishLayerVersionInput{LayerName: aws.String("l"), Content: &types.LayerVersionContentInput{S3Bucket: aws.String("code"), S3Key: aws.String("layer.zip")}})
	if err != nil {
		t.Fatal(err)
	}
	createWith(t, c, lab.Function{Name: "layered", Runtime: types.RuntimeNodejs22x, Handler: "index.handler",
		Zip: lab.File("index.js", `exports.handler = async () => require('fs').readFileSync('/opt/text', 'utf8')`)}, *layer.LayerVersionArn)
	if got, _ := lab.Do[string](t, c, "layered", nil); got != "of a layer" {
		t.Errorf("it reads %q", got)
	}
}

func TestFolderIsServedAndAChangeOnDiskIsServedNext(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	folder := filepath.Join(root, "app")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, "index.js"), fmt.Appendf(nil, "exports.handler = async () => %q", text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	data := newData(t)
	flags := []string{"--hot-reload", root}
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: flags})
	account := fix.accounts.Next()
	c := s.Caller(t, account)
	in := c.Input(lab.Function{Name: "hot", Runtime: types.RuntimeNodejs22x, Handler: "index.handler"})
	in.Code = &types.FunctionCode{S3Bucket: aws.String("hot-reload"), S3Key: &folder}
	if _, err := c.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "hot")
	// await calls until the function answers so, and never with an error.
	await := func(want string) {
		t.Helper()
		for end := time.Now().Add(lab.Patience); ; {
			got, _ := lab.Do[string](t, c, "hot", nil)
			if got == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("it answers %q, want %q", got, want)
			}
		}
	}
	await("first")
	for k := range 3 {
		text := fmt.Sprint("change ", k)
		write(text)
		await(text)
	}
	in.FunctionName, in.Code = aws.String("outside"), &types.FunctionCode{S3Bucket: aws.String("hot-reload"), S3Key: aws.String("/usr/share")}
	_, err := c.CreateFunction(t.Context(), in)
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "This server's setting hot_reload names no folder that /usr/share is in: add it there, or use a folder that is.")

	// What changes while the server is down is served after its start.
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	write("meanwhile")
	c = lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: flags}).Caller(t, account)
	await("meanwhile")
	// Other code ends it.
	if _, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("hot"), ZipFile: lab.File("index.js", `exports.handler = async () => "uploaded"`)}); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "hot")
	await("uploaded")
}
