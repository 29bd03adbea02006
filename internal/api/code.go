package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"lambent"
)

// codeSource is where a request says the code is: FunctionCode's members,
// which UpdateFunctionCode has at its top.
type codeSource struct {
	ZipFile         []byte
	S3Bucket        *string
	S3Key           *string
	S3ObjectVersion *string
	StorageMode     *string // S3ObjectStorageMode
	ImageURI        *string
	SourceKMSKeyArn *string
}

func (s *codeSource) member(d *decoder, name string) error {
	if known, err := s.known(d, name); known {
		return err
	}
	return d.skip()
}

func (s *codeSource) known(d *decoder, name string) (known bool, err error) {
	switch name {
	case "ZipFile":
		err = d.blob(&s.ZipFile)
	case "S3Bucket":
		err = d.str(&s.S3Bucket)
	case "S3Key":
		err = d.str(&s.S3Key)
	case "S3ObjectVersion":
		err = d.str(&s.S3ObjectVersion)
	case "S3ObjectStorageMode":
		err = d.str(&s.StorageMode)
	case "ImageUri":
		err = d.str(&s.ImageURI)
	case "SourceKMSKeyArn":
		err = d.str(&s.SourceKMSKeyArn)
	default:
		return false, nil
	}
	return true, err
}

func (s *codeSource) check(v *violations, sh *shapes, prefix string) {
	v.str(prefix+"s3Bucket", s.S3Bucket, sh.s3Bucket...)
	v.str(prefix+"s3Key", s.S3Key, sh.s3Key...)
	v.str(prefix+"s3ObjectVersion", s.S3ObjectVersion, sh.s3ObjectVersion...)
	v.str(prefix+"s3ObjectStorageMode", s.StorageMode, sh.storageMode...)
	v.str(prefix+"sourceKMSKeyArn", s.SourceKMSKeyArn, sh.kmsKeyArn...)
}

// zipPackage is a deployment package that was found to be sound.
type zipPackage struct {
	bytes    []byte
	unpacked int64  // bytes
	folder   string // of this machine, that the code is to follow; empty for none
}

// hotReload is the bucket that stands for the folders of this machine: the
// convention of local tooling.
const hotReload = "hot-reload"

// zip returns the deployment package, checked: of the request, of the object
// store, or of a folder.
func (a *API) zip(c *call, operation string, s *codeSource) (zipPackage, error) {
	var p zipPackage
	var err error
	switch {
	case len(s.ZipFile) > lambent.MaxZipped:
		return zipPackage{}, &lambent.Error{Op: operation, Kind: lambent.KindRequestTooLarge,
			Message: fmt.Sprintf("Zipped size must be smaller than %d bytes", lambent.MaxZipped)}
	case s.ZipFile != nil && (s.S3Bucket != nil || s.S3Key != nil || s.S3ObjectVersion != nil || s.ImageURI != nil):
		return zipPackage{}, invalid(operation, "Please do not provide other FunctionCode parameters when providing a ZipFile.")
	case nonEmpty(s.SourceKMSKeyArn):
		return zipPackage{}, unsupportedField(operation, "SourceKMSKeyArn")
	case s.StorageMode != nil && *s.StorageMode != "COPY":
		return zipPackage{}, unsupportedField(operation, "S3ObjectStorageMode "+*s.StorageMode)
	case s.ImageURI != nil:
		return zipPackage{}, invalid(operation, "Please don't provide ImageUri for a function with packageType Zip.")
	case s.ZipFile != nil:
		p.bytes = s.ZipFile
	case s.S3Bucket != nil && s.S3Key != nil:
		p, err = a.storedZip(c, operation, s)
	case s.S3Bucket != nil || s.S3Key != nil || s.S3ObjectVersion != nil:
		err = invalid(operation, "Code in S3 is named by S3Bucket and S3Key: please provide both.")
	default:
		err = invalid(operation, "Please provide a source for function code.")
	}
	if err != nil {
		return zipPackage{}, err
	}
	if p.unpacked, err = a.checkPackage(p.bytes); err != nil {
		if _, ok := errors.AsType[*lambent.Error](err); ok {
			return zipPackage{}, err
		}
		return zipPackage{}, &lambent.Error{Op: operation, Kind: lambent.KindInvalid, Err: err,
			Message: "Could not unzip uploaded file. Please check your file, then try to upload again."}
	}
	return p, nil
}

// storedZip reads the package that a bucket and a key name.
func (a *API) storedZip(c *call, operation string, s *codeSource) (zipPackage, error) {
	if *s.S3Bucket == hotReload {
		if a.packFolder == nil {
			return zipPackage{}, invalid(operation, "S3Bucket "+hotReload+" stands for a folder of the server's machine, and this server serves none: its setting hot_reload names those it may serve.")
		}
		folder, pkg, err := a.packFolder(*s.S3Key)
		return zipPackage{bytes: pkg, folder: folder}, err
	}
	if a.fetchObject == nil {
		return zipPackage{}, invalid(operation, "This server knows no S3 to take S3Bucket and S3Key from: its setting s3.endpoint names one. Without it, provide the code as ZipFile.")
	}
	arn := "arn:" + partition + ":s3:::" + *s.S3Bucket + "/" + *s.S3Key
	if err := a.authorize(c, "s3:GetObject", arn, c.caller.Account, nil); err != nil {
		return zipPackage{}, err
	}
	object, size, err := a.fetchObject(c.r.Context(), c.caller.Account, *s.S3Bucket, *s.S3Key, text(s.S3ObjectVersion))
	if err != nil {
		return zipPackage{}, err
	}
	defer object.Close()
	if size < 0 {
		size = lambent.MaxUnzipped
	}
	if size > lambent.MaxUnzipped { // zipped, it is larger than it may be unzipped
		return zipPackage{}, invalid(operation, fmt.Sprintf("Unzipped size must be smaller than %d bytes", lambent.MaxUnzipped))
	}
	if err := a.reserve(c, size, true); err != nil {
		return zipPackage{}, err
	}
	pkg, err := readObject(object, size)
	if err != nil {
		return zipPackage{}, &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindUnavailable, Err: err,
			Message: "The object could not be read to its end. Try again."}
	}
	return zipPackage{bytes: pkg}, nil
}

// readObject reads at most size bytes; more are an error.
func readObject(r io.Reader, size int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, size+1))
	if err == nil && n > size {
		err = fmt.Errorf("it has more than the %d bytes that were told", size)
	}
	return b.Bytes(), err
}

// checkArchitectures refuses the one architecture this machine is not.
func (a *API) checkArchitectures(operation string, given []*string) error {
	for _, s := range given {
		if *s != a.architecture {
			return invalid(operation, fmt.Sprintf("This machine runs functions of the architecture %s only, not %s.", a.architecture, *s))
		}
	}
	return nil
}

// codeTooLarge is AWS's answer to a request that carries more than any package
// within its limits needs.
func codeTooLarge(operation string, limit int) *lambent.Error {
	return &lambent.Error{Op: operation, Kind: lambent.KindRequestTooLarge,
		Message: fmt.Sprintf("Request must be smaller than %d bytes for the %s operation", limit, operation)}
}
