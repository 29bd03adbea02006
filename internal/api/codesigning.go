package api

import (
	"crypto/rand"
	"net/http"
	"strings"

	"lambent"
	"lambent/internal/registry"
)

// What becomes of code whose signature cannot be vouched for.
const (
	untrustedWarn    = "Warn"
	untrustedEnforce = "Enforce"
)

type codeSigningAnswer struct{ CodeSigningConfig codeSigningConfig }

type codeSigningConfig struct {
	CodeSigningConfigID  string `json:"CodeSigningConfigId"`
	CodeSigningConfigArn string
	Description          string `json:",omitempty"`
	AllowedPublishers    publishers
	CodeSigningPolicies  codeSigningPolicies
	LastModified         string
}

type (
	publishers          struct{ SigningProfileVersionArns []string }
	codeSigningPolicies struct{ UntrustedArtifactOnDeployment string }
)

// codeSigningRequest is what Create and Update are sent.
type codeSigningRequest struct {
	CodeSigningConfigArn string
	Description          *string
	AllowedPublishers    *publishers
	CodeSigningPolicies  *codeSigningPolicies
	Tags                 map[string]string
}

// apply sets what the caller gave.
func (q *codeSigningRequest) apply(o *registry.CodeSigningConfig) {
	set(&o.Description, q.Description)
	if q.AllowedPublishers != nil {
		o.Publishers = q.AllowedPublishers.SigningProfileVersionArns
	}
	if q.CodeSigningPolicies != nil && q.CodeSigningPolicies.UntrustedArtifactOnDeployment != "" {
		o.Untrusted = q.CodeSigningPolicies.UntrustedArtifactOnDeployment
	}
}

func (a *API) codeSigningARN(key registry.ObjectKey) string {
	return "arn:" + partition + ":lambda:" + a.region + ":" + string(key.Account) + ":code-signing-config:" + key.Name
}

func (a *API) codeSigningConfig(key registry.ObjectKey, o *registry.CodeSigningConfig) codeSigningConfig {
	return codeSigningConfig{CodeSigningConfigID: key.Name, CodeSigningConfigArn: a.codeSigningARN(key), Description: o.Description,
		AllowedPublishers: publishers{o.Publishers}, CodeSigningPolicies: codeSigningPolicies{o.Untrusted}, LastModified: timestamp(o.LastModified)}
}

// createCodeSigningConfig does CreateCodeSigningConfig.
func (a *API) createCodeSigningConfig(c *call) error {
	const operation = "CreateCodeSigningConfig"
	var q codeSigningRequest
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	if err := checkPlainTags(operation, q.Tags); err != nil {
		return err
	}
	const idLength = 17 // as AWS's
	key := registry.ObjectKey{Account: c.caller.Account, Name: "csc-" + strings.ToLower(rand.Text()[:idLength])}
	o := &registry.CodeSigningConfig{Untrusted: untrustedWarn, Tags: q.Tags, LastModified: a.now()}
	q.apply(o)
	if err := a.objects.CodeSigningConfigs.Create(c.r.Context(), operation, key, o, ""); err != nil {
		return err
	}
	return c.reply(http.StatusCreated, codeSigningAnswer{a.codeSigningConfig(key, o)})
}

// codeSigningKey is where the configuration of an ARN, which the model has
// passed, would be; ok is false for one that cannot be the caller's.
func (a *API) codeSigningKey(c *call, arn string) (key registry.ObjectKey, ok bool) {
	part := strings.Split(arn, ":")
	if len(part) != 7 {
		return key, false
	}
	key = registry.ObjectKey{Account: lambent.AccountID(part[4]), Name: part[6]}
	return key, a.codeSigningARN(key) == arn && key.Account == c.caller.Account
}

func noCodeSigningConfig(operation, arn string) error {
	return &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindNotFound, Reason: reasonNoCodeSigningConfig,
		Message: "The Lambda code signing configuration " + arn + " can not be found."}
}

// codeSigningOf reads a request that names a configuration and finds it.
func (a *API) codeSigningOf(c *call, operation string, q any, arn *string) (registry.ObjectKey, *registry.CodeSigningConfig, error) {
	if err := a.input(c, operation, q); err != nil {
		return registry.ObjectKey{}, nil, err
	}
	key, ok := a.codeSigningKey(c, *arn)
	if !ok {
		return key, nil, noCodeSigningConfig(operation, *arn)
	}
	o := a.objects.CodeSigningConfigs.Get(key)
	if o == nil {
		return key, nil, noCodeSigningConfig(operation, *arn)
	}
	return key, o, nil
}

// getCodeSigningConfig does GetCodeSigningConfig.
func (a *API) getCodeSigningConfig(c *call) error {
	var q struct{ CodeSigningConfigArn string }
	key, o, err := a.codeSigningOf(c, "GetCodeSigningConfig", &q, &q.CodeSigningConfigArn)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, codeSigningAnswer{a.codeSigningConfig(key, o)})
}

// updateCodeSigningConfig does UpdateCodeSigningConfig.
func (a *API) updateCodeSigningConfig(c *call) error {
	const operation = "UpdateCodeSigningConfig"
	var q codeSigningRequest
	key, _, err := a.codeSigningOf(c, operation, &q, &q.CodeSigningConfigArn)
	if err != nil {
		return err
	}
	o, err := a.objects.CodeSigningConfigs.Edit(c.r.Context(), operation, key, func(old *registry.CodeSigningConfig) (*registry.CodeSigningConfig, error) {
		if old == nil {
			return nil, noCodeSigningConfig(operation, q.CodeSigningConfigArn)
		}
		next := *old
		q.apply(&next)
		next.LastModified = a.now()
		return &next, nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, codeSigningAnswer{a.codeSigningConfig(key, o)})
}

// deleteCodeSigningConfig does DeleteCodeSigningConfig.
func (a *API) deleteCodeSigningConfig(c *call) error {
	const operation = "DeleteCodeSigningConfig"
	var q struct{ CodeSigningConfigArn string }
	key, _, err := a.codeSigningOf(c, operation, &q, &q.CodeSigningConfigArn)
	if err != nil {
		return err
	}
	a.signing.Lock() // so that no function is given it meanwhile
	defer a.signing.Unlock()
	if users, _ := a.objects.Settings.List(key.Account, "", registry.ObjectKey{}, 1, signedBy(q.CodeSigningConfigArn)); len(users) > 0 {
		return &lambent.Error{Op: operation, Resource: key.Name, Kind: lambent.KindExists,
			Message: "The code signing configuration " + q.CodeSigningConfigArn + " is in use by functions: take it from them first (ListFunctionsByCodeSigningConfig)."}
	}
	_, err = a.objects.CodeSigningConfigs.Edit(c.r.Context(), operation, key, func(*registry.CodeSigningConfig) (*registry.CodeSigningConfig, error) { return nil, nil })
	return c.done(err)
}

func signedBy(arn string) func(registry.Object[registry.FunctionSettings]) bool {
	return func(o registry.Object[registry.FunctionSettings]) bool { return o.Value.CodeSigningConfig == arn }
}

type listRequest struct {
	CodeSigningConfigArn string // of one of the lists
	Marker               *string
	MaxItems             *int
}

type listCodeSigningAnswer struct {
	CodeSigningConfigs []codeSigningConfig
	NextMarker         *string `json:",omitempty"`
}

// listCodeSigningConfigs does ListCodeSigningConfigs.
func (a *API) listCodeSigningConfigs(c *call) error {
	var q listRequest
	if err := a.input(c, "ListCodeSigningConfigs", &q); err != nil {
		return err
	}
	page, next, err := pageOf(a.objects.CodeSigningConfigs, c.caller.Account, "", q.Marker, q.MaxItems, nil)
	if err != nil {
		return err
	}
	answer := listCodeSigningAnswer{CodeSigningConfigs: []codeSigningConfig{}, NextMarker: next}
	for _, o := range page {
		answer.CodeSigningConfigs = append(answer.CodeSigningConfigs, a.codeSigningConfig(o.Key, o.Value))
	}
	return c.reply(http.StatusOK, answer)
}

type listSignedAnswer struct {
	FunctionArns []string
	NextMarker   *string `json:",omitempty"`
}

// listFunctionsByCodeSigningConfig does ListFunctionsByCodeSigningConfig.
func (a *API) listFunctionsByCodeSigningConfig(c *call) error {
	var q listRequest
	key, _, err := a.codeSigningOf(c, "ListFunctionsByCodeSigningConfig", &q, &q.CodeSigningConfigArn)
	if err != nil {
		return err
	}
	page, next, err := pageOf(a.objects.Settings, key.Account, "", q.Marker, q.MaxItems, signedBy(q.CodeSigningConfigArn))
	if err != nil {
		return err
	}
	answer := listSignedAnswer{FunctionArns: []string{}, NextMarker: next}
	for _, o := range page {
		answer.FunctionArns = append(answer.FunctionArns, a.keyARN(o.Key, ""))
	}
	return c.reply(http.StatusOK, answer)
}

type functionSigningAnswer struct {
	CodeSigningConfigArn string `json:",omitempty"`
	FunctionName         string `json:",omitempty"`
}

// putFunctionCodeSigningConfig does PutFunctionCodeSigningConfig.
func (a *API) putFunctionCodeSigningConfig(c *call) error {
	const operation = "PutFunctionCodeSigningConfig"
	var q struct{ FunctionName, CodeSigningConfigArn string }
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	a.signing.Lock()
	defer a.signing.Unlock()
	if _, err := a.signingConfig(c, operation, q.CodeSigningConfigArn); err != nil {
		return err
	}
	ref, f, err := a.unqualified(c, operation, q.FunctionName)
	if err != nil {
		return err
	}
	if err := signable(operation, f); err != nil {
		return err
	}
	if err := a.editSettings(c, operation, settingsKey(ref), func(s *registry.FunctionSettings) { s.CodeSigningConfig = q.CodeSigningConfigArn }); err != nil {
		return err
	}
	return c.reply(http.StatusOK, functionSigningAnswer{q.CodeSigningConfigArn, string(ref.Name)})
}

// signingConfig finds the configuration a function is to have.
func (a *API) signingConfig(c *call, operation, arn string) (*registry.CodeSigningConfig, error) {
	if key, ok := a.codeSigningKey(c, arn); ok {
		if o := a.objects.CodeSigningConfigs.Get(key); o != nil {
			return o, nil
		}
	}
	return nil, &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindNotFound, Reason: "CodeSigningConfigNotFoundException",
		Message: "The code signing configuration cannot be found. Check that the provided configuration is not deleted: " + arn + "."}
}

// getFunctionCodeSigningConfig does GetFunctionCodeSigningConfig.
func (a *API) getFunctionCodeSigningConfig(c *call) error {
	const operation = "GetFunctionCodeSigningConfig"
	ref, err := a.wholeFunction(c, operation)
	if err != nil {
		return err
	}
	answer := functionSigningAnswer{CodeSigningConfigArn: a.settingsOf(ref).CodeSigningConfig}
	if answer.CodeSigningConfigArn != "" {
		answer.FunctionName = string(ref.Name)
	}
	return c.reply(http.StatusOK, answer)
}

// deleteFunctionCodeSigningConfig does DeleteFunctionCodeSigningConfig.
func (a *API) deleteFunctionCodeSigningConfig(c *call) error {
	const operation = "DeleteFunctionCodeSigningConfig"
	ref, err := a.wholeFunction(c, operation)
	if err != nil {
		return err
	}
	return c.done(a.editSettings(c, operation, settingsKey(ref), func(s *registry.FunctionSettings) { s.CodeSigningConfig = "" }))
}

// admitCode refuses to give code to a function whose code signing configuration
// demands signatures: lambent can verify none, so it trusts none.
func admitCode(operation string, config *registry.CodeSigningConfig) error {
	if config == nil || config.Untrusted != untrustedEnforce {
		return nil
	}
	return &lambent.Error{Op: operation, Kind: lambent.KindInvalid, Reason: "CodeVerificationFailedException",
		Message: "The code signature failed one or more of the validation checks for signature mismatch or expiry, and the code signing policy is set to ENFORCE. Lambda blocks the deployment."}
}

// admitCodeOf is admitCode for a function that is there.
func (a *API) admitCodeOf(operation string, ref lambent.FunctionRef) error {
	arn := a.settingsOf(ref).CodeSigningConfig
	if arn == "" {
		return nil
	}
	return admitCode(operation, a.objects.CodeSigningConfigs.Get(registry.ObjectKey{Account: ref.Account, Name: arn[strings.LastIndexByte(arn, ':')+1:]}))
}
