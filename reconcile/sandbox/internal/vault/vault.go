// Package vault is the sandbox's Key Vault: Get Secret of its data plane, and the secrets as
// one file. What a Key Vault certificate consists of is read as the secret of its name, so
// that is all that clients of certificates need too.
package vault

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/files"
)

// apiVersion is the oldest that is answered; later ones are dates or higher numbers, and
// Get Secret is the same in all of them.
const apiVersion = "7.0"

// maxValue is Key Vault's limit on a secret (service limits: 25 KB).
const maxValue = 25 << 10

// Vault is an http.Handler over a file.
type Vault struct {
	file, token string
	now         func() time.Time

	mu      sync.Mutex
	secrets map[string][]secret // by name in lower case, the newest last
}

// secret is one version.
type secret struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Value       string `json:"value"`
	ContentType string `json:"contentType,omitempty"`
	Disabled    bool   `json:"disabled,omitempty"`
	Created     int64  `json:"created"` // Unix seconds
}

// New serves the secrets of a file, which may not be there yet, to whoever bears the token.
func New(file, token string) (*Vault, error) {
	v := &Vault{file: file, token: token, now: time.Now, secrets: map[string][]secret{}}
	if err := files.ReadJSON(file, &v.secrets); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return v, nil
}

var name = regexp.MustCompile(`^[-0-9A-Za-z]{1,127}$`)

// Put adds a version of a secret and gives the version's name. An empty value disables the
// newest version instead.
func (v *Vault) Put(called, value, contentType string) (string, error) {
	if !name.MatchString(called) || len(value) > maxValue {
		return "", errors.New("a secret has a name of 1 to 127 letters, digits and dashes, and a value of at most 25 KB")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	key := strings.ToLower(called)
	versions := v.secrets[key]
	if value == "" {
		if len(versions) == 0 {
			return "", errors.New("there is no secret " + called)
		}
		newest := &versions[len(versions)-1]
		newest.Disabled = true
		return newest.Version, files.WriteJSON(v.file, v.secrets)
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	added := secret{Name: called, Version: hex.EncodeToString(id[:]), Value: value, ContentType: contentType, Created: v.now().Unix()}
	v.secrets[key] = append(versions, added)
	return added.Version, files.WriteJSON(v.file, v.secrets)
}

// Refuse writes an error in Key Vault's form; what lies behind the first : of a code is its
// inner error's.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	code, inner, nested := strings.Cut(code, ":")
	told := map[string]any{"code": code, "message": message}
	if nested {
		told["innererror"] = map[string]string{"code": inner}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": told}) // the client has gone away
}

// ServeHTTP answers GET /secrets/NAME and GET /secrets/NAME/VERSION.
func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Ms-Keyvault-Service-Version", "2.0.0.0")
	w.Header().Set("X-Ms-Request-Id", "00000000-0000-0000-0000-000000000000")
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		w.Header().Set("Www-Authenticate", `Bearer authorization="https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000", resource="https://vault.azure.net"`)
		Refuse(w, http.StatusUnauthorized, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
		return
	}
	if subtle.ConstantTimeCompare([]byte(token), []byte(v.token)) != 1 {
		Refuse(w, http.StatusUnauthorized, "Unauthorized", "AKV10022: Invalid audience. Expected https://vault.azure.net.")
		return
	}
	switch version := r.URL.Query().Get("api-version"); {
	case version == "":
		Refuse(w, http.StatusBadRequest, "BadParameter", "api-version must be specified")
		return
	case version < apiVersion && len(version) == len(apiVersion):
		Refuse(w, http.StatusBadRequest, "BadParameter", "The specified version ("+version+") is not recognized.")
		return
	}
	collection, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	called, version, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	if collection != "secrets" || !name.MatchString(called) {
		Refuse(w, http.StatusBadRequest, "BadParameter", "The request URI contains an invalid name: "+cmp.Or(called, collection))
		return
	}
	if r.Method != http.MethodGet {
		Refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "The sandbox's vault is only read.")
		return
	}
	v.get(w, r, called, version)
}

func (v *Vault) get(w http.ResponseWriter, r *http.Request, called, version string) {
	v.mu.Lock()
	versions := v.secrets[strings.ToLower(called)]
	v.mu.Unlock()
	var found *secret
	for i := range versions {
		if version == "" || versions[i].Version == version {
			found = &versions[i]
		}
	}
	if found == nil {
		Refuse(w, http.StatusNotFound, "SecretNotFound", "A secret with (name/id) "+strings.TrimSuffix(called+"/"+version, "/")+
			" was not found in this key vault. If you recently deleted this secret you may be able to recover it using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182")
		return
	}
	if found.Disabled {
		Refuse(w, http.StatusForbidden, "Forbidden:SecretDisabled", "Operation get is not allowed on a disabled secret.")
		return
	}
	answer := map[string]any{
		"value": found.Value, "id": "http://" + r.Host + "/secrets/" + found.Name + "/" + found.Version,
		"attributes": map[string]any{"enabled": true, "created": found.Created, "updated": found.Created, "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90},
		"tags":       map[string]string{},
	}
	if found.ContentType != "" {
		answer["contentType"] = found.ContentType
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(answer) // the client has gone away
}
