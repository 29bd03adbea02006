package invoke

import "lambent"

// Wake has the lines of a function that rest tried again at once: something was
// changed that may have been in their way, such as its concurrency. It does not
// block.
func (d *Dispatcher) Wake(account lambent.AccountID, function lambent.FunctionName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, l := range d.lines {
		if key.Account != account || key.Function != function || l.rest == nil || d.ending {
			continue
		}
		l.rest.Stop()
		l.rest, l.faults = nil, 0
		d.goOn(l)
	}
}
