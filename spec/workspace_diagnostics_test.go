package spec

import "testing"

// TestWorkspaceDiagnostics: that what cannot be made into a workspace is said.
func TestWorkspaceDiagnostics(t *testing.T) {
	runDiagnosticCases(t, []diagnosticCase{
		{"create", "name: ml-prod}", "name: ml-prod, location: westeurope, create: {storageAccount: abc, keyVault: abc, containerRegistry: abcde}}", ``},
		{"create beside a registry", "name: ml-prod}", "name: ml-prod, location: westeurope, registry: ghcr.io, create: {storageAccount: abc, keyVault: abc}}", ``},
		{"create of nothing", "name: ml-prod}", "name: ml-prod, create: {storageAccount: abc, keyVault: a--b}}", `
amlaks.yaml:3:1: workspace.location: is required beside create: there may be no workspace yet to take the region from
    3 | workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod, create: {storageAccount: abc, keyVault: a--b}}
      | ^
      = hint: location: westeurope
amlaks.yaml:3:101: workspace.create.containerRegistry: is required, unless workspace.registry says where scoring images go
    3 | workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod, create: {storageAccount: abc, keyVault: a--b}}
      |                                                                                                     ^
amlaks.yaml:3:131: workspace.create.keyVault: must not have two dashes in a row
    3 | workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod, create: {storageAccount: abc, keyVault: a--b}}
      |                                                                                                                                             ^
`},
		{"names", "name: ml-prod}", "name: ml-prod, location: westeurope, create: {storageAccount: Abc, keyVault: a, containerRegistry: a-b, storage: x}}", `
amlaks.yaml:3:132: workspace.create.storageAccount: must be 3 to 24 lower-case letters and digits
    3 | workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod, location: westeurope, create: {storageAccount: Abc, keyVault...
      |                                                                                                                                                    ^
amlaks.yaml:3:153: workspace.create.keyVault: must be 3 to 24 letters, digits and dashes, start with a letter and end with a letter or digit
    3 | workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod, location: westeurope, create: {storageAccount: Abc, keyVault...
      |                                                                                                                                                                   ^
amlaks.yaml:3:166: workspace.create.containerRegistry: must be 5 to 50 letters and digits
    3 | workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod, location: westeurope, create: {storageAccount: Abc, keyVault...
amlaks.yaml:3:190: workspace.create.storage: unknown key
    3 | workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod, location: westeurope, create: {storageAccount: Abc, keyVault...
`},
		{"no boolean", "name: ml-prod}", "name: ml-prod, grantAcrPull: maybe}", `
amlaks.yaml:3:101: workspace.grantAcrPull: must be true or false, not a string
    3 | workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod, grantAcrPull: maybe}
      |                                                                                                                   ^
`},
	})
}
