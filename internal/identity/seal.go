package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
)

// sealer seals what only this server may open, with keys that follow from the
// one in the key file, one a purpose.
type sealer struct {
	secrets  cipher.AEAD // access keys' secrets
	tokens   cipher.AEAD // session tokens
	sessions []byte      // sessions' secrets follow from it
}

func newSealer(master []byte) (*sealer, error) {
	aead := func(purpose string) (cipher.AEAD, error) {
		key, err := hkdf.Key(sha256.New, master, nil, purpose, 32)
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	}
	var s sealer
	var err1, err2, err3 error
	s.secrets, err1 = aead("lambent access key secret 1")
	s.tokens, err2 = aead("lambent session token 1")
	s.sessions, err3 = hkdf.Key(sha256.New, master, nil, "lambent session secret 1", 32)
	return &s, errors.Join(err1, err2, err3)
}

// seal seals text so that it opens for the same owner only.
func seal(a cipher.AEAD, text []byte, owner string) []byte {
	nonce := make([]byte, a.NonceSize(), a.NonceSize()+len(text)+a.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return a.Seal(nonce, nonce, text, []byte(owner))
}

var errSealed = errors.New("it was sealed for somebody else, with another key, or was changed")

// open undoes seal.
func open(a cipher.AEAD, sealed []byte, owner string) ([]byte, error) {
	if len(sealed) < a.NonceSize() {
		return nil, errSealed
	}
	text, err := a.Open(nil, sealed[:a.NonceSize()], sealed[a.NonceSize():], []byte(owner))
	if err != nil {
		return nil, errSealed
	}
	return text, nil
}

// sessionSecret is the secret of a session's access key.
func (s *sealer) sessionSecret(accessKeyID string) string {
	h := hmac.New(sha256.New, s.sessions)
	h.Write([]byte(accessKeyID))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))[:secretLength]
}

const secretLength = 40 // characters, as AWS's have

// newSecret makes the secret of an access key: 240 random bits.
func newSecret() string {
	var b [30]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

// newID makes an identifier as AWS's are: a prefix that tells the kind, and
// random characters of base32, in all of a length.
func newID(prefix string, length int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	b := make([]byte, length)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = alphabet[b[i]&31]
	}
	return prefix + string(b[len(prefix):])
}

// What identifiers begin with and how long they are (IAM user guide, "Unique
// identifiers").
const (
	keyPrefix     = "AKIA"
	sessionPrefix = "ASIA"
	userPrefix    = "AIDA"
	rolePrefix    = "AROA"

	keyLength = 20
	idLength  = 21
)
