package blob

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
)

// access is who is let in, and how.
type access struct {
	token      string
	noRole     atomic.Bool // tokens are valid, and have no role on the account
	keysLocked atomic.Bool // the account's allowSharedKeyAccess is false
}

// RefuseTokens takes the roles of the token's identity away, or gives them back.
func (s *Store) RefuseTokens(refuse bool) { s.access.noRole.Store(refuse) }

// LockKeys switches the account's keys off, or on.
func (s *Store) LockKeys(locked bool) { s.access.keysLocked.Store(locked) }

// AccountKey is that of all accounts. It stays as long as the token does.
func (s *Store) AccountKey() string {
	sum := sha256.Sum256([]byte("account key\n" + s.access.token))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Signature is the query by which a container can be read and listed, as a SAS is.
func (s *Store) Signature(account, container string) string {
	sum := sha256.Sum256([]byte("signature\n" + s.access.token + "\n" + account + "/" + container))
	return url.Values{"sv": {"2021-08-06"}, "sr": {"c"}, "sp": {"rl"}, "sig": {base64.StdEncoding.EncodeToString(sum[:])}}.Encode()
}

// letIn tells whether a request is let in; if not it has been answered.
func (s *Store) letIn(w http.ResponseWriter, r *http.Request) bool {
	authorization := r.Header.Get("Authorization")
	token, bearer := strings.CutPrefix(authorization, "Bearer ")
	shared, key := strings.CutPrefix(authorization, "SharedKey ")
	switch {
	case bearer && subtle.ConstantTimeCompare([]byte(token), []byte(s.access.token)) == 1:
		if s.access.noRole.Load() {
			Refuse(w, http.StatusForbidden, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission.")
			return false
		}
		return true
	case key && s.access.keysLocked.Load():
		Refuse(w, http.StatusForbidden, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this storage account.")
		return false
	case key:
		account, signature, _ := strings.Cut(shared, ":")
		if hmac.Equal([]byte(signature), []byte(sign(s.AccountKey(), toSign(r, account)))) {
			return true
		}
	case r.URL.Query().Get("sig") != "":
		account, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		container, _, _ := strings.Cut(rest, "/")
		want, err := url.ParseQuery(s.Signature(account, container))
		if err == nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) && hmac.Equal([]byte(r.URL.Query().Get("sig")), []byte(want.Get("sig"))) {
			return true
		}
	default:
		w.Header().Set("Www-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/common/oauth2/authorize resource_id=https://storage.azure.com")
		Refuse(w, http.StatusUnauthorized, "NoAuthenticationInformation", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
		return false
	}
	Refuse(w, http.StatusForbidden, "AuthenticationFailed", "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.")
	return false
}

func sign(key, text string) string {
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return ""
	}
	sum := hmac.New(sha256.New, secret)
	sum.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(sum.Sum(nil))
}

// toSign is what a client signs (Authorize with Shared Key, Blob service, 2015-02-21 and later).
func toSign(r *http.Request, account string) string {
	lines := []string{r.Method}
	for _, name := range []string{"Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date",
		"If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"} {
		value := r.Header.Get(name)
		if name == "Content-Length" && r.ContentLength > 0 {
			value = cmp.Or(value, formatInt(r.ContentLength))
		}
		if name == "Content-Length" && value == "0" {
			value = ""
		}
		lines = append(lines, value)
	}
	var names []string
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-ms-") {
			names = append(names, lower)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		lines = append(lines, name+":"+strings.Join(r.Header.Values(name), ","))
	}
	lines = append(lines, "/"+account+r.URL.EscapedPath())
	var parameters []string
	for name, values := range r.URL.Query() {
		slices.Sort(values)
		parameters = append(parameters, strings.ToLower(name)+":"+strings.Join(values, ","))
	}
	slices.Sort(parameters)
	return strings.Join(append(lines, parameters...), "\n")
}

// fileKey names a blob's sidecar.
func fileKey(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}
