package image

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// keychain reads what registries want to know from a file in the form of Docker's
// config.json, for each request anew. Only what is in the file counts: programs
// it names to ask (credsStore, credHelpers) are not run.
type keychain struct{ file string }

var _ authn.Keychain = keychain{}

// Resolve implements authn.Keychain.
func (k keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	if k.file == "" {
		return authn.Anonymous, nil
	}
	text, err := k.read()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCredentials, err)
	}
	return resolve(text, target.RegistryStr())
}

// errCredentials is that the file of credentials cannot be used.
var errCredentials = errors.New("images.credentials")

func (k keychain) read() ([]byte, error) {
	f, err := os.Open(k.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %#o: others than its owner may read it; chmod 600", k.file, info.Mode().Perm())
	}
	return io.ReadAll(f)
}

// resolve finds what the text of a config.json has for a registry.
func resolve(text []byte, registry string) (authn.Authenticator, error) {
	var config struct {
		Auths map[string]struct {
			Auth, Username, Password, IdentityToken string
		}
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%w: it is not in the form of Docker's config.json: %w", errCredentials, err)
	}
	for host, a := range config.Auths {
		host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://"), "/"), "/v1")
		if host != registry && (registry != name.DefaultRegistry || host != "docker.io") {
			continue
		}
		if a.Auth != "" {
			pair, err := base64.StdEncoding.DecodeString(a.Auth)
			if err != nil {
				return nil, fmt.Errorf("%w: auth of %s is not base64", errCredentials, host)
			}
			a.Username, a.Password, _ = strings.Cut(string(pair), ":")
		}
		return authn.FromConfig(authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken}), nil
	}
	return authn.Anonymous, nil
}
