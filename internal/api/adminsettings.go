package api

import (
	"context"
	"net/http"

	"lambent"
	"lambent/internal/registry"
)

// PlatformSettings is what the admin paths need of whoever remembers what
// Lambda's API has no field for. Errors are as those of Functions. Safe for
// concurrent use.
type PlatformSettings interface {
	// PlatformSettings gives nil where a function has the defaults.
	PlatformSettings(account lambent.AccountID, name lambent.FunctionName) (*registry.PlatformSettings, error)
	// SetPlatformSettings gives it others, nil the defaults.
	SetPlatformSettings(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, s *registry.PlatformSettings) error
}

// HandleSettings serves /_lambent/v1/functions/{name}/settings: GET shows the
// settings of the caller's function, those that differ from the defaults; PUT
// replaces them all; DELETE goes back to the defaults. The operator names an
// account as ?account=.
func (a *API) HandleSettings(settings PlatformSettings) {
	const path = "/_lambent/v1/functions/{name}/settings"
	for method, serve := range map[string]func(*visit, lambent.FunctionRef) (answer any, err error){
		http.MethodGet: func(_ *visit, ref lambent.FunctionRef) (any, error) {
			s, err := settings.PlatformSettings(ref.Account, ref.Name)
			if s == nil && err == nil {
				s = &registry.PlatformSettings{}
			}
			return s.Shown(), err
		},
		http.MethodPut: func(v *visit, ref lambent.FunctionRef) (any, error) {
			var s registry.PlatformSettings
			if err := v.read(&s); err != nil {
				return nil, err
			}
			return s.Shown(), settings.SetPlatformSettings(v.Context(), ref.Account, ref.Name, &s)
		},
		http.MethodDelete: func(v *visit, ref lambent.FunctionRef) (any, error) {
			return nil, settings.SetPlatformSettings(v.Context(), ref.Account, ref.Name, nil)
		},
	} {
		a.Handle(method+" "+path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v := &visit{Request: r}
			ref, err := a.platformSettingsOf(v)
			var answer any
			if err == nil {
				answer, err = serve(v, ref)
			}
			switch {
			case err != nil:
				a.writeError(w, r, method+" "+path, err)
			case answer == nil:
				w.WriteHeader(http.StatusNoContent)
			default:
				writeJSON(w, http.StatusOK, answer)
			}
		}))
	}
}

// platformSettingsOf finds whose settings a request is about, and whether its caller may
// ask for that.
func (a *API) platformSettingsOf(v *visit) (lambent.FunctionRef, error) {
	const operation = "FunctionSettings"
	caller, err := a.Authenticate(v.Request)
	if err != nil {
		return lambent.FunctionRef{}, err
	}
	v.caller = caller
	if err := v.about(lambent.AccountID(v.URL.Query().Get("account"))).mayTouch(); err != nil {
		return lambent.FunctionRef{}, err
	}
	if v.account != "" {
		caller.Account = v.account
	}
	name := v.PathValue("name")
	var violations violations
	a.checkName(&violations, name, a.shapes.functionName, nil)
	if err := violations.err(); err != nil {
		return lambent.FunctionRef{}, err
	}
	ref, err := a.target(caller, operation, name, nil)
	if err != nil {
		return ref, err
	}
	if ref.Qualifier != "" {
		return ref, invalid(operation, "Settings are of a whole function: name it without the version or alias "+ref.Qualifier+".")
	}
	if v.caller.Operator {
		return ref, nil
	}
	action := "lambda:UpdateFunctionConfiguration"
	if v.Method == http.MethodGet {
		action = "lambda:GetFunctionConfiguration"
	}
	return ref, a.authorize(&call{r: v.Request, caller: caller, received: a.now()}, action, lambent.FunctionARN(a.region, ref.Account, ref.Name, ""), ref.Account, nil)
}
