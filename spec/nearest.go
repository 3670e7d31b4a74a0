package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// formerNames are keys of Azure ML v1's files and payloads, and what amlaks.yaml has in their place.
var formerNames = map[string]string{
	"agentVmSize":                   "vmSize",
	"autoscaleEnabled":              "autoScaler or numReplicas",
	"authEnabled":                   "authMode",
	"tokenAuthEnabled":              "authMode: token",
	"aadAuthEnabled":                "authMode: token",
	"clusterPurpose":                "purpose",
	"computeName":                   "cluster",
	"computeTargetName":             "cluster",
	"computeType":                   "cluster",
	"containerResourceRequirements": "resources",
	"gpuCores":                      "resources.gpu",
	"kvTags":                        "tags",
	"sslConfiguration":              "ssl",
	"leafDomainLabel":               "frontEnd.dnsLabel, which names the address; the certificate is one's own",
	"overwriteExistingDomain":       "nothing: Azure refuses a label that another address has",
	"vnetName":                      "vnet.name",
	"vnetResourceGroupName":         "vnet.resourceGroup",
	"subnetName":                    "vnet.subnet",
	"namespace":                     "nothing: the stack's name decides it",
}

func unknownKey(name string, known map[string]any) string {
	if now, ok := formerNames[name]; ok {
		return fmt.Sprintf("unknown key; here it is %s", now)
	}
	if near := nearest(name, sortedKeys(known)); near != "" {
		return fmt.Sprintf("unknown key; did you mean %s?", near)
	}
	return "unknown key"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// maxWord bounds the words that are compared.
const maxWord = 64

// nearest returns the candidate that is most like name, or "" when none is:
// letters compared without case, at most one edit in three letters.
func nearest(name string, candidates []string) string {
	best, limit := "", max(1, len(name)/3)
	name = strings.ToLower(name)
	for _, candidate := range candidates {
		if len(name) > maxWord || len(candidate) > maxWord || max(len(candidate)-len(name), len(name)-len(candidate)) > limit {
			continue
		}
		if n := distance(name, strings.ToLower(candidate)); n <= limit {
			best, limit = candidate, n-1
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap (optimal
// string alignment) between two ASCII words of at most maxWord letters.
func distance(a, b string) int {
	var table [3][maxWord + 1]int // the row of i and the two before it, by i % 3
	for j := range len(b) + 1 {
		table[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		row, above, twoAbove := &table[i%3], &table[(i+2)%3], &table[(i+1)%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := 1
			if a[i-1] == b[j-1] {
				replace = 0
			}
			n := min(above[j]+1, row[j-1]+1, above[j-1]+replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				n = min(n, twoAbove[j-2]+1)
			}
			row[j] = n
		}
	}
	return table[len(a)%3][len(b)]
}
