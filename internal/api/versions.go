package api

import (
	"context"
	"net/http"

	"lambent"
	"lambent/internal/registry"
)

// Versions is what the API needs of whoever remembers the published versions of
// functions and their aliases. Errors are as those of Functions.
type Versions interface {
	// PublishVersion freezes $LATEST, of a revision and with code as expected, ""
	// for any. description takes the place of its own, nil keeps that.
	PublishVersion(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, revision string, code lambent.CodeHash, description *string) (*lambent.Function, error)
	// DeleteVersion deletes a numbered one; that it is not there is no error.
	DeleteVersion(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, version lambent.Version) error
	// ListVersions returns at most max versions, $LATEST first, those after the
	// given one, and the one to go on after, "" at the end.
	ListVersions(account lambent.AccountID, name lambent.FunctionName, after lambent.Version, max int) ([]*lambent.Function, lambent.Version, error)
	// ListAllVersions does so for all functions of an account, by name.
	ListAllVersions(account lambent.AccountID, after lambent.FunctionName, version lambent.Version, max int) ([]*lambent.Function, lambent.FunctionName, lambent.Version)

	CreateAlias(ctx context.Context, account lambent.AccountID, function lambent.FunctionName, name string, alias registry.Alias) (*registry.Alias, error)
	// UpdateAlias alters a copy of the alias, of a revision as expected, "" for any.
	UpdateAlias(ctx context.Context, account lambent.AccountID, function lambent.FunctionName, name, revision string, change func(*registry.Alias)) (*registry.Alias, error)
	DeleteAlias(ctx context.Context, account lambent.AccountID, function lambent.FunctionName, name string) error
	Alias(account lambent.AccountID, function lambent.FunctionName, name string) (*registry.Alias, error)
	// ListAliases lists by name; version leaves out those of others, "" none.
	ListAliases(account lambent.AccountID, function lambent.FunctionName, version lambent.Version, after string, max int) ([]registry.AliasEntry, string, error)
}

// publishVersion does PublishVersion.
func (a *API) publishVersion(c *call) error {
	const operation = "PublishVersion"
	var q struct{ CodeSha256, Description, RevisionID, PublishTo *string }
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, err := a.whole(c, operation)
	if err != nil {
		return err
	}
	if q.PublishTo != nil {
		return unsupportedField(operation, "PublishTo")
	}
	f, err := a.functions.PublishVersion(c.r.Context(), ref.Account, ref.Name, text(q.RevisionID), storedHash(text(q.CodeSha256)), q.Description)
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, a.configuration(f, string(f.Version)))
}

type listVersionsAnswer struct {
	Versions   []functionConfiguration
	NextMarker *string `json:",omitempty"`
}

// listVersionsByFunction does ListVersionsByFunction.
func (a *API) listVersionsByFunction(c *call) error {
	const operation = "ListVersionsByFunction"
	var q page
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, err := a.whole(c, operation)
	if err != nil {
		return err
	}
	after, err := q.after(operation, isVersion)
	if err != nil {
		return err
	}
	versions, next, err := a.functions.ListVersions(ref.Account, ref.Name, lambent.Version(after), q.size())
	if err != nil {
		return err
	}
	answer := listVersionsAnswer{Versions: []functionConfiguration{}, NextMarker: writeMarker(string(next))}
	for _, f := range versions {
		answer.Versions = append(answer.Versions, a.configuration(f, string(f.Version)).listed())
	}
	return c.reply(http.StatusOK, answer)
}

func isVersion(s string) bool {
	return s == string(lambent.Latest) || lambent.Version(s).IsNumbered()
}

// whole finds which function the path names, for operations that are about all
// of it: a qualifier other than $LATEST makes no sense there.
func (a *API) whole(c *call, operation string) (lambent.FunctionRef, error) {
	ref, err := a.target(c.caller, operation, c.params[0], nil)
	if err == nil && ref.Qualifier != "" && ref.Qualifier != string(lambent.Latest) {
		err = invalid(operation, operation+" is about a whole function: name it without the version or alias "+ref.Qualifier+".")
	}
	return ref, err
}
