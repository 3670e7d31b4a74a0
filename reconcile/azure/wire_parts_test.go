package azure_test

import (
	"net/http"
	"slices"
	"testing"
)

// The check sees what is wrong with what a workspace is made of, too.
func TestWireTruthOfParts(t *testing.T) {
	t.Parallel()
	for path, test := range map[string]struct {
		body string
		want []string
	}{
		"Microsoft.Storage/storageAccounts/x":       {`{"location": "a", "sku": {"name": "Standard_LRS"}, "properties": {"primaryEndpoints": {}}}`, []string{"properties.primaryEndpoints is unknown"}},
		"Microsoft.KeyVault/vaults/x":               {`{"properties": {"tenantID": "a"}}`, []string{"properties.tenantID is unknown"}},
		"Microsoft.Authorization/roleAssignments/x": {`{"properties": {"principalId": "a", "scope": "b"}}`, []string{"properties.scope is read-only"}},
		"Microsoft.ContainerRegistry/registries/x":  {`{"sku": {"tier": "Standard"}}`, []string{"sku.tier is read-only"}},
		"Microsoft.Insights/components/x":           {`{"etag": "a", "properties": {"AppId": "x", "workspaceResourceId": "y"}}`, []string{"properties.AppId is read-only", "properties.workspaceResourceId is unknown"}},
		"Microsoft.MachineLearningServices/workspaces/w/computes/x": {`{"properties": {"computeType": "AKS", "provisioningState": "Creating", "properties": {"clusterPurpose": "DevTest", "purpose": "x"}}}`,
			[]string{"properties.properties.purpose is unknown", "properties.provisioningState is read-only"}},
	} {
		got, err := truth.check(http.MethodPut, "/subscriptions/s/resourceGroups/g/providers/"+path, []byte(test.body))
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, %v; want %q", path, got, err, test.want)
		}
	}
}
