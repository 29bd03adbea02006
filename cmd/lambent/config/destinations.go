package config

import (
	"path/filepath"
	"regexp"
	"strings"

	"lambent"
	"lambent/internal/deliver"
	"lambent/internal/egress"
)

// targetPattern is what may stand in endpoints.targets.
var targetPattern = regexp.MustCompile(`^(\d{12}/)?(\*|arn:[A-Za-z0-9:/._-]*\*?)$`)

// validateDestinations checks where records of asynchronous calls may go.
func (c Config) validateDestinations(check func(ok bool, key, format string, args ...any)) {
	for key, base := range map[string]string{"endpoints.sqs": c.EndpointSQS, "endpoints.sns": c.EndpointSNS, "endpoints.eventbridge": c.EndpointEventBridge} {
		check(base == "" || deliver.IsBaseURL(base), key, "%q is not a base URL; one is https://sqs.us-east-1.amazonaws.com", base)
	}
	check(regionPattern.MatchString(c.EndpointRegion), "endpoints.region", "%q does not look like a region; one is us-east-1", c.EndpointRegion)
	check(c.EndpointCredentials == "" || filepath.IsAbs(c.EndpointCredentials), "endpoints.credentials", "%q is not an absolute path of a file", c.EndpointCredentials)
	for _, target := range c.EndpointTargets {
		check(targetPattern.MatchString(target), "endpoints.targets", "%q is not an ARN; write ARN, ACCOUNT/ARN, or either with * at its end for any rest", target)
	}
	_, err := egress.New(egress.Options{Allow: c.DestinationAllow})
	check(err == nil, "destinations.allow", "%v", err)
}

// MayDeliver reports whether what is of an account may be delivered to a queue,
// topic or bus, which is of owner: to its own, and to those that are named.
func (c Config) MayDeliver(account, owner lambent.AccountID, arn string) bool {
	if account == owner {
		return true
	}
	for _, pattern := range c.EndpointTargets {
		if before, rest, of := strings.Cut(pattern, "/"); of && lambent.IsAccountID(before) {
			if before != string(account) {
				continue
			}
			pattern = rest
		}
		if prefix, open := strings.CutSuffix(pattern, "*"); pattern == arn || open && strings.HasPrefix(arn, prefix) {
			return true
		}
	}
	return false
}
