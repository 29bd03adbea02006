package registry

import "lambent"

// Usage tells how many functions an account has and how many bytes the
// deployment packages of all their versions and of its layers have in all, each
// counted however often it is stored.
func (r *Registry) Usage(account lambent.AccountID) (functions int, codeBytes int64) {
	functions, codeBytes = r.usageOfFunctions(account)
	layers, _ := r.layerVersions.List(account, "", ObjectKey{}, noLimit, nil)
	for _, l := range layers {
		codeBytes += l.Value.CodeSize
	}
	return functions, codeBytes
}

func (r *Registry) usageOfFunctions(account lambent.AccountID) (int, int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var bytes int64
	for _, name := range r.names[account] {
		k := functionKey{account, name}
		bytes += r.functions[k].fn.CodeSize
		for _, v := range r.versions[k] {
			bytes += v.fn.CodeSize
		}
	}
	return len(r.names[account]), bytes
}
