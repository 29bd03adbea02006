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
