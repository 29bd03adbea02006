package api

import (
	"net/http"

	"lambent"
	"lambent/internal/registry"
)

type concurrencyAnswer struct {
	ReservedConcurrentExecutions *int `json:",omitempty"`
}

// putFunctionConcurrency does PutFunctionConcurrency.
func (a *API) putFunctionConcurrency(c *call) error {
	const operation = "PutFunctionConcurrency"
	var q struct {
		FunctionName                 string
		ReservedConcurrentExecutions int
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, _, err := a.unqualified(c, operation, q.FunctionName)
	if err != nil {
		return err
	}
	err = a.objects.Reserve(c.r.Context(), operation, ref.Account, ref.Name, &q.ReservedConcurrentExecutions, a.limits.Concurrency)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, concurrencyAnswer{&q.ReservedConcurrentExecutions})
}

// getFunctionConcurrency does GetFunctionConcurrency.
func (a *API) getFunctionConcurrency(c *call) error {
	const operation = "GetFunctionConcurrency"
	ref, err := a.wholeFunction(c, operation)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, concurrencyAnswer{a.settingsOf(ref).ReservedConcurrency})
}

// deleteFunctionConcurrency does DeleteFunctionConcurrency.
func (a *API) deleteFunctionConcurrency(c *call) error {
	const operation = "DeleteFunctionConcurrency"
	ref, err := a.wholeFunction(c, operation)
	if err != nil {
		return err
	}
	return c.done(a.objects.Reserve(c.r.Context(), operation, ref.Account, ref.Name, nil, a.limits.Concurrency))
}

// settingsOf gives the settings of a function, the zero value where there are
// none.
func (a *API) settingsOf(ref lambent.FunctionRef) registry.FunctionSettings {
	return deref(a.objects.Settings.Get(settingsKey(ref)))
}

// editSettings changes the settings of a function.
func (a *API) editSettings(c *call, operation string, key registry.ObjectKey, change func(*registry.FunctionSettings)) error {
	_, err := a.objects.Settings.Edit(c.r.Context(), operation, key, func(old *registry.FunctionSettings) (*registry.FunctionSettings, error) {
		next := deref(old)
		change(&next)
		if next == (registry.FunctionSettings{}) {
			return nil, nil
		}
		return &next, nil
	})
	return err
}

// Limits bound what an account may do.
type Limits struct {
	Concurrency int // simultaneous executions of an account; 0: AWS's 1,000
}

type accountSettingsAnswer struct {
	AccountLimit accountLimit
	AccountUsage accountUsage
}

type accountLimit struct {
	TotalCodeSize, CodeSizeUnzipped, CodeSizeZipped      int64
	ConcurrentExecutions, UnreservedConcurrentExecutions int
}

type accountUsage struct{ TotalCodeSize, FunctionCount int64 }

// maxCodeStorage is AWS's bound for all packages of an account, which lambent
// does not hold anybody to: the disk is the operator's.
const maxCodeStorage = 75 << 30

// getAccountSettings does GetAccountSettings.
func (a *API) getAccountSettings(c *call) error {
	const operation = "GetAccountSettings"
	if err := a.input(c, operation, &struct{}{}); err != nil {
		return err
	}
	_, unreserved := a.objects.Concurrency(c.caller.Account, "", a.limits.Concurrency)
	functions, size := a.functions.Usage(c.caller.Account)
	return c.reply(http.StatusOK, accountSettingsAnswer{
		AccountLimit: accountLimit{TotalCodeSize: maxCodeStorage, CodeSizeUnzipped: lambent.MaxUnzipped, CodeSizeZipped: lambent.MaxZipped,
			ConcurrentExecutions: a.limits.Concurrency, UnreservedConcurrentExecutions: unreserved},
		AccountUsage: accountUsage{TotalCodeSize: size, FunctionCount: int64(functions)},
	})
}
