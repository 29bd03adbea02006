package policy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// condition is one operator on one key with the values it is compared to.
type condition struct {
	operator
	key      string // in lower case
	ifExists bool   // holds where the request has no such key
	set      setOperator
	values   []comparand
}

// setOperator says how the values of a key are taken that may have several.
type setOperator uint8

const (
	single       setOperator = iota // a key that has one value
	forAnyValue                     // one of the request's values is enough
	forAllValues                    // each of the request's values must do, also none
)

// An operator compares a request's value to one of the policy's. Its names are
// those of the IAM user guide ("Condition operators").
type operator struct {
	family  family
	compare comparison
	negated bool // holds where no value of the policy matches
}

type family uint8

const (
	text family = iota
	textFolded
	textLike
	number
	date
	boolean
	binary
	address
	arn
	absence // Null
)

type comparison uint8

const (
	equal comparison = iota
	less
	lessOrEqual
	greater
	greaterOrEqual
)

// operatorNamed finds an operator by its name in lower case, without what may
// stand before and behind it.
func operatorNamed(name string) (operator, bool) {
	switch name {
	case "stringequals":
		return operator{family: text}, true
	case "stringnotequals":
		return operator{family: text, negated: true}, true
	case "stringequalsignorecase":
		return operator{family: textFolded}, true
	case "stringnotequalsignorecase":
		return operator{family: textFolded, negated: true}, true
	case "stringlike":
		return operator{family: textLike}, true
	case "stringnotlike":
		return operator{family: textLike, negated: true}, true
	case "bool":
		return operator{family: boolean}, true
	case "binaryequals":
		return operator{family: binary}, true
	case "ipaddress":
		return operator{family: address}, true
	case "notipaddress":
		return operator{family: address, negated: true}, true
	case "arnequals", "arnlike":
		return operator{family: arn}, true
	case "arnnotequals", "arnnotlike":
		return operator{family: arn, negated: true}, true
	case "null":
		return operator{family: absence}, true
	}
	o := operator{family: number}
	rest, ok := strings.CutPrefix(name, "numeric")
	if !ok {
		o.family = date
		if rest, ok = strings.CutPrefix(name, "date"); !ok {
			return operator{}, false
		}
	}
	switch rest {
	case "equals":
	case "notequals":
		o.negated = true
	case "lessthan":
		o.compare = less
	case "lessthanequals":
		o.compare = lessOrEqual
	case "greaterthan":
		o.compare = greater
	case "greaterthanequals":
		o.compare = greaterOrEqual
	default:
		return operator{}, false
	}
	return o, true
}

// comparand is a value of a policy, read as its operator needs it.
type comparand struct {
	pattern pattern      // text, ARNs, booleans
	number  float64      // numbers, and dates in seconds since 1970
	prefix  netip.Prefix // addresses
	bytes   string       // binary
}

func parseConditions(v any, variables bool) ([]condition, error) {
	operators, ok := v.(object)
	if !ok {
		return nil, errors.New(`an object such as {"StringEquals": {"aws:username": "joe"}} is expected`)
	}
	var all []condition
	for _, o := range operators {
		keys, ok := o.value.(object)
		if !ok {
			return nil, fmt.Errorf("%.100s: an object of keys and values is expected", o.name)
		}
		c, err := parseOperator(o.name)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			c := c
			c.key = strings.ToLower(k.name)
			if err := checkKey(c.key); err != nil {
				return nil, fmt.Errorf("%.100s: %w", o.name, err)
			}
			values, err := scalars(k.value)
			for i := 0; i < len(values) && err == nil; i++ {
				var v comparand
				v, err = c.read(values[i], variables)
				c.values = append(c.values, v)
			}
			if err != nil {
				return nil, fmt.Errorf("%.100s: %.100s: %w", o.name, k.name, err)
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// parseOperator takes a name such as ForAnyValue:StringLikeIfExists apart.
func parseOperator(name string) (c condition, err error) {
	base := strings.ToLower(name)
	if rest, ok := strings.CutPrefix(base, "foranyvalue:"); ok {
		base, c.set = rest, forAnyValue
	} else if rest, ok := strings.CutPrefix(base, "forallvalues:"); ok {
		base, c.set = rest, forAllValues
	}
	base, c.ifExists = strings.CutSuffix(base, "ifexists")
	var ok bool
	if c.operator, ok = operatorNamed(base); !ok {
		return c, fmt.Errorf("there is no condition operator %.100q", name)
	}
	if c.family == absence && (c.ifExists || c.set != single) {
		return c, fmt.Errorf("%.100s: Null has no such form", name)
	}
	return c, nil
}

// read reads one value of a policy. It is checked here, once, so that what is
// wrong shows when the policy is attached, not as a door that stays shut.
func (o operator) read(s string, variables bool) (v comparand, err error) {
	switch o.family {
	case number:
		var ok bool
		if v.number, ok = numeric(s); !ok {
			return v, fmt.Errorf("%.100q is not a number", s)
		}
	case date:
		var ok bool
		if v.number, ok = seconds(s); !ok {
			return v, fmt.Errorf("%.100q is not a time: write it like 2026-01-31T12:00:00Z, or in seconds since 1970", s)
		}
	case binary:
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return v, fmt.Errorf("%.100q is not base64", s)
		}
		v.bytes = string(b)
	case address:
		var ok bool
		if v.prefix, ok = addresses(s); !ok {
			return v, fmt.Errorf("%.100q is neither an IP address nor a range such as 203.0.113.0/24", s)
		}
	case boolean, absence:
		if folded := strings.ToLower(s); folded == "true" || folded == "false" {
			v.pattern.text = folded
			return v, nil
		}
		if o.family == absence || !variables || !strings.Contains(s, "${") {
			return v, fmt.Errorf("%.100q is neither true nor false", s)
		}
		v.pattern, err = compile(s, dialect{variables: true})
	case arn:
		if s != "*" && !strings.HasPrefix(s, "${") {
			if err := checkARN(s); err != nil {
				return v, err
			}
		}
		v.pattern, err = compile(s, dialect{wildcards: true, variables: variables})
	default:
		v.pattern, err = compile(s, dialect{wildcards: o.family == textLike, variables: variables})
	}
	return v, err
}

// seconds reads a time as AWS's policies write it.
func seconds(s string) (float64, bool) {
	if f, ok := numeric(s); ok && len(s) != len("2006") { // four digits are a year
		return f, true
	}
	for _, layout := range [...]string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02", "2006-01", "2006"} {
		if t, err := time.Parse(layout, s); err == nil {
			return float64(t.Unix()) + float64(t.Nanosecond())/1e9, true
		}
	}
	return 0, false
}

// numeric reads a number that has a place among others.
func numeric(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}

// addresses reads an IP address or a range of them. An IPv4 address that is
// written as IPv6 is the IPv4 one.
func addresses(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() {
			return netip.PrefixFrom(p.Addr().Unmap(), max(p.Bits()-96, 0)), p.Bits() >= 96
		}
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// truth is what a comparison says. One whose values cannot be compared says
// neither; it then neither allows nor stops a denial.
type truth uint8

const (
	no truth = iota
	yes
	unclear
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// holds says whether a condition is fulfilled by the request.
func (c *condition) holds(e *evaluation) truth {
	values := e.values(c.key)
	if c.family == absence {
		for _, v := range c.values {
			if (v.pattern.text == "true") == (len(values) == 0) {
				return yes
			}
		}
		return no
	}
	if len(values) == 0 {
		return truthOf(c.ifExists || c.set == forAllValues || c.set == single && c.negated)
	}
	// A key with several values under an operator for one is not what AWS
	// defines; one that matches is enough, and each must be unlike for a negated
	// one.
	all := c.set == forAllValues || c.set == single && c.negated
	worst := truthOf(all)
	for _, value := range values {
		switch t := c.one(e, value); {
		case t == unclear:
			worst = unclear
		case (t == no) == all:
			return t
		}
	}
	return worst
}

// one compares one value of the request to all of the policy's.
func (c *condition) one(e *evaluation, value string) truth {
	matched := no
	for i := range c.values {
		switch c.match(e, &c.values[i], value) {
		case yes:
			return truthOf(!c.negated)
		case unclear:
			matched = unclear
		}
	}
	if matched == unclear {
		return unclear
	}
	return truthOf(c.negated)
}

// match compares one value to one. A variable without a value matches nothing,
// which must not be what fulfils a negated operator.
func (c *condition) match(e *evaluation, v *comparand, value string) truth {
	switch c.family {
	case number, date:
		read := numeric
		if c.family == date {
			read = seconds
		}
		f, ok := read(value)
		if !ok {
			return unclear
		}
		return truthOf(c.ordered(f, v.number))
	case binary:
		return truthOf(value == v.bytes)
	case address:
		a, err := netip.ParseAddr(value)
		if err != nil {
			return unclear
		}
		return truthOf(v.prefix.Contains(a.Unmap().WithZone("")))
	}
	p, ok := v.pattern.expand(e)
	if !ok {
		if c.negated {
			return unclear
		}
		return no
	}
	switch c.family {
	case text:
		return truthOf(p == value)
	case textFolded, boolean:
		return truthOf(strings.EqualFold(p, value))
	case arn:
		return truthOf(p == everything || globARN(p, value))
	default:
		return truthOf(glob(p, value))
	}
}

func (c *condition) ordered(a, b float64) bool {
	switch c.compare {
	case less:
		return a < b
	case lessOrEqual:
		return a <= b
	case greater:
		return a > b
	case greaterOrEqual:
		return a >= b
	default:
		return a == b
	}
}
