package guest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent/internal/runtimeapi/frame"
)

func TestSecurityCredentialsAreServedOnlyToWhoHasTheirToken(t *testing.T) {
	expires := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	api := NewAPI(nil)
	ask := func(method, token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, CredentialsPath, nil)
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w
	}
	if w := ask("GET", ""); w.Code != http.StatusNotFound {
		t.Errorf("without credentials: %d", w.Code)
	}
	api.SetCredentials(&frame.Credentials{AccessKeyID: "ASIA", SecretAccessKey: "s", SessionToken: "t", Expires: &expires, Authorization: "secret"})
	for _, token := range []string{"", "other", "secret2", "Secret"} {
		if w := ask("GET", token); w.Code != http.StatusForbidden {
			t.Errorf("token %q: %d %s", token, w.Code, w.Body)
		}
	}
	if w := ask("POST", "secret"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	var got map[string]string
	w := ask("GET", "secret")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	want := map[string]string{"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t", "Expiration": "2026-03-04T05:06:07Z"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
