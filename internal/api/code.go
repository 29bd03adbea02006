package api

import (
	"errors"
	"fmt"

	"lambent"
)

// codeSource is where a request says the code is: FunctionCode's members,
// which UpdateFunctionCode has at its top.
type codeSource struct {
	ZipFile         []byte
	S3Bucket        *string
	S3Key           *string
	S3ObjectVersion *string
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
	v.str(prefix+"sourceKMSKeyArn", s.SourceKMSKeyArn, sh.kmsKeyArn...)
}

// zipPackage is a deployment package that was found to be sound.
type zipPackage struct {
	bytes    []byte
	unpacked int64 // bytes
}

// zip returns the deployment package, checked. This build takes it from the
// request and from nowhere else.
func (a *API) zip(operation string, s *codeSource) (zipPackage, error) {
	switch {
	case len(s.ZipFile) > lambent.MaxZipped:
		return zipPackage{}, &lambent.Error{Op: operation, Kind: lambent.KindRequestTooLarge,
			Message: fmt.Sprintf("Zipped size must be smaller than %d bytes", lambent.MaxZipped)}
	case s.ZipFile != nil && (s.S3Bucket != nil || s.S3Key != nil || s.S3ObjectVersion != nil || s.ImageURI != nil):
		return zipPackage{}, invalid(operation, "Please do not provide other FunctionCode parameters when providing a ZipFile.")
	case s.S3Bucket != nil || s.S3Key != nil || s.S3ObjectVersion != nil:
		return zipPackage{}, invalid(operation, "This build of lambent takes code as ZipFile only: it cannot fetch S3Bucket and S3Key.")
	case s.ImageURI != nil:
		return zipPackage{}, invalid(operation, "This build of lambent takes code as ZipFile only: it cannot run the image of ImageUri.")
	case s.ZipFile == nil:
		return zipPackage{}, invalid(operation, "Please provide a source for function code.")
	case nonEmpty(s.SourceKMSKeyArn):
		return zipPackage{}, unsupportedField(operation, "SourceKMSKeyArn")
	}
	unpacked, err := a.checkPackage(s.ZipFile)
	if err != nil {
		if _, ok := errors.AsType[*lambent.Error](err); ok {
			return zipPackage{}, err
		}
		return zipPackage{}, &lambent.Error{Op: operation, Kind: lambent.KindInvalid, Err: err,
			Message: "Could not unzip uploaded file. Please check your file, then try to upload again."}
	}
	return zipPackage{s.ZipFile, unpacked}, nil
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
