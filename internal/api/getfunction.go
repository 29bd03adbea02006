package api

import (
	"net/http"

	"lambent"
)

type getFunctionAnswer struct {
	Configuration functionConfiguration
	Code          codeLocation
	Tags          map[string]string  `json:",omitempty"`
	Concurrency   *concurrencyAnswer `json:",omitempty"`
}

type codeLocation struct {
	RepositoryType   string
	Location         string `json:",omitempty"`
	ImageURI         string `json:"ImageUri,omitempty"`
	ResolvedImageURI string `json:"ResolvedImageUri,omitempty"`
}

func (a *API) locationOf(c *call, f *lambent.Function) codeLocation {
	if f.PackageType == lambent.PackageImage {
		return codeLocation{RepositoryType: "ECR", ImageURI: f.ImageURI, ResolvedImageURI: f.ImageRef}
	}
	return codeLocation{RepositoryType: "S3", Location: a.codeURL(c.r, f.Code)}
}

// getFunction does GetFunction.
func (a *API) getFunction(c *call) error {
	f, qualifier, err := a.lookUp(c, "GetFunction")
	if err != nil {
		return err
	}
	answer := getFunctionAnswer{
		Configuration: a.configuration(f, qualifier),
		Code:          a.locationOf(c, f),
		Tags:          f.Tags,
	}
	if f.Version != lambent.Latest { // tags are of a whole function
		if latest, err := a.functions.Function(f.Account, f.Name, ""); err == nil {
			answer.Tags = latest.Tags
		}
	}
	if s := a.settingsOf(lambent.FunctionRef{Account: f.Account, Name: f.Name}); s.ReservedConcurrency != nil {
		answer.Concurrency = &concurrencyAnswer{s.ReservedConcurrency}
	}
	return c.reply(http.StatusOK, answer)
}

// getFunctionConfiguration does GetFunctionConfiguration.
func (a *API) getFunctionConfiguration(c *call) error {
	f, qualifier, err := a.lookUp(c, "GetFunctionConfiguration")
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, a.configuration(f, qualifier))
}

// lookUp finds the function that path and query name, and the qualifier it was
// named by.
func (a *API) lookUp(c *call, operation string) (*lambent.Function, string, error) {
	name, qualifier := c.params[0], c.query("Qualifier")
	var v violations
	a.checkName(&v, name, a.shapes.namespacedFunctionName, qualifier)
	if err := v.err(); err != nil {
		return nil, "", err
	}
	ref, err := a.target(c.caller, operation, name, qualifier)
	if err != nil {
		return nil, "", err
	}
	f, err := a.functions.Function(ref.Account, ref.Name, ref.Qualifier)
	if err != nil {
		return nil, "", err
	}
	return f, ref.Qualifier, nil
}
