package queue

// ring is refs in a row, of which either end can be added to and the first one
// taken. The zero ring is ready.
type ring struct {
	refs []ref // of a power of two
	head int   // of the first one
	size int
}

const leastRing = 8

func (r *ring) at(i int) *ref { return &r.refs[(r.head+i)&(len(r.refs)-1)] }

func (r *ring) pushBack(x ref) {
	r.grow()
	r.size++
	*r.at(r.size - 1) = x
}

func (r *ring) pushFront(x ref) {
	r.grow()
	r.head = (r.head - 1) & (len(r.refs) - 1)
	r.size++
	*r.at(0) = x
}

// popFront takes the first; there must be one. What is mostly empty shrinks.
func (r *ring) popFront() ref {
	x := *r.at(0)
	r.head = (r.head + 1) & (len(r.refs) - 1)
	r.size--
	if len(r.refs) > leastRing && r.size <= len(r.refs)/8 {
		r.resize(len(r.refs) / 4)
	}
	return x
}

func (r *ring) grow() {
	if r.size == len(r.refs) {
		r.resize(max(leastRing, 2*r.size))
	}
}

func (r *ring) resize(n int) {
	refs := make([]ref, n)
	for i := range r.size {
		refs[i] = *r.at(i)
	}
	r.refs, r.head = refs, 0
}

// remove takes x out, wherever it is, and tells whether it was there.
func (r *ring) remove(x ref) (was bool) {
	for i := range r.size {
		if was {
			*r.at(i - 1) = *r.at(i)
		}
		was = was || *r.at(i) == x
	}
	if was {
		r.size--
	}
	return was
}
