package azure_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile/azure"
)

// The truth about the wire is in the SDK: its types say which properties a body may have, of
// which kinds and values, and their comments which only the service sets. Every body that a test
// of this package sends is held against them (see wirePolicy).

// sdkType is one struct of the SDK, by JSON names.
type sdkType map[string]sdkField

type sdkField struct {
	typeName string // of the value, or of the items of a list or map: string, int32, Expander
	many     bool   // a list or a map
	readOnly bool
}

// sdkTypes are a package's types, read from its source: only comments say what is read-only.
type sdkTypes struct {
	structs map[string]sdkType
	enums   map[string][]string // the values of its string types
}

func parseSDK(module sdkModule) (sdkTypes, error) {
	command := exec.Command("go", "mod", "download", "-json", sdk+module.path)
	command.Dir = module.pinnedIn
	out, err := command.Output()
	if err != nil {
		return sdkTypes{}, fmt.Errorf("find %s: %w: %s", module.path, err, out)
	}
	var found struct{ Dir string }
	if err := json.Unmarshal(out, &found); err != nil {
		return sdkTypes{}, err
	}
	dir := found.Dir
	files := token.NewFileSet()
	names := map[string]map[string]string{} // type -> Go name -> JSON name
	serde, err := parser.ParseFile(files, filepath.Join(dir, "models_serde.go"), nil, 0)
	if err != nil {
		return sdkTypes{}, err
	}
	for _, declaration := range serde.Decls {
		method, ok := declaration.(*ast.FuncDecl)
		if !ok || method.Name.Name != "MarshalJSON" {
			continue
		}
		receiver := typeName(method.Recv.List[0].Type)
		names[receiver] = map[string]string{}
		ast.Inspect(method.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr: // populate(objectMap, "name", m.Name)
				if len(n.Args) == 3 {
					key, isKey := n.Args[1].(*ast.BasicLit)
					value, isField := n.Args[2].(*ast.SelectorExpr)
					if isKey && isField {
						names[receiver][value.Sel.Name], _ = strconv.Unquote(key.Value)
					}
				}
			case *ast.AssignStmt: // objectMap["computeType"] = ComputeTypeAKS
				if index, ok := n.Lhs[0].(*ast.IndexExpr); ok {
					if key, ok := index.Index.(*ast.BasicLit); ok {
						name, _ := strconv.Unquote(key.Value)
						names[receiver][strings.ToUpper(name[:1])+name[1:]] = name
					}
				}
			}
			return true
		})
	}
	models, err := parser.ParseFile(files, filepath.Join(dir, "models.go"), nil, parser.ParseComments)
	if err != nil {
		return sdkTypes{}, err
	}
	types := sdkTypes{structs: map[string]sdkType{}, enums: map[string][]string{}}
	ast.Inspect(models, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		structure, ok := spec.Type.(*ast.StructType)
		if !ok {
			return false
		}
		t := sdkType{}
		for _, field := range structure.Fields.List {
			if len(field.Names) == 0 {
				continue
			}
			name := names[spec.Name.Name][field.Names[0].Name]
			if name == "" {
				continue // not part of a body
			}
			of, many := field.Type, false
			switch kind := of.(type) {
			case *ast.ArrayType:
				of, many = kind.Elt, true
			case *ast.MapType:
				of, many = kind.Value, true
			}
			t[name] = sdkField{typeName: typeName(of), many: many, readOnly: strings.HasPrefix(field.Doc.Text(), "READ-ONLY")}
		}
		types.structs[spec.Name.Name] = t
		return false
	})
	constants, err := parser.ParseFile(files, filepath.Join(dir, "constants.go"), nil, 0)
	if err != nil {
		return sdkTypes{}, err
	}
	ast.Inspect(constants, func(n ast.Node) bool { // AgentPoolModeSystem AgentPoolMode = "System"
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Type != nil && len(spec.Values) == 1 {
			if value, ok := spec.Values[0].(*ast.BasicLit); ok {
				text, _ := strconv.Unquote(value.Value)
				types.enums[typeName(spec.Type)] = append(types.enums[typeName(spec.Type)], text)
			}
		}
		return true
	})
	return types, nil
}

func typeName(of ast.Expr) string {
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

// wrong are the paths of a body that a type does not have, or that only the service sets.
func (types sdkTypes) wrong(name string, value any, path string) []string {
	t, known := types.structs[types.concrete(name, value)]
	if !known {
		return types.wrongValue(name, value, path)
	}
	object, isObject := value.(map[string]any)
	switch {
	case value == nil:
		return nil // ARM takes it for not there
	case !isObject:
		return []string{path + " is no object"}
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(object)) {
		here := strings.TrimPrefix(path+"."+key, ".")
		field, ok := t[key]
		switch {
		case !ok:
			all = append(all, here+" is unknown")
		case field.readOnly:
			all = append(all, here+" is read-only")
		case field.many:
			switch items := object[key].(type) {
			case []any:
				for i, item := range items {
					all = append(all, types.wrong(field.typeName, item, fmt.Sprintf("%s[%d]", here, i))...)
				}
			case map[string]any:
				for _, k := range slices.Sorted(maps.Keys(items)) {
					all = append(all, types.wrong(field.typeName, items[k], here+"."+k)...)
				}
			}
		default:
			all = append(all, types.wrong(field.typeName, object[key], here)...)
		}
	}
	return all
}

// wrongValue tells whether a value is of another kind than its type, or none of its enum.
func (types sdkTypes) wrongValue(name string, value any, path string) []string {
	kind := fmt.Sprintf("%T", value)
	want := map[string]string{"string": "string", "bool": "bool", "int32": "float64", "int64": "float64", "float32": "float64", "float64": "float64"}[name]
	values := types.enums[name]
	if values != nil {
		want = "string"
	}
	switch {
	case value == nil || want == "": // any, time.Time
	case kind != want:
		return []string{fmt.Sprintf("%s is a %s, not a %s", path, kind, name)}
	case values != nil && !slices.Contains(values, value.(string)):
		return []string{fmt.Sprintf("%s is %q, none of %s", path, value, strings.Join(values, ", "))}
	}
	return nil
}

// concrete is the struct behind an interface of the SDK.
func (types sdkTypes) concrete(name string, value any) string {
	if name == "ComputeClassification" {
		kind, _ := at(value, "computeType").(string)
		return kind
	}
	return name
}

// readOnly are the read-only paths of a type, with * for the items of lists and maps.
func (types sdkTypes) readOnly(name, path string) []string {
	var all []string
	for key, field := range types.structs[name] {
		here := strings.TrimPrefix(path+"."+key, ".")
		if field.readOnly {
			all = append(all, here)
			continue
		}
		if field.many {
			here += ".*"
		}
		if field.typeName != name {
			all = append(all, types.readOnly(field.typeName, here)...)
		}
	}
	slices.Sort(all)
	return all
}

// sdk is where the modules of Resource Manager's services are.
const sdk = "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/"

// sdkModule is one of them, and the folder whose go.mod and go.sum pin it: those that amlaks
// itself does not need have a go.mod of their own.
type sdkModule struct{ path, pinnedIn string }

const (
	ours     = "."
	wireOnly = "../../testdata/wire"
)

var (
	containerService = sdkModule{"containerservice/armcontainerservice/v6", ours}
	machineLearning  = sdkModule{"machinelearning/armmachinelearning/v4", ours}
)

// wireTypes says which type a path's body is of.
var wireTypes = []struct {
	path   *regexp.Regexp
	module sdkModule
	name   string
}{
	{regexp.MustCompile(`(?i)/managedClusters/[^/]+$`), containerService, "ManagedCluster"},
	{regexp.MustCompile(`(?i)/managedClusters/[^/]+/agentPools/[^/]+$`), containerService, "AgentPool"},
	{regexp.MustCompile(`(?i)/workspaces/[^/]+$`), machineLearning, "Workspace"},
	{regexp.MustCompile(`(?i)/workspaces/[^/]+/computes/[^/]+$`), machineLearning, "ComputeResource"},
	{regexp.MustCompile(`(?i)/roleAssignments/[^/]+$`), sdkModule{"authorization/armauthorization/v2", wireOnly}, "RoleAssignmentCreateParameters"},
	{regexp.MustCompile(`(?i)/storageAccounts/[^/]+$`), sdkModule{"storage/armstorage", wireOnly}, "AccountCreateParameters"},
	{regexp.MustCompile(`(?i)/vaults/[^/]+$`), sdkModule{"keyvault/armkeyvault", wireOnly}, "VaultCreateOrUpdateParameters"},
	{regexp.MustCompile(`(?i)/components/[^/]+$`), sdkModule{"applicationinsights/armapplicationinsights", wireOnly}, "Component"},
	{regexp.MustCompile(`(?i)/registries/[^/]+$`), sdkModule{"containerregistry/armcontainerregistry", wireOnly}, "Registry"},
}

// wireTruth holds bodies against the SDK's types, each module parsed once.
type wireTruth struct {
	mu      sync.Mutex
	modules map[sdkModule]sdkTypes
}

func (w *wireTruth) of(module sdkModule) (sdkTypes, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.modules[module].structs == nil {
		types, err := parseSDK(module)
		if err != nil {
			return sdkTypes{}, err
		}
		if w.modules == nil {
			w.modules = map[sdkModule]sdkTypes{}
		}
		w.modules[module] = types
	}
	return w.modules[module], nil
}

// truth is shared by the tests of this package.
var truth wireTruth

// check gives what is wrong with a request.
func (w *wireTruth) check(method, path string, content []byte) ([]string, error) {
	if len(content) == 0 || method == http.MethodGet {
		return nil, nil
	}
	var sent any
	if err := json.Unmarshal(content, &sent); err != nil {
		return nil, err
	}
	for _, known := range wireTypes {
		if !known.path.MatchString(path) {
			continue
		}
		types, err := w.of(known.module)
		if err != nil {
			return nil, err
		}
		return types.wrong(known.name, sent, ""), nil
	}
	return []string{"nobody knows what type it is"}, nil
}

// newer begins the names of properties that tests plant on live resources: no SDK knows them,
// and they must survive, so they may be sent.
const newer = "newer"

// wirePolicy sees every body that is sent.
type wirePolicy struct{ t *testing.T }

func (p wirePolicy) Do(request *policy.Request) (*http.Response, error) {
	raw := request.Raw()
	if raw.Body == nil {
		return request.Next()
	}
	content, err := io.ReadAll(raw.Body)
	if err != nil {
		return nil, err
	}
	if err := request.RewindBody(); err != nil {
		return nil, err
	}
	wrong, err := truth.check(raw.Method, raw.URL.Path, content)
	if err != nil {
		p.t.Errorf("%s %s: %v: %s", raw.Method, raw.URL.Path, err, bytes.TrimSpace(content))
	}
	for _, what := range wrong {
		if !strings.HasPrefix(what[strings.LastIndexByte(what, '.')+1:], newer) {
			p.t.Errorf("%s %s sends what it must not: %s", raw.Method, raw.URL.Path, what)
		}
	}
	return request.Next()
}

// The check itself: it must see what is unknown or read-only, wherever it is.
func TestWireTruth(t *testing.T) {
	t.Parallel()
	const cluster = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/prod"
	for body, want := range map[string][]string{
		`{"location": "westeurope", "properties": {"kubernetesVersion": "1.36"}}`: nil,
		`{"locaton": "westeurope"}`: {"locaton is unknown"},
		`{"eTag": "1", "id": "x"}`:  {"eTag is read-only", "id is read-only"},
		`{"properties": {"provisioningState": "Succeeded", "maxAgentPools": 1}}`:                         {"properties.maxAgentPools is read-only", "properties.provisioningState is read-only"},
		`{"properties": {"agentPoolProfiles": [{"name": "a"}, {"vmsize": "x", "nodeImageVersion": 1}]}}`: {"properties.agentPoolProfiles[1].nodeImageVersion is read-only", "properties.agentPoolProfiles[1].vmsize is unknown"},
		`{"properties": {"addonProfiles": {"omsagent": {"enabled": true, "identity": {}}}}}`:             {"properties.addonProfiles.omsagent.identity is read-only"},
		`{"tags": {"any": "thing"}, "properties": {"kubernetesVersion": null}}`:                          nil,
		`{"tags": {"any": 1}, "location": true}`:                                                         {"location is a bool, not a string", "tags.any is a float64, not a string"},
		`{"sku": {"tier": "Gold"}, "properties": {"agentPoolProfiles": [{"count": "3"}], "networkProfile": []}}`: {
			"properties.agentPoolProfiles[0].count is a string, not a int32", "properties.networkProfile is no object", `sku.tier is "Gold", none of Free, Premium, Standard`},
	} {
		got, err := truth.check(http.MethodPut, cluster, []byte(body))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", body, got, err, want)
		}
	}
	if got, _ := truth.check(http.MethodPut, "/subscriptions/s/providers/Microsoft.Other/things/x", []byte(`{}`)); len(got) == 0 {
		t.Error("a body of no known type passes")
	}
}

// The lists of what an update leaves out are those of the SDK, whole.
func TestReadOnlyLists(t *testing.T) {
	t.Parallel()
	for _, known := range wireTypes[:2] {
		types, err := truth.of(known.module)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Sorted(slices.Values(azure.ReadOnly[known.name]))
		if diff := cmp.Diff(types.readOnly(known.name, ""), got); diff != "" {
			t.Errorf("%s (-SDK +ours):\n%s", known.name, diff)
		}
	}
}
