package api

import (
	"maps"
	"net/http"
	"strings"

	"lambent"
	"lambent/internal/registry"
)

// taggable is one thing that can have tags.
type taggable struct {
	tags map[string]string
	// edit has change alter a copy of the tags and stores it.
	edit func(change func(map[string]string) error) error
}

// taggableOf finds what an ARN that the model has passed names.
func (a *API) taggableOf(c *call, operation, arn string) (taggable, error) {
	part := strings.SplitN(arn, ":", 7)
	account := lambent.AccountID(part[4])
	if part[1] != partition || part[3] != a.region {
		return taggable{}, noResource(operation, "The resource you requested does not exist.")
	}
	if account != c.caller.Account {
		return taggable{}, a.denied(c.caller, operation, lambent.FunctionRef{Account: account, Name: lambent.FunctionName(part[6])})
	}
	ctx := c.r.Context()
	switch part[5] {
	case "function":
		name, qualifier, _ := strings.Cut(part[6], ":")
		if qualifier != "" {
			return taggable{}, invalid(operation, "Tags on function aliases and versions are not supported. Please specify a function ARN.")
		}
		f, err := a.functions.Function(account, lambent.FunctionName(name), "")
		if err != nil {
			return taggable{}, err
		}
		return taggable{f.Tags, func(change func(map[string]string) error) error {
			return a.functions.TagFunction(ctx, account, f.Name, change)
		}}, nil
	case "code-signing-config":
		return tagged(c, operation, a.objects.CodeSigningConfigs, account, part[6], func(o *registry.CodeSigningConfig) *map[string]string { return &o.Tags })
	case "event-source-mapping":
		return tagged(c, operation, a.objects.EventSourceMappings, account, part[6], func(o *registry.EventSourceMapping) *map[string]string { return &o.Tags })
	}
	return tagged(c, operation, a.objects.CapacityProviders, account, part[6], func(o *registry.CapacityProvider) *map[string]string { return &o.Tags })
}

// tagged is an object of a table with tags.
func tagged[T any](c *call, operation string, t *registry.Table[T], account lambent.AccountID, name string, tags func(*T) *map[string]string) (taggable, error) {
	missing := noResource(operation, "The resource you requested does not exist.")
	key := registry.ObjectKey{Account: account, Name: name}
	o := t.Get(key)
	if o == nil {
		return taggable{}, missing
	}
	return taggable{*tags(o), func(change func(map[string]string) error) error {
		_, err := t.Edit(c.r.Context(), operation, key, func(old *T) (*T, error) {
			if old == nil {
				return nil, missing
			}
			next, changed := *old, maps.Clone(*tags(old))
			if changed == nil {
				changed = map[string]string{}
			}
			err := change(changed)
			*tags(&next) = changed
			return &next, err
		})
		return err
	}}, nil
}

// tagResource does TagResource.
func (a *API) tagResource(c *call) error {
	const operation = "TagResource"
	var q struct {
		Resource string
		Tags     map[string]string
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	if len(q.Tags) == 0 {
		return invalid(operation, "An error occurred and the request cannot be processed.")
	}
	if err := checkPlainTags(operation, q.Tags); err != nil {
		return err
	}
	t, err := a.taggableOf(c, operation, q.Resource)
	if err != nil {
		return err
	}
	err = t.edit(func(tags map[string]string) error {
		maps.Copy(tags, q.Tags)
		if len(tags) > maxTags {
			return invalid(operation, "Number of tags exceeds resource tag limit.")
		}
		return nil
	})
	return c.done(err)
}

// untagResource does UntagResource.
func (a *API) untagResource(c *call) error {
	const operation = "UntagResource"
	var q struct {
		Resource string
		TagKeys  []string
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	t, err := a.taggableOf(c, operation, q.Resource)
	if err != nil {
		return err
	}
	return c.done(t.edit(func(tags map[string]string) error {
		for _, k := range q.TagKeys {
			delete(tags, k)
		}
		return nil
	}))
}

type listTagsAnswer struct{ Tags map[string]string }

// listTags does ListTags.
func (a *API) listTags(c *call) error {
	const operation = "ListTags"
	var q struct{ Resource string }
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	t, err := a.taggableOf(c, operation, q.Resource)
	if err != nil {
		return err
	}
	tags := t.tags
	if tags == nil {
		tags = map[string]string{}
	}
	return c.reply(http.StatusOK, listTagsAnswer{tags})
}

// done answers 204 where err is nil.
func (c *call) done(err error) error {
	if err == nil {
		c.w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// checkPlainTags is checkTags for tags that hold no nulls.
func checkPlainTags(operation string, tags map[string]string) error {
	indirect := make(map[string]*string, len(tags))
	for k, v := range tags {
		indirect[k] = &v
	}
	return checkTags(operation, indirect)
}
