package config

import (
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"lambent"
)

// bucketPattern is what may stand in s3.buckets.
var bucketPattern = regexp.MustCompile(`^(\d{12}/)?[0-9A-Za-z._-]*\*?$`)

// registryPattern is the shape of a registry's address.
var registryPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?$`)

// validateCode checks where code may come from.
func (c Config) validateCode(check func(ok bool, key, format string, args ...any)) {
	if c.S3Endpoint != "" {
		u, err := url.Parse(c.S3Endpoint)
		check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.User == nil,
			"s3.endpoint", "%q is not a base URL; one is https://s3.us-east-1.amazonaws.com", c.S3Endpoint)
	}
	check(regionPattern.MatchString(c.S3Region), "s3.region", "%q does not look like a region; one is us-east-1", c.S3Region)
	check(c.S3Credentials == "" || filepath.IsAbs(c.S3Credentials), "s3.credentials", "%q is not an absolute path of a file", c.S3Credentials)
	for _, b := range c.S3Buckets {
		check(bucketPattern.MatchString(b), "s3.buckets", "%q is not the name of a bucket; write NAME, ACCOUNT/NAME, or either with * at its end for any rest", b)
	}
	for _, r := range c.ImageRegistries {
		check(r == "*" || registryPattern.MatchString(r), "images.registries", "%q is not a registry; write its host and, if it has one, its port, as in registry.lan:5000", r)
	}
	for _, dir := range c.ImageLayouts {
		check(filepath.IsAbs(dir), "images.layouts", "%q is not an absolute path of a folder", dir)
	}
	check(c.ImageCredentials == "" || filepath.IsAbs(c.ImageCredentials), "images.credentials", "%q is not an absolute path of a file", c.ImageCredentials)
	for _, dir := range c.HotReload {
		check(filepath.IsAbs(dir), "hot_reload", "%q is not an absolute path of a folder", dir)
	}
	check(len(c.HotReload) == 0 || isLoopback(c.Listen), "hot_reload",
		"who may call the API may run, and so read, what is in these folders: with listen on %s that are others than this machine's users; listen on 127.0.0.1", c.Listen)
	check(len(c.HotReload) == 0 || c.Auth == AuthOpen, "hot_reload", "it is for one developer's machine: use it with auth: open")
}

// MayTake reports whether code of an account may be taken from a bucket.
func (c Config) MayTake(account lambent.AccountID, bucket string) bool {
	for _, pattern := range c.S3Buckets {
		if owner, rest, of := strings.Cut(pattern, "/"); of {
			if owner != string(account) {
				continue
			}
			pattern = rest
		}
		if prefix, open := strings.CutSuffix(pattern, "*"); pattern == bucket || open && strings.HasPrefix(bucket, prefix) {
			return true
		}
	}
	return false
}
