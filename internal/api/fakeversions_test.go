package api

import (
	"context"

	"lambent"
	"lambent/internal/registry"
)

// The functions of fakeFunctions have no version but $LATEST and no alias. What
// there is of these is tested with a real registry.

func (f *fakeFunctions) PublishVersion(_ context.Context, account lambent.AccountID, name lambent.FunctionName, _ string, _ lambent.CodeHash, _ *string) (*lambent.Function, error) {
	fn, err := f.Function(account, name, "")
	if err != nil {
		return nil, err
	}
	version := *fn
	version.Version = "1"
	return &version, nil
}

func (f *fakeFunctions) DeleteVersion(_ context.Context, account lambent.AccountID, name lambent.FunctionName, _ lambent.Version) error {
	_, err := f.Function(account, name, "")
	return err
}

func (f *fakeFunctions) ListVersions(account lambent.AccountID, name lambent.FunctionName, _ lambent.Version, _ int) ([]*lambent.Function, lambent.Version, error) {
	fn, err := f.Function(account, name, "")
	if err != nil {
		return nil, "", err
	}
	return []*lambent.Function{fn}, "", nil
}

func (f *fakeFunctions) ListAllVersions(account lambent.AccountID, after lambent.FunctionName, _ lambent.Version, most int) ([]*lambent.Function, lambent.FunctionName, lambent.Version) {
	out, next := f.ListFunctions(account, after, most)
	return out, next, lambent.Latest
}

func (f *fakeFunctions) CreateAlias(_ context.Context, account lambent.AccountID, function lambent.FunctionName, _ string, alias registry.Alias) (*registry.Alias, error) {
	_, err := f.Function(account, function, string(alias.Version))
	return &alias, err
}

func (f *fakeFunctions) UpdateAlias(_ context.Context, account lambent.AccountID, function lambent.FunctionName, name, _ string, _ func(*registry.Alias)) (*registry.Alias, error) {
	return f.Alias(account, function, name)
}

func (f *fakeFunctions) DeleteAlias(_ context.Context, account lambent.AccountID, function lambent.FunctionName, _ string) error {
	_, err := f.Function(account, function, "")
	return err
}

func (f *fakeFunctions) Alias(account lambent.AccountID, function lambent.FunctionName, name string) (*registry.Alias, error) {
	return nil, notFound(account, function, name)
}

func (f *fakeFunctions) ListAliases(account lambent.AccountID, function lambent.FunctionName, _ lambent.Version, _ string, _ int) ([]registry.AliasEntry, string, error) {
	_, err := f.Function(account, function, "")
	return nil, "", err
}
