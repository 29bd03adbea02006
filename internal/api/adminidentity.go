package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"lambent"
	"lambent/internal/identity"
)

// The documents of the paths below, one for both ways; what does not apply is
// left out.
type (
	accountDoc struct {
		Account   lambent.AccountID `json:"account,omitempty"`
		Name      string            `json:"name,omitempty"`
		CreatedAt *time.Time        `json:"created_at,omitempty"`
	}
	keyDoc struct {
		AccessKeyID     string            `json:"access_key_id,omitempty"`
		SecretAccessKey string            `json:"secret_access_key,omitempty"` // in the answer to its creation only
		Account         lambent.AccountID `json:"account,omitempty"`
		User            string            `json:"user,omitempty"`
		Operator        bool              `json:"operator,omitempty"`
		Policy          json.RawMessage   `json:"policy,omitempty"`
		CreatedAt       *time.Time        `json:"created_at,omitempty"`
	}
	roleDoc struct {
		Role      string            `json:"role,omitempty"`
		ARN       string            `json:"arn,omitempty"`
		Account   lambent.AccountID `json:"account,omitempty"`
		Policy    json.RawMessage   `json:"policy,omitempty"`
		CreatedAt *time.Time        `json:"created_at,omitempty"`
	}
)

// HandleIdentities serves accounts, keys and roles below /_lambent/v1/. The
// operator sees and changes all, the root of an account its own keys and roles,
// anybody else nothing.
//
//	GET, POST  accounts            DELETE       accounts/{account}
//	GET, POST  keys                DELETE       keys/{access_key_id}
//	GET, POST  roles               PUT, DELETE  roles/{role…}
//
// The operator names an account in the body, or as ?account=.
func (a *API) HandleIdentities(who *identity.Store) {
	h := identities{api: a, who: who}
	for pattern, serve := range map[string]func(*visit) (status int, answer any, err error){
		"GET /_lambent/v1/accounts":              h.accounts,
		"POST /_lambent/v1/accounts":             h.createAccount,
		"DELETE /_lambent/v1/accounts/{account}": h.deleteAccount,
		"GET /_lambent/v1/keys":                  h.keys,
		"POST /_lambent/v1/keys":                 h.createKey,
		"DELETE /_lambent/v1/keys/{key}":         h.revokeKey,
		"GET /_lambent/v1/roles":                 h.roles,
		"POST /_lambent/v1/roles":                h.createRole,
		"PUT /_lambent/v1/roles/{role...}":       h.setRolePolicy,
		"DELETE /_lambent/v1/roles/{role...}":    h.deleteRole,
	} {
		a.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			status, answer, err := h.serve(r, serve)
			switch {
			case err != nil:
				a.writeError(w, r, pattern, err)
			case answer == nil:
				w.WriteHeader(status)
			default:
				w.Header().Set("Cache-Control", "no-store") // it may hold a secret
				writeJSON(w, status, answer)
			}
		}))
	}
}

type identities struct {
	api *API
	who *identity.Store
}

// visit is one request for these paths.
type visit struct {
	*http.Request
	caller  Caller
	account lambent.AccountID // whose things it is about; "" for all, the operator only
}

func (h identities) serve(r *http.Request, serve func(*visit) (int, any, error)) (status int, answer any, err error) {
	caller, err := h.api.Authenticate(r)
	if err != nil {
		return 0, nil, err
	}
	if !caller.Operator && !caller.isRoot() {
		return 0, nil, notYours("Accounts, keys and roles are the operator's and, of an account, its root's: " + caller.Principal.ARN + " is neither")
	}
	v := &visit{Request: r, caller: caller}
	return serve(v.about(lambent.AccountID(r.URL.Query().Get("account"))))
}

// about has the visit be about an account, the caller's own where he is no
// operator and names none.
func (v *visit) about(account lambent.AccountID) *visit {
	v.account = account
	if account == "" && !v.caller.Operator {
		v.account = v.caller.Account
	}
	return v
}

// mayTouch refuses an account that is not the caller's.
func (v *visit) mayTouch() error {
	if v.caller.Operator || v.account == v.caller.Account {
		return nil
	}
	return notYours(fmt.Sprintf("Account %s may not touch what is account %s's; the operator may", v.caller.Account, v.account))
}

// mustOperate refuses all but the operator.
func (v *visit) mustOperate() error {
	if v.caller.Operator {
		return nil
	}
	return notYours("Accounts and operator's keys are made and removed by the operator only")
}

func notYours(message string) error {
	return &lambent.Error{Op: "authorize", Kind: lambent.KindDenied, Message: message}
}

// read reads the body into a document, strictly. It is read to its end first: only
// then it is known to be what was signed.
func (v *visit) read(doc any) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, v.Body, maxConfigBody))
	if _, told := errors.AsType[*lambent.Error](err); told {
		return err
	}
	if over, is := errors.AsType[*http.MaxBytesError](err); is {
		return &lambent.Error{Op: "read request", Kind: lambent.KindRequestTooLarge, Message: fmt.Sprintf("Request must be smaller than %d bytes for this path", over.Limit)}
	}
	if err != nil {
		return unreadable(err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err = d.Decode(doc); err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after the document")
		}
	}
	if err != nil {
		return &lambent.Error{Op: "read request", Kind: lambent.KindMalformed, Err: err, Message: "The body is not the JSON document this path takes: " + inWords(err)}
	}
	return nil
}

// inWords tells what is wrong with a document in the caller's terms, not in Go's.
func inWords(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return "it is a JSON " + wrong.Value
		}
		return fmt.Sprintf("the member %s cannot be a JSON %s", wrong.Field, wrong.Value)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

func newAccountDoc(a *identity.Account) accountDoc {
	return accountDoc{Account: a.ID, Name: a.Name, CreatedAt: &a.Created}
}

func (h identities) accounts(v *visit) (int, any, error) {
	out := []accountDoc{}
	for _, a := range h.who.Accounts() {
		if v.caller.Operator || a.ID == v.caller.Account {
			out = append(out, newAccountDoc(a))
		}
	}
	return http.StatusOK, out, nil
}

func (h identities) createAccount(v *visit) (int, any, error) {
	var in accountDoc
	if err := errors.Join(v.mustOperate(), v.read(&in)); err != nil {
		return 0, nil, err
	}
	a, err := h.who.CreateAccount(v.Context(), in.Account, in.Name)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, newAccountDoc(a), nil
}

func (h identities) deleteAccount(v *visit) (int, any, error) {
	if err := v.mustOperate(); err != nil {
		return 0, nil, err
	}
	id := lambent.AccountID(v.PathValue("account"))
	if functions, _ := h.api.functions.ListFunctions(id, "", 1); len(functions) > 0 {
		return 0, nil, &lambent.Error{Op: "delete account", Resource: string(id), Kind: lambent.KindExists,
			Message: "The account has functions, " + string(functions[0].Name) + " among them: delete them first."}
	}
	return http.StatusNoContent, nil, h.who.DeleteAccount(v.Context(), id)
}

func newKeyDoc(k *identity.Key) keyDoc {
	d := keyDoc{AccessKeyID: k.ID, Account: k.Account, User: k.User, Operator: k.Operator, Policy: k.Policy, CreatedAt: &k.Created}
	if k.Operator {
		d.Account = ""
	}
	return d
}

func (h identities) keys(v *visit) (int, any, error) {
	if err := v.mayTouch(); err != nil {
		return 0, nil, err
	}
	out := []keyDoc{}
	for _, k := range h.who.Keys(v.account) {
		out = append(out, newKeyDoc(k))
	}
	return http.StatusOK, out, nil
}

func (h identities) createKey(v *visit) (int, any, error) {
	var in keyDoc
	if err := v.read(&in); err != nil {
		return 0, nil, err
	}
	err := v.about(in.Account).mayTouch()
	if in.Operator {
		err = v.mustOperate()
	}
	if err != nil {
		return 0, nil, err
	}
	if in.AccessKeyID != "" || in.SecretAccessKey != "" || in.CreatedAt != nil {
		return 0, nil, invalid("create key", "A key's id, secret and time are not given, but made.")
	}
	k, secret, err := h.who.CreateKey(v.Context(), identity.KeySpec{Account: v.account, User: in.User, Policy: in.Policy, Operator: in.Operator})
	if err != nil {
		return 0, nil, err
	}
	out := newKeyDoc(k)
	out.SecretAccessKey = secret
	return http.StatusCreated, out, nil
}

func (h identities) revokeKey(v *visit) (int, any, error) {
	if err := v.mayTouch(); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, h.who.RevokeKey(v.Context(), v.account, v.PathValue("key"))
}

func newRoleDoc(r *identity.Role) roleDoc {
	return roleDoc{Role: r.Name, ARN: r.ARN(), Account: r.Account, Policy: r.Policy, CreatedAt: &r.Created}
}

func (h identities) roles(v *visit) (int, any, error) {
	if err := v.mayTouch(); err != nil {
		return 0, nil, err
	}
	out := []roleDoc{}
	for _, r := range h.who.Roles(v.account) {
		out = append(out, newRoleDoc(r))
	}
	return http.StatusOK, out, nil
}

func (h identities) createRole(v *visit) (int, any, error) {
	var in roleDoc
	if err := v.read(&in); err != nil {
		return 0, nil, err
	}
	if err := v.about(in.Account).mayTouch(); err != nil {
		return 0, nil, err
	}
	r, err := h.who.CreateRole(v.Context(), v.account, in.Role, in.Policy)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, newRoleDoc(r), nil
}

func (h identities) setRolePolicy(v *visit) (int, any, error) {
	var in roleDoc
	if err := errors.Join(v.mayTouch(), v.read(&in)); err != nil {
		return 0, nil, err
	}
	r, err := h.who.SetRolePolicy(v.Context(), v.account, v.PathValue("role"), in.Policy)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, newRoleDoc(r), nil
}

func (h identities) deleteRole(v *visit) (int, any, error) {
	if err := v.mayTouch(); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, h.who.DeleteRole(v.Context(), v.account, v.PathValue("role"))
}

// callerDoc tells who asks.
type callerDoc struct {
	Account  lambent.AccountID `json:"account"`
	ARN      string            `json:"arn"`
	Operator bool              `json:"operator"`
}

// serveCaller answers GET /_lambent/v1/caller: everybody may know who he is.
func (a *API) serveCaller(w http.ResponseWriter, r *http.Request) {
	caller, err := a.Authenticate(r)
	if err != nil {
		a.writeError(w, r, "caller", err)
		return
	}
	writeJSON(w, http.StatusOK, callerDoc{Account: caller.Account, ARN: caller.Principal.ARN, Operator: caller.Operator})
}
