package config

import (
	"testing"

	"lambent"
)

func TestBucketsAreTakenFromByWhomTheyAreNamedFor(t *testing.T) {
	c := Config{S3Buckets: []string{"one", "two-*", "111111111111/three", "222222222222/*"}}
	for _, test := range []struct {
		account, bucket string
		want            bool
	}{
		{"333333333333", "one", true}, {"333333333333", "ones", false}, {"333333333333", "two-x", true}, {"333333333333", "two", false},
		{"333333333333", "three", false}, {"111111111111", "three", true}, {"222222222222", "anything", true}, {"333333333333", "anything", false},
	} {
		if got := c.MayTake(lambent.AccountID(test.account), test.bucket); got != test.want {
			t.Errorf("%s takes from %s: %v", test.account, test.bucket, got)
		}
	}
	if (Config{}).MayTake("111111111111", "one") {
		t.Error("without any bucket named, one may be taken from")
	}
}
