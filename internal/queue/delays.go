package queue

// delayed is an event that is due later.
type delayed struct {
	due  int64 // by the queue's clock
	ref  ref
	line *line
}

// delays is a heap of what is due later, the earliest first.
type delays []delayed

func (d *delays) push(x delayed) {
	h := append(*d, x)
	*d = h
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].due <= h[i].due {
			return
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

// pop takes the earliest; there must be one.
func (d *delays) pop() delayed {
	h := *d
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], delayed{}
	h = h[:last]
	for i := 0; ; {
		least := i
		for _, down := range []int{2*i + 1, 2*i + 2} {
			if down < len(h) && h[down].due < h[least].due {
				least = down
			}
		}
		if least == i {
			break
		}
		h[least], h[i] = h[i], h[least]
		i = least
	}
	if cap(h) > 64 && len(h) < cap(h)/4 {
		h = append(make(delays, 0, cap(h)/2), h...)
	}
	*d = h
	return first
}

// remove takes the one at a place out.
func (d *delays) remove(i int) {
	left := append((*d)[:i:i], (*d)[i+1:]...)
	*d = make(delays, 0, len(left))
	for _, x := range left {
		d.push(x)
	}
}
