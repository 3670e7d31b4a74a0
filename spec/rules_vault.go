package spec

import (
	"fmt"
	"net/url"
	"strings"
)

// vaultDomains are those of Key Vault, by cloud. An identity of one cloud gets no token for
// another's, and what the sign-in says then does not name the vault.
var vaultDomains = map[string]string{
	PublicCloud: "vault.azure.net", USGovCloud: "vault.usgovcloudapi.net", ChinaCloud: "vault.azure.cn",
}

// checkVaults reports references to Key Vaults of another cloud than the workspace's.
func (d *document) checkVaults(s *Stack) {
	want := vaultDomains[s.Workspace.Cloud]
	check := func(field, uri string) {
		u, err := url.Parse(uri)
		if err != nil || uri == "" || want == "" || d.broken(field) || d.broken("workspace.cloud") {
			return
		}
		if _, domain, _ := strings.Cut(u.Host, "."); u.Scheme == "https" && !strings.EqualFold(domain, want) {
			d.failf(field, "workspace.cloud says which cloud it is", "is in another cloud than the workspace: Key Vaults of %s are at %s", s.Workspace.Cloud, want)
		}
	}
	inference := func(at string, i *Inference) {
		if i == nil {
			return
		}
		for _, name := range sortedKeys(i.Secrets) {
			check(childField(at+".secrets", name)+".keyVault", i.Secrets[name].KeyVault)
		}
	}
	for i, c := range s.Clusters {
		if c.SSL != nil {
			check(fmt.Sprintf("clusters[%d].ssl.certificate.keyVault", i), c.SSL.Certificate.KeyVault)
		}
	}
	for i := range s.Services {
		at := fmt.Sprintf("services[%d]", i)
		inference(at+".inference", &s.Services[i].Inference)
		for j := range s.Services[i].Versions {
			inference(fmt.Sprintf("%s.versions[%d].inference", at, j), s.Services[i].Versions[j].Inference)
		}
	}
}
