package failures

// packs counts, for each pack of the journal that holds something, what of it is
// still needed. The zero packs is of an empty journal.
type packs struct {
	first uint64 // number of table[0]
	table []pack
	lead  int   // packs at the beginning of which nothing is needed, as far as was looked
	ahead int64 // their bytes
	bytes int64 // of all packs
	live  int64 // bytes of the failures that are needed
}

type pack struct {
	live  uint32 // failures of it that are needed
	bytes uint32
}

// add puts a pack at the end; those that are missing before it hold nothing. A
// pack that is there already stays as it is.
func (p *packs) add(number uint64, bytes int) {
	if len(p.table) == 0 {
		p.first, p.lead, p.ahead = number, 0, 0
	}
	for p.next() < number {
		p.table = append(p.table, pack{})
	}
	if p.next() == number {
		p.table = append(p.table, pack{bytes: uint32(bytes)})
		p.bytes += int64(bytes)
	}
}

// next is the number after the last one.
func (p *packs) next() uint64 { return p.first + uint64(len(p.table)) }

func (p *packs) hold(r ref, bytes int64) {
	p.table[r.pack()-p.first].live++
	p.live += bytes
}

func (p *packs) release(r ref, bytes int64) {
	p.table[r.pack()-p.first].live--
	p.live -= bytes
}

// dead finds the first pack that is needed and the bytes before it. The last one
// counts as needed: more of it may be still to come.
func (p *packs) dead() (before uint64, bytes int64) {
	for p.lead < len(p.table)-1 && p.table[p.lead].live == 0 {
		p.ahead += int64(p.table[p.lead].bytes)
		p.lead++
	}
	return p.first + uint64(p.lead), p.ahead
}

// drop forgets the packs before one that dead gave.
func (p *packs) drop(before uint64) {
	n := int(before - p.first)
	if before <= p.first || n > p.lead {
		return
	}
	for _, k := range p.table[:n] {
		p.bytes -= int64(k.bytes)
		p.ahead -= int64(k.bytes)
	}
	p.table = append([]pack(nil), p.table[n:]...) // 8 MiB at a time: a few thousand
	p.first, p.lead = before, p.lead-n
}
