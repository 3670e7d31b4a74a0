package spec

import "testing"

// TestPendingDiagnostics: that the fields that do nothing yet are warned about.
func TestPendingDiagnostics(t *testing.T) {
	runDiagnosticCases(t, []diagnosticCase{
		{"cluster", "    agentCount: 3", `    agentCount: 3
    attachToWorkspace: true
    frontEnd: {expose: gateway}
    nodePools: [{name: fpga, vmSize: Standard_NP10s}]`, `
amlaks.yaml:9:16: warning: clusters[0].frontEnd.expose: this version does not expose the front end by a gateway yet
    9 |     frontEnd: {expose: gateway}
      |                        ^
amlaks.yaml:10:30: warning: clusters[0].nodePools[0].vmSize: Azure retires Standard_NP10s (NP) on 2027-05-31
   10 |     nodePools: [{name: fpga, vmSize: Standard_NP10s}]
      |                                      ^
      = hint: take a GPU size, such as Standard_NC4as_T4_v3
`},
		{"service", "    numReplicas: 2", `    autoScaler: {}
    appInsightsEnabled: true
    dataCollection: {storageEnabled: true}
    authMode: token
    token: {issuer: entra, entra: {tenantId: 00000000-0000-0000-0000-000000000000, audience: a}}`, `
amlaks.yaml:15:5: warning: services[0].autoScaler: the front end of this version keeps minReplicas and does not scale yet
   15 |     autoScaler: {}
      |                 ^
amlaks.yaml:16:5: warning: services[0].appInsightsEnabled: this version sends nothing to Application Insights yet
   16 |     appInsightsEnabled: true
      |                         ^
amlaks.yaml:17:22: warning: services[0].dataCollection.storageEnabled: this version does not store payloads yet
   17 |     dataCollection: {storageEnabled: true}
      |                                      ^
amlaks.yaml:19:13: warning: services[0].token.issuer: the front end of this version does not accept Entra tokens yet
   19 |     token: {issuer: entra, entra: {tenantId: 00000000-0000-0000-0000-000000000000, audience: a}}
      |                     ^
`},
		{"inference", "      command", `      requirements: pylock.toml
      command`, `
amlaks.yaml:14:7: warning: services[0].inference.requirements: this version does not install Python packages yet: the base image must hold them
   14 |       requirements: pylock.toml
      |                     ^
`},
		{"off", "    numReplicas: 2", `    numReplicas: 2
    resources: {fpga: 0}
    appInsightsEnabled: false
    dataCollection: {storageEnabled: false}
    authMode: token
    token: {issuer: kubernetes}`, ``},
	})
}
