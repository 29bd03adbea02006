package queue

// packs counts, for each pack of the journal from the first that is not dropped,
// what of it is still needed. The zero packs is of an empty journal.
type packs struct {
	first uint64 // number of table[skip]
	table []pack
	skip  int   // of table: dropped
	lead  int   // packs at the beginning of which nothing is needed, as far as was looked
	ahead int64 // their bytes
	bytes int64 // of all packs
	live  int64 // bytes, roughly, of the events that are needed
	count int   // events that are needed
}

// pack is 16 bytes, because there may be as many as events.
type pack struct {
	live  uint32 // events of it that are not settled
	bytes uint32
	each  uint32 // bytes of an entry, on average
	since uint32 // seconds, by the queue's clock, since its oldest event was accepted
}

// add puts a pack at the end; those that are missing before it hold nothing. A
// pack that is there already stays as it is.
func (p *packs) add(number uint64, bytes, entries int) {
	if len(p.table) == p.skip {
		p.table, p.skip, p.lead, p.ahead, p.first = p.table[:0], 0, 0, 0, number
	}
	for p.first+uint64(len(p.table)-p.skip) <= number {
		p.table = append(p.table, pack{})
		if p.first+uint64(len(p.table)-p.skip)-1 == number {
			p.table[len(p.table)-1] = pack{bytes: uint32(bytes), each: uint32(bytes / max(1, entries))}
			p.bytes += int64(bytes)
		}
	}
}

// of gives a pack, nil where it was dropped or never was.
func (p *packs) of(number uint64) *pack {
	i := number - p.first
	if number < p.first || i >= uint64(len(p.table)-p.skip) {
		return nil
	}
	return &p.table[p.skip+int(i)]
}

// next is the number after the last one.
func (p *packs) next() uint64 { return p.first + uint64(len(p.table)-p.skip) }

// hold counts an event that is needed, accepted so many milliseconds by the
// queue's clock.
func (p *packs) hold(r ref, accepted int64) {
	pk := p.of(r.pack())
	if since := uint32(max(0, accepted) / 1000); pk.live == 0 || since < pk.since {
		pk.since = since
	}
	pk.live++
	p.live += int64(pk.each)
	p.count++
}

// release counts one less.
func (p *packs) release(r ref) {
	pk := p.of(r.pack())
	pk.live--
	p.live -= int64(pk.each)
	p.count--
}

// dead finds the first pack that is needed and the bytes before it. The last one
// counts as needed: more of it may be still to come.
func (p *packs) dead() (before uint64, bytes int64) {
	for p.skip+p.lead < len(p.table)-1 && p.table[p.skip+p.lead].live == 0 {
		p.ahead += int64(p.table[p.skip+p.lead].bytes)
		p.lead++
	}
	return p.first + uint64(p.lead), p.ahead
}

// drop forgets the packs before one, of those that dead told of.
func (p *packs) drop(before uint64) {
	for p.first < before && p.lead > 0 {
		p.bytes -= int64(p.table[p.skip].bytes)
		p.ahead -= int64(p.table[p.skip].bytes)
		p.skip++
		p.lead--
		p.first++
	}
	if p.skip > len(p.table)/2 {
		p.table = append(make([]pack, 0, len(p.table)-p.skip), p.table[p.skip:]...)
		p.skip = 0
	}
}
