package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestModelForms: the forms that az ml has for a model mean what they mean there.
func TestModelForms(t *testing.T) {
	const registryID = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/ml/providers/Microsoft.MachineLearningServices/registries/shared"
	forms := `models: [churn:3, "azureml:base:2", azureml://registries/shared/models/e5/versions/7, {name: big, version: 4, registry: ` + registryID + `}]`
	stack, diags := Parse("amlaks.yaml", []byte(strings.Replace(baseFile, "models: [churn:3]", forms, 1)), caseDir(t))
	if stack == nil {
		t.Fatal(diags)
	}
	want := []Model{{Name: "churn", Version: "3"}, {Name: "base", Version: "2"}, {Name: "e5", Version: "7", Registry: "shared"}, {Name: "big", Version: "4", Registry: registryID}}
	if diff := cmp.Diff(want, stack.Services[0].Models); diff != "" {
		t.Error(diff)
	}
	if stack.Workspace.AllowAccountKeys {
		t.Error("account keys are allowed by a file that does not say so")
	}
}

func TestModelFormDiagnostics(t *testing.T) {
	runDiagnosticCases(t, []diagnosticCase{
		{"labels", "models: [churn:3]", `models: ["azureml:churn@latest", azureml://registries/r/models/m/labels/latest]`, `
amlaks.yaml:11:14: services[0].models[0]: must be NAME:VERSION, such as churn:3
   11 |     models: ["azureml:churn@latest", azureml://registries/r/models/m/labels/latest]
      |              ^
      = hint: name a version, the same file must always mean the same model: amlaks models shows which is the latest
amlaks.yaml:11:38: services[0].models[1]: must be NAME:VERSION, such as churn:3
   11 |     models: ["azureml:churn@latest", azureml://registries/r/models/m/labels/latest]
      |                                      ^
      = hint: name a version, the same file must always mean the same model: amlaks models shows which is the latest
`},
		{"latest of a registry", "models: [churn:3]", "models: [azureml://registries/r/models/m/versions/latest]", `
amlaks.yaml:11:14: services[0].models[0]: latest is not a version
   11 |     models: [azureml://registries/r/models/m/versions/latest]
      |              ^
      = hint: name a version, the same file must always mean the same model: amlaks models shows which is the latest
`},
		{"a datastore's path", "models: [churn:3]", "models: [azureml://datastores/d/paths/p]", `
amlaks.yaml:11:14: services[0].models[0]: must be NAME:VERSION, such as churn:3
   11 |     models: [azureml://datastores/d/paths/p]
      |              ^
      = hint: register what is at that path: az ml model create --path
`},
		{"registry and path", "models: [churn:3]", "models: [{name: a, version: 1, registry: r, path: score}, {name: b, version: 1, registry: a/b}]", `
amlaks.yaml:11:49: services[0].models[0].path: cannot stand beside registry: a model is either of a registry or beside the file
   11 |     models: [{name: a, version: 1, registry: r, path: score}, {name: b, version: 1, registry: a/b}]
      |                                                       ^
amlaks.yaml:11:85: services[0].models[1].registry: must be the name of an Azure ML registry (letters, digits, - and _), or its resource ID (az ml registry show --query id)
   11 |     models: [{name: a, version: 1, registry: r, path: score}, {name: b, version: 1, registry: a/b}]
      |                                                                                               ^
`},
		{"of two places", "models: [churn:3]", "models: [churn:3, azureml://registries/r/models/churn/versions/3]", `
amlaks.yaml:11:23: services[0].models[1]: churn:3 is models[0] already
   11 |     models: [churn:3, azureml://registries/r/models/churn/versions/3]
      |                       ^
`},
		{"account keys", "resourceGroup: ml,", "allowAccountKeys: sometimes, resourceGroup: ml,", `
amlaks.yaml:3:67: workspace.allowAccountKeys: must be true or false, not a string
    3 | workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, allowAccountKeys: sometimes, resourceGroup: ml, name: ml-prod}
      |                                                                                     ^
`},
	})
}

// A file with faults still tells what can be looked up, the same as a valid one where both can.
func TestReferences(t *testing.T) {
	const services = `
  - name: one
    cluster: prod
    models: ["churn:3", {name: base, version: 2}, {name: local, version: 1, path: score}, azureml://registries/r/models/m/versions/1]
    inference: {baseImage: scratch, command: [./server]}
  - name: two
    cluster: prod
    models: [churn:4]
    inference: {baseImage: scratch, command: [./server]}
    versions: [{name: blue, isDefault: true}, {name: green, models: ["azureml:churn:5"]}]
`
	text := baseFile[:strings.Index(baseFile, "services:")] + "services:" + services
	want := []Reference{
		{"one", "default", Model{Name: "churn", Version: "3"}}, {"one", "default", Model{Name: "base", Version: "2"}},
		{"one", "default", Model{Name: "m", Version: "1", Registry: "r"}},
		{"two", "blue", Model{Name: "churn", Version: "4"}}, {"two", "green", Model{Name: "churn", Version: "5"}},
	}
	stack, diags := Parse("amlaks.yaml", []byte(text), caseDir(t))
	if stack == nil {
		t.Fatal(diags)
	}
	if diff := cmp.Diff(want, stack.References()); diff != "" {
		t.Error(diff)
	}
	loose := func(text string) ([]Reference, error) {
		file := filepath.Join(t.TempDir(), "amlaks.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		workspace, references, err := LooseReferences(file)
		if err == nil && workspace.Name != "ml-prod" {
			t.Errorf("workspace %v", workspace)
		}
		return references, err
	}
	for _, faulty := range []string{text, text + "unknown: key\n"} {
		if got, err := loose(faulty); err != nil || !cmp.Equal(want, got) {
			t.Error(err, cmp.Diff(want, got))
		}
	}
	got, err := loose(strings.NewReplacer(`"churn:3"`, `churn@latest`, "{name: base, version: 2}", "base:latest, 7, [a], {name: x}").Replace(text))
	want[0].Model.Version, want[1].Model.Version = "latest", "latest"
	if err != nil || !cmp.Equal(want, got) {
		t.Error(err, cmp.Diff(want, got))
	}
	for name, text := range map[string]string{
		"no YAML": "a: [", "no workspace": "name: x\n", "half a workspace": "workspace: {name: x}\n", "models are no list": strings.Replace(text, "models: [churn:4]", "models: 4", 1),
	} {
		if got, err := loose(text); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}
