package spec

import "testing"

// TestSchemaDiagnostics: what the schema says, in our words.
func TestSchemaDiagnostics(t *testing.T) {
	runDiagnosticCases(t, []diagnosticCase{
		{"required", `apiVersion: amlaks.io/v1
name: churn
`, `apiVersion: amlaks.io/v2
`, `
amlaks.yaml:1:1: apiVersion: must be amlaks.io/v1
    1 | apiVersion: amlaks.io/v2
      |             ^
amlaks.yaml:1:1: name: is required
    1 | apiVersion: amlaks.io/v2
      | ^
`},
		{"required in a list", `  - name: churn
    cluster: prod
`, `  - description: a
`, `
amlaks.yaml:9:5: services[0].cluster: is required
    9 |   - description: a
      |     ^
amlaks.yaml:9:5: services[0].name: is required
    9 |   - description: a
      |     ^
`},
		{"unknown keys", "    agentCount: 3", `    agentcount: 3
    frontend: {replica: 2}
    wholly: other`, `
amlaks.yaml:7:5: clusters[0].agentcount: unknown key; did you mean agentCount?
    7 |     agentcount: 3
      |     ^
amlaks.yaml:8:5: clusters[0].frontend: unknown key; did you mean frontEnd?
    8 |     frontend: {replica: 2}
      |     ^
amlaks.yaml:9:5: clusters[0].wholly: unknown key
    9 |     wholly: other
      |     ^
`},
		{"keys of Azure ML v1", "    numReplicas: 2", `    numReplicas: 2
    containerResourceRequirements: {cpu: 1}
    authEnabled: true`, `
amlaks.yaml:16:5: services[0].containerResourceRequirements: unknown key; here it is resources
   16 |     containerResourceRequirements: {cpu: 1}
      |     ^
amlaks.yaml:17:5: services[0].authEnabled: unknown key; here it is authMode
   17 |     authEnabled: true
      |     ^
`},
		{"types", "agentCount: 3", `agentCount: three
    nodePools: {name: a}
    frontEnd: 3
    protect: "true"
    tags: [a]`, `
amlaks.yaml:7:5: clusters[0].agentCount: must be a whole number, not a string
    7 |     agentCount: three
      |                 ^
amlaks.yaml:8:5: clusters[0].nodePools: must be a list, not a mapping
    8 |     nodePools: {name: a}
      |                ^
amlaks.yaml:9:5: clusters[0].frontEnd: must be a mapping, not a number
    9 |     frontEnd: 3
      |               ^
amlaks.yaml:10:5: clusters[0].protect: must be true or false, not a string
   10 |     protect: "true"
      |              ^
      = hint: write it without quotes
amlaks.yaml:11:5: clusters[0].tags: must be a mapping, not a list
   11 |     tags: [a]
      |           ^
`},
		{"unquoted version", "agentCount: 3", `agentCount: 3
    kubernetesVersion: 1.36`, `
amlaks.yaml:8:5: clusters[0].kubernetesVersion: must be a string, not a number
    8 |     kubernetesVersion: 1.36
      |                        ^
      = hint: write "1.36", in quotes
`},
		{"numbers", "agentCount: 3", `agentCount: 0
    frontEnd: {replicas: 2.5, port: 65536}`, `
amlaks.yaml:7:5: clusters[0].agentCount: must be at least 1
    7 |     agentCount: 0
      |                 ^
amlaks.yaml:8:16: clusters[0].frontEnd.replicas: must be a whole number, not a fraction
    8 |     frontEnd: {replicas: 2.5, port: 65536}
      |                          ^
amlaks.yaml:8:31: clusters[0].frontEnd.port: must be at most 65535
    8 |     frontEnd: {replicas: 2.5, port: 65536}
      |                                     ^
`},
		{"an enum", "    agentCount: 3", `    agentCount: 3
    purpose: fastprod
    loadBalancerType: Private`, `
amlaks.yaml:8:5: clusters[0].purpose: must be one of FastProd, DenseProd, DevTest
    8 |     purpose: fastprod
      |              ^
      = hint: did you mean FastProd?
amlaks.yaml:9:5: clusters[0].loadBalancerType: must be one of PublicIp, InternalLoadBalancer
    9 |     loadBalancerType: Private
      |                       ^
`},
		{"names", `name: churn
workspace`, `name: Churn_
workspace`, `
amlaks.yaml:2:1: name: must be a DNS label: 1 to 40 lower-case letters, digits and dashes, no dash at either end
    2 | name: Churn_
      |       ^
`},
		{"cluster and service names", `  - name: churn
    cluster: prod`, `  - name: Churn
    cluster: p`, `
amlaks.yaml:9:5: services[0].name: must be 3 to 32 lower-case letters, digits and dashes, start with a letter and end with a letter or digit
    9 |   - name: Churn
      |           ^
amlaks.yaml:10:5: services[0].cluster: no cluster is named p
   10 |     cluster: p
      |              ^
      = hint: there is prod
`},
		{"cluster name", "  - name: prod", `  - name: p
`, `
amlaks.yaml:5:5: clusters[0].name: must be 3 to 24 letters, digits and dashes, start with a letter and end with a letter or digit
    5 |   - name: p
      |           ^
amlaks.yaml:11:5: services[0].cluster: no cluster is named prod
   11 |     cluster: prod
      |              ^
      = hint: there is p
`},
		{"subscription", "subscriptionId: 00000000-0000-0000-0000-000000000000", "subscriptionId: 1234", `
amlaks.yaml:3:13: workspace.subscriptionId: must be a string, not a number
    3 | workspace: {subscriptionId: 1234, resourceGroup: ml, name: ml-prod}
      |                             ^
      = hint: write "1234", in quotes
`},
		{"location", "name: ml-prod}", "name: ml-prod, location: West Europe}", `
amlaks.yaml:3:101: workspace.location: must be a region's programmatic name, such as westeurope
    3 | workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod, location: West Europe}
      |                                                                                                               ^
`},
		{"pool name and taint", "agentCount: 3", `agentCount: 3
    nodePools: [{name: GPU-1, vmSize: Standard_D4ds_v5, taints: [gpu]}]`, `
amlaks.yaml:8:18: clusters[0].nodePools[0].name: must be 1 to 12 lower-case letters and digits, and start with a letter
    8 |     nodePools: [{name: GPU-1, vmSize: Standard_D4ds_v5, taints: [gpu]}]
      |                        ^
amlaks.yaml:8:66: clusters[0].nodePools[0].taints[0]: must be KEY=VALUE:EFFECT with effect NoSchedule, PreferNoSchedule or NoExecute
    8 |     nodePools: [{name: GPU-1, vmSize: Standard_D4ds_v5, taints: [gpu]}]
      |                                                                  ^
`},
		{"resources", "    numReplicas: 2", `    numReplicas: 2
    resources: {cpu: 0, memoryInGB: -1, gpu: 1.5}`, `
amlaks.yaml:16:17: services[0].resources.cpu: must be more than 0
   16 |     resources: {cpu: 0, memoryInGB: -1, gpu: 1.5}
      |                      ^
amlaks.yaml:16:25: services[0].resources.memoryInGB: must be more than 0
   16 |     resources: {cpu: 0, memoryInGB: -1, gpu: 1.5}
      |                                     ^
amlaks.yaml:16:41: services[0].resources.gpu: must be a whole number, not a fraction
   16 |     resources: {cpu: 0, memoryInGB: -1, gpu: 1.5}
      |                                              ^
`},
		{"timeouts", "    numReplicas: 2", `    numReplicas: 2
    scoringTimeoutMs: 300001
    maxConcurrentRequestsPerContainer: 0`, `
amlaks.yaml:16:5: services[0].scoringTimeoutMs: must be at most 300000
   16 |     scoringTimeoutMs: 300001
      |                       ^
amlaks.yaml:17:5: services[0].maxConcurrentRequestsPerContainer: must be at least 1
   17 |     maxConcurrentRequestsPerContainer: 0
      |                                        ^
`},
		{"liveness success threshold", "    numReplicas: 2", `    numReplicas: 2
    livenessProbeRequirements: {successThreshold: 2}`, `
amlaks.yaml:16:33: services[0].livenessProbeRequirements.successThreshold: must be 1
   16 |     livenessProbeRequirements: {successThreshold: 2}
      |                                                   ^
      = hint: Kubernetes allows no other value in a liveness probe
`},
		{"base image without digest", "baseImage: scratch", "baseImage: mcr.microsoft.com/azureml/minimal:latest", `
amlaks.yaml:13:7: services[0].inference.baseImage: must be pinned by its digest, IMAGE@sha256:..., or be the word scratch
   13 |       baseImage: mcr.microsoft.com/azureml/minimal:latest
      |                  ^
      = hint: a tag can change under you; 'crane digest IMAGE' prints the digest
`},
		{"environment", "      command", `      environmentVariables: {WORKERS: 4, DEBUG: true, 9LIVES: a}
      command`, `
amlaks.yaml:14:30: services[0].inference.environmentVariables.WORKERS: must be a string, not a number
   14 |       environmentVariables: {WORKERS: 4, DEBUG: true, 9LIVES: a}
      |                                       ^
      = hint: write "4", in quotes
amlaks.yaml:14:42: services[0].inference.environmentVariables.DEBUG: must be a string, not a boolean
   14 |       environmentVariables: {WORKERS: 4, DEBUG: true, 9LIVES: a}
      |                                                 ^
      = hint: write "true", in quotes
amlaks.yaml:14:55: services[0].inference.environmentVariables.9LIVES: is not the name of an environment variable: letters, digits and _
   14 |       environmentVariables: {WORKERS: 4, DEBUG: true, 9LIVES: a}
      |                                                       ^
`},
		{"model forms", "models: [churn:3]", "models: [churn, churn@latest, 3, {name: a}, {name: b, version: 1.5}, {name: c, version: 3}]", `
amlaks.yaml:11:14: services[0].models[0]: must be NAME:VERSION, such as churn:3
   11 |     models: [churn, churn@latest, 3, {name: a}, {name: b, version: 1.5}, {name: c, version: 3}]
      |              ^
amlaks.yaml:11:21: services[0].models[1]: must be NAME:VERSION, such as churn:3
   11 |     models: [churn, churn@latest, 3, {name: a}, {name: b, version: 1.5}, {name: c, version: 3}]
      |                     ^
      = hint: name a version, the same file must always mean the same model: amlaks models shows which is the latest
amlaks.yaml:11:35: services[0].models[2]: must be NAME:VERSION, such as churn:3
   11 |     models: [churn, churn@latest, 3, {name: a}, {name: b, version: 1.5}, {name: c, version: 3}]
      |                                   ^
amlaks.yaml:11:38: services[0].models[3].version: is required
   11 |     models: [churn, churn@latest, 3, {name: a}, {name: b, version: 1.5}, {name: c, version: 3}]
      |                                      ^
amlaks.yaml:11:59: services[0].models[4].version: must be 1 to 255 letters, digits, and - _ . and start with a letter or digit
   11 |     models: [churn, churn@latest, 3, {name: a}, {name: b, version: 1.5}, {name: c, version: 3}]
      |                                                                    ^
`},
		{"secret has two places", "      command", `      secrets: {A: {env: A, file: /a}, B: {}, C: {value: x}}
      command`, `
amlaks.yaml:14:17: services[0].inference.secrets.A: must have exactly one of env, file, keyVault
   14 |       secrets: {A: {env: A, file: /a}, B: {}, C: {value: x}}
      |                    ^
amlaks.yaml:14:40: services[0].inference.secrets.B: must have exactly one of env, file, keyVault
   14 |       secrets: {A: {env: A, file: /a}, B: {}, C: {value: x}}
      |                                           ^
amlaks.yaml:14:51: services[0].inference.secrets.C.value: unknown key
   14 |       secrets: {A: {env: A, file: /a}, B: {}, C: {value: x}}
      |                                                   ^
`},
		{"certificate literal", "    agentCount: 3", `    agentCount: 3
    ssl: {cname: a.example.com, certificate: {cert: abc}}`, `
amlaks.yaml:8:47: clusters[0].ssl.certificate.cert: unknown key
    8 |     ssl: {cname: a.example.com, certificate: {cert: abc}}
      |                                               ^
`},
		{"no versions", "    numReplicas: 2", `    numReplicas: 2
    versions: []`, `
amlaks.yaml:16:5: services[0].versions: must not be empty
   16 |     versions: []
      |               ^
`},
	})
}
