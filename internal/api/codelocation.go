package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"lambent"
)

// codePath is below which packages are served to whoever holds a location.
const codePath = operatorPrefix + "code/"

// codeLifetime is how long a code location works: AWS's ten minutes
// (GetFunction, "The presigned URL is valid for 10 minutes").
const codeLifetime = 10 * time.Minute

// codeURL is where a package can be fetched without credentials, by
// whoever was given the URL, for a while. The host is the one the caller
// reached this server by.
func (a *API) codeURL(r *http.Request, hash lambent.CodeHash) string {
	expires := a.now().Add(codeLifetime).Unix()
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	u := url.URL{
		Scheme: scheme,
		Host:   r.Host,
		Path:   codePath + hashSegment(hash),
		RawQuery: url.Values{
			"expires": {strconv.FormatInt(expires, 10)},
			"token":   {a.codeToken(hash, expires)},
		}.Encode(),
	}
	return u.String()
}

// codeToken proves that this process gave out the location of a package until
// a time, in Unix seconds.
func (a *API) codeToken(hash lambent.CodeHash, expires int64) string {
	mac := hmac.New(sha256.New, a.linkKey)
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(expires))
	mac.Write(at[:])
	mac.Write([]byte(hash))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// hashSegment writes a code hash so that it is one segment of a path.
func hashSegment(hash lambent.CodeHash) string {
	raw, err := base64.StdEncoding.DecodeString(string(hash))
	if err != nil {
		raw = []byte(hash) // of a record from elsewhere: its package is not found, no more
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// serveCode answers a code location.
func (a *API) serveCode(w http.ResponseWriter, r *http.Request) {
	raw, err := base64.RawURLEncoding.DecodeString(r.PathValue("hash"))
	hash := lambent.CodeHash(base64.StdEncoding.EncodeToString(raw))
	query := r.URL.Query()
	expires, err2 := strconv.ParseInt(query.Get("expires"), 10, 64)
	genuine := hmac.Equal([]byte(query.Get("token")), []byte(a.codeToken(hash, expires)))
	if err != nil || err2 != nil || !genuine || a.now().Unix() > expires {
		a.writeError(w, r, "code location", &lambent.Error{Op: "serve code", Kind: lambent.KindDenied,
			Message: "This location of a function's code is not valid or has expired: ask GetFunction for another one."})
		return
	}
	pkg, size, err := a.functions.CodePackage(r.Context(), hash)
	if err != nil {
		a.writeError(w, r, "code location", err)
		return
	}
	defer pkg.Close()
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	if _, err := io.CopyN(w, pkg, size); err != nil && r.Context().Err() == nil {
		a.log.ErrorContext(r.Context(), "serving a function's code broke off", "code", hash, "error", err)
	}
}
