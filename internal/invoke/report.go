package invoke

import (
	"math"
	"strconv"
	"time"

	"lambent"
)

// report is what the END and REPORT lines tell.
type report struct {
	request     lambent.RequestID
	duration    time.Duration
	init        time.Duration // zero when the container was not new
	memoryMB    int
	maxMemoryMB int
	cpu         time.Duration // zero where it was not measured
	status      string        // empty for success, else "error" or "timeout"
	errorType   string
}

// lines renders END and REPORT in AWS's format: fields parted by tabs, times in
// milliseconds, the billed duration rounded up to a whole one (developer guide,
// "Understanding Lambda log formats"). The init of a new container is billed.
func (r report) lines() []string {
	billed := int64(math.Ceil(float64(r.duration+r.init) / float64(time.Millisecond)))
	b := make([]byte, 0, 256)
	b = append(b, "REPORT RequestId: "...)
	b = append(b, r.request...)
	b = append(b, "\tDuration: "...)
	b = appendMillis(b, r.duration)
	b = append(b, " ms\tBilled Duration: "...)
	b = strconv.AppendInt(b, max(billed, 1), 10)
	b = append(b, " ms\tMemory Size: "...)
	b = strconv.AppendInt(b, int64(r.memoryMB), 10)
	b = append(b, " MB\tMax Memory Used: "...)
	b = strconv.AppendInt(b, int64(r.maxMemoryMB), 10)
	b = append(b, " MB\t"...)
	if r.init > 0 {
		b = append(b, "Init Duration: "...)
		b = appendMillis(b, r.init)
		b = append(b, " ms\t"...)
	}
	if r.status != "" {
		b = append(b, "Status: "...)
		b = append(b, r.status...)
		if r.errorType != "" {
			b = append(b, "\tError Type: "...)
			b = append(b, r.errorType...)
		}
	}
	return []string{"END RequestId: " + string(r.request), string(b)}
}

func appendMillis(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, float64(d)/float64(time.Millisecond), 'f', 2, 64)
}
