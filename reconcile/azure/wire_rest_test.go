package azure_test

import (
	"net/http"
	"slices"
	"testing"
)

// restModule stands for the types below: their modules of the SDK are not in go.mod.
const restModule = "REST"

// restTypes are the parts that amlaks sends of the definitions in azure-rest-api-specs, at the
// versions that it speaks: Microsoft.Authorization 2022-04-01, Microsoft.Storage 2024-01-01,
// Microsoft.KeyVault 2024-11-01, Microsoft.Insights 2020-02-02, Microsoft.ContainerRegistry
// 2023-07-01. What is not here is taken for unknown.
func restTypes() sdkTypes {
	resource := func(properties string) sdkType {
		return sdkType{
			"id": {readOnly: true}, "name": {readOnly: true}, "type": {readOnly: true}, "location": {}, "tags": {many: true}, "sku": {typeName: "Sku"}, "kind": {},
			"properties": {typeName: properties},
		}
	}
	return sdkTypes{
		"Sku":            {"name": {}, "tier": {readOnly: true}, "family": {}},
		"RoleAssignment": {"id": {readOnly: true}, "name": {readOnly: true}, "type": {readOnly: true}, "properties": {typeName: "RoleAssignmentProperties"}},
		"RoleAssignmentProperties": {
			"roleDefinitionId": {}, "principalId": {}, "principalType": {}, "description": {}, "condition": {}, "conditionVersion": {},
			"scope": {readOnly: true}, "createdOn": {readOnly: true}, "updatedOn": {readOnly: true}, "createdBy": {readOnly: true}, "updatedBy": {readOnly: true},
		},
		"StorageAccount": resource("StorageProperties"),
		"StorageProperties": {
			"minimumTlsVersion": {}, "supportsHttpsTrafficOnly": {}, "allowBlobPublicAccess": {}, "isHnsEnabled": {}, "allowSharedKeyAccess": {},
			"provisioningState": {readOnly: true}, "primaryEndpoints": {readOnly: true},
		},
		"Vault": resource("VaultProperties"),
		"VaultProperties": {
			"tenantId": {}, "sku": {typeName: "Sku"}, "accessPolicies": {many: true}, "enableRbacAuthorization": {}, "enableSoftDelete": {}, "softDeleteRetentionInDays": {},
			"enablePurgeProtection": {}, "hsmPoolResourceId": {readOnly: true},
		},
		"Component":           resource("ComponentProperties"),
		"ComponentProperties": {"Application_Type": {}, "WorkspaceResourceId": {}, "AppId": {readOnly: true}, "InstrumentationKey": {readOnly: true}, "ConnectionString": {readOnly: true}},
		"Registry":            resource("RegistryProperties"),
		"RegistryProperties":  {"adminUserEnabled": {}, "anonymousPullEnabled": {}, "loginServer": {readOnly: true}, "provisioningState": {readOnly: true}, "creationDate": {readOnly: true}},
	}
}

// The check sees what is wrong with these too.
func TestWireTruthOfRest(t *testing.T) {
	t.Parallel()
	for path, test := range map[string]struct {
		body string
		want []string
	}{
		"Microsoft.Storage/storageAccounts/x":       {`{"location": "a", "sku": {"name": "b"}, "properties": {"primaryEndpoints": {}}}`, []string{"properties.primaryEndpoints is read-only"}},
		"Microsoft.KeyVault/vaults/x":               {`{"properties": {"tenantID": "a"}}`, []string{"properties.tenantID is unknown"}},
		"Microsoft.Authorization/roleAssignments/x": {`{"properties": {"principalId": "a", "scope": "b"}}`, []string{"properties.scope is read-only"}},
		"Microsoft.ContainerRegistry/registries/x":  {`{"sku": {"tier": "Standard"}}`, []string{"sku.tier is read-only"}},
		"Microsoft.Insights/components/x":           {`{"etag": "a"}`, []string{"etag is unknown"}},
		"Microsoft.MachineLearningServices/workspaces/w/computes/x": {`{"properties": {"computeType": "AKS", "provisioningState": "Creating", "properties": {"clusterPurpose": "DevTest", "purpose": "x"}}}`,
			[]string{"properties.properties.purpose is unknown", "properties.provisioningState is read-only"}},
	} {
		got, err := truth.check(http.MethodPut, "/subscriptions/s/resourceGroups/g/providers/"+path, []byte(test.body))
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, %v; want %q", path, got, err, test.want)
		}
	}
}
