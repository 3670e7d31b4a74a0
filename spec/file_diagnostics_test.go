package spec

import (
	"strings"
	"testing"
)

// TestFileDiagnostics: what is wrong with a file before its fields matter.
func TestFileDiagnostics(t *testing.T) {
	runDiagnosticCases(t, []diagnosticCase{
		{"empty", baseFile, "", `
amlaks.yaml:1:1: is empty
      = hint: amlaks init writes a first file
`},
		{"only a comment", baseFile, `# nothing
`, `
amlaks.yaml:1:1: is empty
    1 | # nothing
      | ^
      = hint: amlaks init writes a first file
`},
		{"only dashes", baseFile, `---
`, `
amlaks.yaml:1:1: is empty
    1 | ---
      | ^
      = hint: amlaks init writes a first file
`},
		{"a list", baseFile, `- a
- b
`, `
amlaks.yaml:1:1: must be a mapping that starts with apiVersion: amlaks.io/v1
    1 | - a
      | ^
`},
		{"two documents", `    numReplicas: 2
`, `    numReplicas: 2
---
apiVersion: amlaks.io/v1
`, `
amlaks.yaml:16:1: a second document starts here: a file holds one stack
   16 | ---
      | ^
      = hint: put the second stack into a file of its own
`},
		{"tab", "    numReplicas: 2", "\tnumReplicas: 2", `
amlaks.yaml:15:1: a tab indents this line: YAML allows only spaces
   15 |  numReplicas: 2
      | ^
`},
		{"syntax", "    models: [churn:3]", "    models: [churn:3", `
amlaks.yaml:11:5: is not YAML: did not find expected ',' or ']'
   11 |     models: [churn:3
      |     ^
`},
		{"not UTF-8", `name: churn
workspace`, "name: ch\xffurn\nworkspace", `
amlaks.yaml:2:9: is not UTF-8 text
`},
		{"control character", `name: churn
workspace`, "name: ch\u0001urn\nworkspace", `
amlaks.yaml:2:9: has a control character in it
    2 | name: ch urn
      |         ^
`},
		{"byte order mark is read over", "apiVersion", "\ufeffapiVersion", ``},
		{"Windows line ends", `agentCount: 3
`, "agentCount: 2\r\n", `
amlaks.yaml:7:5: clusters[0].agentCount: 2 x Standard_D4ds_v5 is 8 vCPU, and purpose FastProd needs 12
    7 |     agentCount: 2
      |                 ^
      = hint: raise agentCount, take a larger vmSize, or set purpose: DevTest
`},
		{"key twice", "    numReplicas: 2", `    numReplicas: 2
    numReplicas: 3`, `
amlaks.yaml:16:5: services[0].numReplicas: is given twice, first on line 15
   16 |     numReplicas: 3
      |     ^
`},
		{"anchor and alias", `  - name: churn
`, `  - name: &n churn
    description: *n
`, `
amlaks.yaml:9:5: services[0].name: anchors (&), aliases (*) and merge keys (<<) are not read
    9 |   - name: &n churn
      |           ^
      = hint: write the value out
amlaks.yaml:10:5: services[0].description: anchors (&), aliases (*) and merge keys (<<) are not read
   10 |     description: *n
      |                  ^
      = hint: write the value out
`},
		{"merge key", "    agentCount: 3", "    <<: {agentCount: 3}", `
amlaks.yaml:7:5: clusters[0]: anchors (&), aliases (*) and merge keys (<<) are not read
    7 |     <<: {agentCount: 3}
      |     ^
      = hint: write the values out
`},
		{"unknown anchor", "    agentCount: 3", "    agentCount: *nodes", `
amlaks.yaml:7:17: anchors (&), aliases (*) and merge keys (<<) are not read
    7 |     agentCount: *nodes
      |                 ^
      = hint: write the value out
`},
		{"yaml 1.1 booleans", "    agentCount: 3", `    agentCount: 3
    protect: no
    adopt: Yes
    kubernetesVersion: on
    tags: {a: y, b: 'y'}`, `
amlaks.yaml:8:5: clusters[0].protect: no is a boolean to some YAML readers and a string to others
    8 |     protect: no
      |              ^
      = hint: write true or false, or "no" in quotes
amlaks.yaml:9:5: clusters[0].adopt: Yes is a boolean to some YAML readers and a string to others
    9 |     adopt: Yes
      |            ^
      = hint: write true or false, or "Yes" in quotes
amlaks.yaml:10:5: clusters[0].kubernetesVersion: on is a boolean to some YAML readers and a string to others
   10 |     kubernetesVersion: on
      |                        ^
      = hint: write true or false, or "on" in quotes
amlaks.yaml:11:12: clusters[0].tags.a: y is a boolean to some YAML readers and a string to others
   11 |     tags: {a: y, b: 'y'}
      |               ^
      = hint: write true or false, or "y" in quotes
`},
		{"octal", "agentCount: 3", "agentCount: 010", `
amlaks.yaml:7:5: clusters[0].agentCount: 010 is octal to some YAML readers and decimal to others
    7 |     agentCount: 010
      |                 ^
      = hint: write it without the leading zero, or "010" in quotes
`},
		{"not a number", "    numReplicas: 2", `    numReplicas: 2
    resources: {cpu: .nan, memoryInGB: .inf}`, `
amlaks.yaml:16:17: services[0].resources.cpu: must be a finite number
   16 |     resources: {cpu: .nan, memoryInGB: .inf}
      |                      ^
amlaks.yaml:16:28: services[0].resources.memoryInGB: must be a finite number
   16 |     resources: {cpu: .nan, memoryInGB: .inf}
      |                                        ^
`},
		{"tagged value", "    agentCount: 3", "    agentCount: !!binary Mw==", `
amlaks.yaml:7:5: clusters[0].agentCount: the YAML tag !!binary is not read
    7 |     agentCount: !!binary Mw==
      |                 ^
      = hint: write a plain value
`},
		{"complex key", "    agentCount: 3", `    ? [a, b]
    : 3`, `
amlaks.yaml:7:7: clusters[0]: a key must be a plain string
    7 |     ? [a, b]
      |       ^
`},
		{"no value", "    agentCount: 3", "    agentCount:", `
amlaks.yaml:7:5: clusters[0].agentCount: has no value
    7 |     agentCount:
      |     ^
      = hint: give it a value, or take the key out for its default
`},
		{"too deep", "    agentCount: 3", "    agentCount: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", `
amlaks.yaml:7:47: is nested more than 32 levels deep
    7 |     agentCount: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]
      |                                               ^
`},
		{"empty stack", baseFile[strings.Index(baseFile, "clusters"):], `clusters: []
services: []
`, `
amlaks.yaml:1:1: declares no clusters and no services
    1 | apiVersion: amlaks.io/v1
      | ^
      = hint: an empty stack would delete everything; that is what amlaks destroy is for
`},
		{"nothing but a workspace", baseFile[strings.Index(baseFile, "clusters"):], "", `
amlaks.yaml:1:1: declares no clusters and no services
    1 | apiVersion: amlaks.io/v1
      | ^
      = hint: an empty stack would delete everything; that is what amlaks destroy is for
`},
	})
}
