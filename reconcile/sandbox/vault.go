package sandbox

import (
	"context"
	"net/http"
)

// Vault is the URL of the sandbox's Key Vault; a stack refers to its /secrets/NAME and
// /certificates/NAME.
func (s *Sandbox) Vault() string { return "http://" + s.settings.address(portVault) }

// PutSecret adds a version to a secret of the Key Vault and gives the version's name. The
// secret behind a certificate has the content type application/x-pkcs12 (its value is base64)
// or application/x-pem-file. An empty value disables the newest version.
func (s *Sandbox) PutSecret(name, value, contentType string) (version string, err error) {
	return s.vault.Put(name, value, contentType)
}

type secretCall struct{ Name, Value, ContentType string }

func (s *Sandbox) adminVault(mux *http.ServeMux) {
	mux.HandleFunc("POST /secrets", func(w http.ResponseWriter, r *http.Request) {
		var call secretCall
		err := question(r, &call)
		version := ""
		if err == nil {
			version, err = s.PutSecret(call.Name, call.Value, call.ContentType)
		}
		answer(w, version, err)
	})
}

// PutSecret adds a version to a secret, as Sandbox.PutSecret.
func (c *Client) PutSecret(ctx context.Context, name, value, contentType string) (version string, err error) {
	return version, c.call(ctx, http.MethodPost, "/secrets", secretCall{Name: name, Value: value, ContentType: contentType}, &version)
}
