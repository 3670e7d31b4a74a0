package spec

import "testing"

// TestFrontEndDiagnostics: the rules about TLS and the name of the address.
func TestFrontEndDiagnostics(t *testing.T) {
	runDiagnosticCases(t, []diagnosticCase{
		{"label with ssl and without", "    agentCount: 3", `    agentCount: 3
    ssl: {cname: a.example.com, certificate: {keyVault: "https://ml-prod.vault.azure.net/certificates/score"}}
    frontEnd: {dnsLabel: ml-prod}`, ``},
		{"label of an internal address", "    agentCount: 3", `    agentCount: 3
    loadBalancerType: InternalLoadBalancer
    frontEnd: {dnsLabel: ml-prod}`, `
amlaks.yaml:9:16: clusters[0].frontEnd.dnsLabel: names a public address, and that of an InternalLoadBalancer is not
    9 |     frontEnd: {dnsLabel: ml-prod}
      |                          ^
      = hint: make a DNS record in a private zone, and take it for ssl.cname
`},
		{"label of no address", "    agentCount: 3", `    agentCount: 3
    frontEnd: {dnsLabel: ml-prod, expose: clusterIP}`, `
amlaks.yaml:8:16: clusters[0].frontEnd.dnsLabel: names the public address of a load balancer, and expose clusterIP makes none
    8 |     frontEnd: {dnsLabel: ml-prod, expose: clusterIP}
      |                          ^
`},
		{"a label that Azure refuses", "    agentCount: 3", `    agentCount: 3
    frontEnd: {dnsLabel: ML-prod}`, `
amlaks.yaml:8:16: clusters[0].frontEnd.dnsLabel: must be 3 to 63 lower-case letters, digits and dashes, start with a letter and not end with a dash
    8 |     frontEnd: {dnsLabel: ML-prod}
      |                          ^
`},
		{"https where http is expected", "    agentCount: 3", `    agentCount: 3
    ssl: {cname: a.example.com, certificate: {files: {cert: /a, key: /b}}}
    frontEnd: {port: 80}`, `
amlaks.yaml:9:16: warning: clusters[0].frontEnd.port: with ssl the front end speaks https on it, and 80 is where clients expect http
    9 |     frontEnd: {port: 80}
      |                      ^
      = hint: leave it out for 443
`},
		{"v1's names", "    agentCount: 3", `    agentCount: 3
    ssl: {cname: a.example.com, leafDomainLabel: ml, overwriteExistingDomain: true, certificate: {files: {cert: /a, key: /b}}}`, `
amlaks.yaml:8:33: clusters[0].ssl.leafDomainLabel: unknown key; here it is frontEnd.dnsLabel, which names the address; the certificate is one's own
    8 |     ssl: {cname: a.example.com, leafDomainLabel: ml, overwriteExistingDomain: true, certificate: {files: {cert: /a, key: /b}}}
      |                                 ^
amlaks.yaml:8:54: clusters[0].ssl.overwriteExistingDomain: unknown key; here it is nothing: Azure refuses a label that another address has
    8 |     ssl: {cname: a.example.com, leafDomainLabel: ml, overwriteExistingDomain: true, certificate: {files: {cert: /a, key: /b}}}
      |                                                      ^
`},
		{"a vault of somebody else", "    agentCount: 3", `    agentCount: 3
    ssl: {cname: a.example.com, certificate: {keyVault: "https://ml.vault.azure.net.evil.example/certificates/score"}}`, `
amlaks.yaml:8:47: clusters[0].ssl.certificate.keyVault: must be the URI of a Key Vault certificate, https://VAULT.vault.azure.net/certificates/NAME
    8 |     ssl: {cname: a.example.com, certificate: {keyVault: "https://ml.vault.azure.net.evil.example/certificates/score"}}
      |                                                         ^
`},
		{"a vault of another cloud", "    agentCount: 3", `    agentCount: 3
    ssl: {cname: a.example.com, certificate: {keyVault: "https://ml-prod.vault.azure.cn/certificates/score"}}`, `
amlaks.yaml:8:47: clusters[0].ssl.certificate.keyVault: is in another cloud than the workspace: Key Vaults of AzureCloud are at vault.azure.net
    8 |     ssl: {cname: a.example.com, certificate: {keyVault: "https://ml-prod.vault.azure.cn/certificates/score"}}
      |                                                         ^
      = hint: workspace.cloud says which cloud it is
`},
		{"a vault of the workspace's cloud", `name: ml-prod}
clusters:
  - name: prod`, `name: ml-prod, cloud: AzureUSGovernment}
clusters:
  - name: prod
    ssl: {cname: a.example.com, certificate: {keyVault: "https://ml-prod.vault.usgovcloudapi.net/certificates/score"}}`, ``},
		{"secrets, of versions too", "      command: [./server]", `      command: [./server]
      secrets: {B: {keyVault: "https://ml-prod.vault.usgovcloudapi.net/secrets/b"}}
    versions:
      - {name: aaa, trafficPercentile: 100, inference: {baseImage: scratch, command: [a], secrets: {C: {keyVault: "https://ml-prod.vault.azure.cn/secrets/c"}}}}`, `
amlaks.yaml:15:21: services[0].inference.secrets.B.keyVault: is in another cloud than the workspace: Key Vaults of AzureCloud are at vault.azure.net
   15 |       secrets: {B: {keyVault: "https://ml-prod.vault.usgovcloudapi.net/secrets/b"}}
      |                               ^
      = hint: workspace.cloud says which cloud it is
amlaks.yaml:17:105: services[0].versions[0].inference.secrets.C.keyVault: is in another cloud than the workspace: Key Vaults of AzureCloud are at vault.azure.net
   17 |       - {name: aaa, trafficPercentile: 100, inference: {baseImage: scratch, command: [a], secrets: {C: {keyVault: "https://ml-prod.vault.azure.cn/secrets/c"}}}}
      |                                                                                                                   ^
      = hint: workspace.cloud says which cloud it is
`},
		{"a secret, not its certificate", "    agentCount: 3", `    agentCount: 3
    ssl: {cname: a.example.com, certificate: {keyVault: "https://ml-prod.vault.azure.net/secrets/score"}}`, `
amlaks.yaml:8:47: clusters[0].ssl.certificate.keyVault: must be the URI of a Key Vault certificate, https://VAULT.vault.azure.net/certificates/NAME
    8 |     ssl: {cname: a.example.com, certificate: {keyVault: "https://ml-prod.vault.azure.net/secrets/score"}}
      |                                                         ^
`},
		{"secrets of Key Vault", "      command", `      secrets: {A: {keyVault: "https://ml-prod.vault.azure.net/secrets/a"}, B: {keyVault: "http://127.0.0.1:8200/secrets/b/0123456789abcdef"}, C: {keyVault: "http://ml-prod.vault.azure.net/secrets/a"}}
      command`, `
amlaks.yaml:14:148: services[0].inference.secrets.C.keyVault: must be the URI of a Key Vault secret, https://VAULT.vault.azure.net/secrets/NAME
   14 |       secrets: {A: {keyVault: "https://ml-prod.vault.azure.net/secrets/a"}, B: {keyVault: "http://127.0.0.1:8200/secrets/b/0123456789abcdef"}, C: {keyVault: "ht...
      |                                                                                                                                                              ^
`},
	})
}
