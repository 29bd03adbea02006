package registry

import "lambent"

// HotFunctions are the functions whose code follows a folder of this machine, in
// no order.
func (r *Registry) HotFunctions() (hot []*lambent.Function) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.functions {
		if s.fn.HotFolder != "" {
			hot = append(hot, s.fn)
		}
	}
	return hot
}

// Images is the set of the images that functions and their versions are, by
// digest.
func (r *Registry) Images() map[lambent.CodeHash]bool {
	set := map[lambent.CodeHash]bool{}
	for _, fn := range r.all() {
		for ; fn != nil; fn = fn.Previous {
			if fn.PackageType == lambent.PackageImage {
				set[fn.Code] = true
			}
		}
	}
	return set
}
