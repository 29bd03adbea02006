package registry

import "lambent"

// Usage tells how many functions an account has and how many bytes the
// deployment packages of all their versions and of its layers have in all, each
// counted however often it is stored.
func (r *Registry) Usage(account lambent.AccountID) (functions int, codeBytes int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, name := range r.names[account] {
		k := functionKey{account, name}
		codeBytes += r.functions[k].fn.CodeSize
		for _, v := range r.versions[k] {
			codeBytes += v.fn.CodeSize
		}
	}
	layers, _ := r.layerVersions.List(account, "", ObjectKey{}, noLimit, nil)
	for _, l := range layers {
		codeBytes += l.Value.CodeSize
	}
	return len(r.names[account]), codeBytes
}
