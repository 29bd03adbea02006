package api

import (
	"encoding/base64"
	"strconv"

	"lambent"
)

// maxPage is how many entries AWS puts on a page, whatever MaxItems says.
const maxPage = 50

// page is what a request for a list says of its part of it, for API.input.
type page struct {
	Marker   *string
	MaxItems *int64
}

// size is how many entries go on the page.
func (p *page) size() int {
	if p.MaxItems != nil {
		return min(maxPage, int(*p.MaxItems))
	}
	return maxPage
}

// after is what the marker says to go on after, "" from the start. valid tells
// whether it can have been given out.
func (p *page) after(operation string, valid func(string) bool) (string, error) {
	if p.Marker == nil || *p.Marker == "" {
		return "", nil
	}
	at, err := base64.RawURLEncoding.DecodeString(*p.Marker)
	if err != nil || !valid(string(at)) {
		return "", &lambent.Error{Op: operation, Kind: lambent.KindInvalid, Err: err,
			Message: "The Marker is not one that this service gave out as NextMarker."}
	}
	return string(at), nil
}

// writeMarker makes the NextMarker, opaque to callers: what to go on after, in
// base64. There is none at the end.
func writeMarker(at string) *string {
	if at == "" {
		return nil
	}
	marker := base64.RawURLEncoding.EncodeToString([]byte(at))
	return &marker
}

// queryInteger reads a number from the query, nil where there is none.
func queryInteger(c *call, name string) (*int, error) {
	s := c.query(name)
	if s == nil {
		return nil, nil
	}
	n, err := strconv.ParseInt(*s, 10, 32)
	if err != nil {
		return nil, cannotConvert("STRING_VALUE can not be converted to an Integer")
	}
	i := int(n)
	return &i, nil
}
