package pool

// Queued is how many callers wait for whom nothing is starting.
func (p *Pool) Queued() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queued
}
