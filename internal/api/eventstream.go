package api

import (
	"encoding/binary"
	"hash/crc32"
)

// This file writes AWS's event stream encoding (application/vnd.amazon.eventstream;
// Amazon Transcribe developer guide, "Event stream encoding", and the SDKs). A
// message is, in big-endian numbers,
//
//	uint32  length of the message, these four bytes and the last four included
//	uint32  length of the headers
//	uint32  CRC-32 of the eight bytes before
//	...     headers: uint8 length, name, uint8 type, value
//	...     payload
//	uint32  CRC-32 of all before
const (
	eventPrelude = 12
	eventText    = 7 // the type of a header that is text: uint16 length, text
)

// appendEvent appends a message that is an event of a type.
func appendEvent(dst []byte, eventType, contentType string, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, eventPrelude)...)
	for _, h := range [...][2]string{{":event-type", eventType}, {":content-type", contentType}, {":message-type", "event"}} {
		dst = append(append(dst, byte(len(h[0]))), h[0]...)
		dst = append(dst, eventText)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(h[1])))
		dst = append(dst, h[1]...)
	}
	headers := len(dst) - start - eventPrelude
	dst = append(dst, payload...)
	message := dst[start:]
	binary.BigEndian.PutUint32(message, uint32(len(message)+4))
	binary.BigEndian.PutUint32(message[4:], uint32(headers))
	binary.BigEndian.PutUint32(message[8:], crc32.ChecksumIEEE(message[:8]))
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(message))
}
