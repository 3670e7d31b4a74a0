package spec

import "testing"

// TestServiceDiagnostics: the rules between the fields of a service.
func TestServiceDiagnostics(t *testing.T) {
	runDiagnosticCases(t, []diagnosticCase{
		{"no such cluster", "cluster: prod", "cluster: prd", `
amlaks.yaml:10:5: services[0].cluster: no cluster is named prd
   10 |     cluster: prd
      |              ^
      = hint: did you mean prod?
`},
		{"no such cluster, nothing near", "cluster: prod", "cluster: elsewhere", `
amlaks.yaml:10:5: services[0].cluster: no cluster is named elsewhere
   10 |     cluster: elsewhere
      |              ^
      = hint: there is prod
`},
		{"service name twice", "    numReplicas: 2", `    numReplicas: 2
  - {name: churn, cluster: prod, inference: {baseImage: scratch, command: [a]}, numReplicas: 1}`, `
amlaks.yaml:16:6: services[1].name: churn is the name of services[0] already
   16 |   - {name: churn, cluster: prod, inference: {baseImage: scratch, command: [a]}, numReplicas: 1}
      |            ^
`},
		{"replicas and autoscaler", "    numReplicas: 2", `    numReplicas: 2
    autoScaler: {}`, `
amlaks.yaml:15:5: services[0].numReplicas: cannot stand beside autoScaler: it is either a fixed number or a range
   15 |     numReplicas: 2
      |                  ^
amlaks.yaml:16:5: warning: services[0].autoScaler: the front end of this version keeps minReplicas and does not scale yet
   16 |     autoScaler: {}
      |                 ^
`},
		{"autoscaler range", "    numReplicas: 2", "    autoScaler: {minReplicas: 11}", `
amlaks.yaml:15:5: warning: services[0].autoScaler: the front end of this version keeps minReplicas and does not scale yet
   15 |     autoScaler: {minReplicas: 11}
      |                 ^
amlaks.yaml:15:18: services[0].autoScaler.minReplicas: minReplicas, 11, is more than maxReplicas, 10
   15 |     autoScaler: {minReplicas: 11}
      |                               ^
`},
		{"limits under requests", "    numReplicas: 2", `    numReplicas: 2
    resources: {cpu: 1, cpuLimit: 0.5, memoryInGBLimit: 0.25}`, `
amlaks.yaml:16:25: services[0].resources.cpuLimit: must be at least cpu, 1
   16 |     resources: {cpu: 1, cpuLimit: 0.5, memoryInGBLimit: 0.25}
      |                                   ^
amlaks.yaml:16:40: services[0].resources.memoryInGBLimit: must be at least memoryInGB, 0.5
   16 |     resources: {cpu: 1, cpuLimit: 0.5, memoryInGBLimit: 0.25}
      |                                                         ^
`},
		{"latest", "models: [churn:3]", "models: [churn:latest, {name: a, version: Latest}]", `
amlaks.yaml:11:14: services[0].models[0]: latest is not a version
   11 |     models: [churn:latest, {name: a, version: Latest}]
      |              ^
      = hint: name a version, the same file must always mean the same model: amlaks models shows which is the latest
amlaks.yaml:11:38: services[0].models[1].version: latest is not a version
   11 |     models: [churn:latest, {name: a, version: Latest}]
      |                                               ^
      = hint: name a version, the same file must always mean the same model: amlaks models shows which is the latest
`},
		{"model twice", "models: [churn:3]", "models: [churn:3, {name: churn, version: 3}, churn:4]", `
amlaks.yaml:11:23: services[0].models[1]: churn:3 is models[0] already
   11 |     models: [churn:3, {name: churn, version: 3}, churn:4]
      |                       ^
`},
		{"gpu without gpu nodes", "    numReplicas: 2", `    numReplicas: 2
    resources: {gpu: 1}`, `
amlaks.yaml:16:17: services[0].resources.gpu: needs a node with 1 GPUs, and those of cluster prod have 0 at most
   16 |     resources: {gpu: 1}
      |                      ^
      = hint: give the cluster a nodePools entry such as Standard_NC4as_T4_v3
`},
		{"fpga without fpga nodes", "    numReplicas: 2", `    numReplicas: 2
    resources: {fpga: 1}`, `
amlaks.yaml:16:17: services[0].resources.fpga: needs a node with 1 FPGAs, and those of cluster prod have 0 at most
   16 |     resources: {fpga: 1}
      |                       ^
`},
		{"gpu on an attached cluster, of which nothing is known", `    agentCount: 3
services:
  - name: churn
`, `    agentCount: 3
  - name: old
    attach: {resourceGroup: a, clusterName: b}
services:
  - name: on-gpus
    cluster: old
    inference: {baseImage: scratch, command: [a]}
    numReplicas: 1
    resources: {gpu: 4, fpga: 1}
  - name: churn
`, ``},
		{"gpu on nodes of a size that is unknown here", `    agentCount: 3
services:
  - name: churn
`, `    agentCount: 3
    nodePools: [{name: gpu, vmSize: Standard_NX8_v9}]
services:
  - name: churn
    resources: {gpu: 8}
`, `
amlaks.yaml:8:29: warning: clusters[0].nodePools[0].vmSize: Standard_NX8_v9 is not a size that amlaks knows: its vCPU and GPUs are not checked
    8 |     nodePools: [{name: gpu, vmSize: Standard_NX8_v9}]
      |                                     ^
`},
		{"autoscaler with only a maximum of none", "    numReplicas: 2", "    autoScaler: {maxReplicas: 0}", `
amlaks.yaml:15:5: warning: services[0].autoScaler: the front end of this version keeps minReplicas and does not scale yet
   15 |     autoScaler: {maxReplicas: 0}
      |                 ^
amlaks.yaml:15:18: services[0].autoScaler.maxReplicas: must be at least 1
   15 |     autoScaler: {maxReplicas: 0}
      |                               ^
`},
		{"three shares that are 100 but for rounding", "    numReplicas: 2", `    numReplicas: 2
    versions:
      - {name: one, trafficPercentile: 33.3}
      - {name: two, trafficPercentile: 33.3}
      - {name: three, trafficPercentile: 33.4}`, ``},
		{"gpu on a gpu pool", "services:", `    nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3}]
services:`, ``},
		{"token without authMode token", "    numReplicas: 2", `    numReplicas: 2
    token: {issuer: kubernetes}`, `
amlaks.yaml:16:5: services[0].token: is only for authMode token, and this is key
   16 |     token: {issuer: kubernetes}
      |            ^
`},
		{"entra without its fields", "    numReplicas: 2", `    numReplicas: 2
    authMode: token
    token: {issuer: entra}`, `
amlaks.yaml:17:5: services[0].token.entra: is required with issuer entra: tenantId and audience
   17 |     token: {issuer: entra}
      |     ^
amlaks.yaml:17:13: warning: services[0].token.issuer: the front end of this version does not accept Entra tokens yet
   17 |     token: {issuer: entra}
      |                     ^
`},
		{"entra in part", "    numReplicas: 2", `    numReplicas: 2
    authMode: token
    token: {entra: {tenantId: abc}}`, `
amlaks.yaml:17:13: services[0].token.entra: is only for issuer entra
   17 |     token: {entra: {tenantId: abc}}
      |                    ^
      = hint: write issuer: entra beside it
amlaks.yaml:17:13: services[0].token.entra.audience: is required
   17 |     token: {entra: {tenantId: abc}}
      |             ^
amlaks.yaml:17:21: services[0].token.entra.tenantId: must be a UUID, such as 00000000-0000-0000-0000-000000000000
   17 |     token: {entra: {tenantId: abc}}
      |                               ^
`},
		{"scratch without command", `      command: [./server]
`, "", `
amlaks.yaml:12:5: services[0].inference.command: is required with baseImage scratch, which has nothing to run
   12 |     inference:
      |     ^
`},
		{"no inference", `    inference:
      baseImage: scratch
      command: [./server]
`, "", `
amlaks.yaml:9:5: services[0].inference: is required
    9 |   - name: churn
      |     ^
`},
		{"own variables", "      command", `      environmentVariables: {AZUREML_MODEL_DIR: /m, A: b}
      secrets: {A: {env: A}}
      command`, `
amlaks.yaml:14:30: services[0].inference.environmentVariables.AZUREML_MODEL_DIR: is set by amlaks
   14 |       environmentVariables: {AZUREML_MODEL_DIR: /m, A: b}
      |                                                 ^
amlaks.yaml:14:53: services[0].inference.environmentVariables.A: is among the secrets too
   14 |       environmentVariables: {AZUREML_MODEL_DIR: /m, A: b}
      |                                                        ^
`},
		{"traffic over 100", "    numReplicas: 2", `    numReplicas: 2
    versions:
      - {name: one, trafficPercentile: 60}
      - {name: two, trafficPercentile: 50}
      - {name: two, trafficPercentile: 101}`, `
amlaks.yaml:18:21: services[0].versions[1].trafficPercentile: the versions' trafficPercentile add up to 110, more than 100
   18 |       - {name: two, trafficPercentile: 50}
      |                                        ^
      = hint: the default version takes what the others leave
amlaks.yaml:19:10: services[0].versions[2].name: two is the name of services[0].versions[1] already
   19 |       - {name: two, trafficPercentile: 101}
      |                ^
amlaks.yaml:19:21: services[0].versions[2].trafficPercentile: must be at most 100
   19 |       - {name: two, trafficPercentile: 101}
      |                                        ^
`},
		{"two defaults", "    numReplicas: 2", `    numReplicas: 2
    versions:
      - {name: one, isDefault: true}
      - {name: two, isDefault: true}`, `
amlaks.yaml:18:21: services[0].versions[1].isDefault: versions[0] is the default already
   18 |       - {name: two, isDefault: true}
      |                                ^
`},
		{"a version without inference", `    inference:
      baseImage: scratch
      command: [./server]
`, `    versions: [{name: one}, {name: two, inference: {baseImage: scratch, command: [a]}}]
`, `
amlaks.yaml:12:16: services[0].versions[0].inference: is required: the service has none either
   12 |     versions: [{name: one}, {name: two, inference: {baseImage: scratch, command: [a]}}]
      |                ^
`},
	})
}
