package pool

import (
	"fmt"
	"strings"

	"lambent"
	"lambent/internal/hostinfo"
	"lambent/internal/placement"
)

// runtimeOf finds what serves a function.
func (p *Pool) runtimeOf(fn *lambent.Function) (hostinfo.Installed, error) {
	if fn.PackageType == lambent.PackageImage {
		return hostinfo.Installed{Family: lambent.FamilyImage, Version: imageDigest(fn.ImageRef), Image: fn.ImageRef}, nil
	}
	rt, exact, ok := hostinfo.Match(fn.Runtime, p.opts.Runtimes)
	message := ""
	switch {
	case !ok:
		message = fmt.Sprintf("The runtime %s of function %s is not installed on this machine; `lambent doctor` lists what was found", fn.Runtime, fn.Name)
	case !exact && p.opts.Strict:
		message = fmt.Sprintf("The runtime %s of function %s is not installed on this machine, and strict_runtimes forbids %s in its place", fn.Runtime, fn.Name, rt)
	default:
		return rt, nil
	}
	return rt, &lambent.Error{Op: "find a runtime for", Resource: string(fn.Name), Kind: lambent.KindInvalid, Message: message, Err: ErrNoRoom}
}

// imageDigest is the digest that an image is named by, in hexadecimal: images of
// the same digest are the same, wherever they are.
func imageDigest(ref string) string {
	_, digest, _ := strings.Cut(ref, "@sha256:")
	return digest
}

// supplyOf finds or makes the supply of a configuration.
//
// +checklocks:p.mu
func (p *Pool) supplyOf(rt hostinfo.Installed, ephemeralMB int) *supply {
	config := placement.Configuration{Family: rt.Family, Version: rt.Version, EphemeralMB: ephemeralMB}
	s := p.supplies[config]
	if s == nil {
		p.forgetImages()
		s = &supply{config: config, runtime: rt}
		p.supplies[config] = s
	}
	return s
}

// forgetImages forgets the supplies of images that nothing is of any more, once
// there are twice as many supplies as the last time: each image that functions
// are of in turn has one, and every decision goes through them all.
//
// +checklocks:p.mu
func (p *Pool) forgetImages() {
	if len(p.supplies) < max(p.manySupplies, fewSupplies) {
		return
	}
	used := map[*supply]bool{}
	for _, l := range p.lines {
		used[l.supply] = true
	}
	for _, pl := range p.places {
		used[pl.supply] = true
	}
	for config, s := range p.supplies {
		if config.Family == lambent.FamilyImage && !used[s] && s.booting == 0 && len(s.claims) == 0 {
			delete(p.supplies, config)
			delete(p.times, config)
			delete(p.warm, config)
		}
	}
	p.manySupplies = 2 * len(p.supplies)
}

// fewSupplies are not worth looking through.
const fewSupplies = 32
