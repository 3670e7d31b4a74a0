package spec

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	yaml "sigs.k8s.io/yaml/goyaml.v3"
)

func testSchema(t testing.TB) *fileSchema {
	t.Helper()
	s, err := loadSchema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTypesAgreeWithSchema walks the Go types and the schema side by side: each
// json field has a property, each property a field, and their types fit.
func TestTypesAgreeWithSchema(t *testing.T) {
	s := testSchema(t)
	seen := make(map[reflect.Type]bool)
	var walk func(at string, typ reflect.Type, node map[string]any)
	walk = func(at string, typ reflect.Type, node map[string]any) {
		node = s.resolve(node)
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		want := map[reflect.Kind]string{
			reflect.Struct: "object", reflect.Map: "object", reflect.Slice: "array", reflect.String: "string",
			reflect.Int: "integer", reflect.Float64: "number", reflect.Bool: "boolean",
		}[typ.Kind()]
		if node["const"] == nil && !slices.Contains(typeList(node["type"]), want) {
			t.Errorf("%s: the schema's type is %v, Go's is %v", at, node["type"], typ)
		}
		switch typ.Kind() {
		case reflect.Slice:
			walk(at+"[]", typ.Elem(), node["items"].(map[string]any))
		case reflect.Map:
			walk(at+"{}", typ.Elem(), node["additionalProperties"].(map[string]any))
		case reflect.Struct:
			if seen[typ] {
				return
			}
			seen[typ] = true
			properties, _ := node["properties"].(map[string]any)
			var fields []string
			for i := range typ.NumField() {
				name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
				if name == "-" {
					continue
				}
				fields = append(fields, name)
				if property, ok := properties[name].(map[string]any); ok {
					walk(at+"."+name, typ.Field(i).Type, property)
				}
			}
			slices.Sort(fields)
			if diff := cmp.Diff(fields, sortedKeys(properties)); diff != "" {
				t.Errorf("%s: fields of %v and properties of the schema (-Go +schema):\n%s", at, typ, diff)
			}
		}
	}
	walk("stack", reflect.TypeFor[Stack](), s.text)
}

// TestConstantsAgreeWithSchema compares the enums with the constants of this package.
func TestConstantsAgreeWithSchema(t *testing.T) {
	s := testSchema(t)
	for location, want := range map[string][]string{
		"#/$defs/workspace/properties/cloud":          {PublicCloud, USGovCloud, ChinaCloud},
		"#/$defs/cluster/properties/purpose":          {string(FastProd), string(DenseProd), string(DevTest)},
		"#/$defs/cluster/properties/loadBalancerType": {PublicIP, InternalLoadBalancer},
		"#/$defs/frontEnd/properties/expose":          {ExposeLoadBalancer, ExposeGateway, ExposeClusterIP},
		"#/$defs/service/properties/authMode":         {string(AuthKey), string(AuthToken), string(AuthNone)},
		"#/$defs/token/properties/issuer":             {IssuerKubernetes, IssuerEntra},
	} {
		if diff := cmp.Diff(want, stringList(s.lookup(location)["enum"])); diff != "" {
			t.Errorf("%s (-Go +schema):\n%s", location, diff)
		}
	}
	if got := s.lookup("#/properties/apiVersion")["const"]; got != APIVersion {
		t.Errorf("apiVersion is %v in the schema, %s in Go", got, APIVersion)
	}
}

// TestPendingFieldsExist keeps the table of pending fields to fields there are.
func TestPendingFieldsExist(t *testing.T) {
	s := testSchema(t)
	for _, p := range pending {
		node := s.text
		for step := range strings.SplitSeq(p.field, ".") {
			name := strings.TrimRight(step, "[]{}")
			properties, _ := s.resolve(node)["properties"].(map[string]any)
			property, ok := properties[name].(map[string]any)
			if !ok {
				t.Errorf("%s: the schema has no %s", p.field, name)
				break
			}
			node = s.resolve(property)
			switch {
			case strings.HasSuffix(step, "[]"):
				node = node["items"].(map[string]any)
			case strings.HasSuffix(step, "{}"):
				node = node["additionalProperties"].(map[string]any)
			}
		}
	}
}

const fullExample = "../examples/full/amlaks.yaml"

// TestFullExampleValidates keeps the example valid, with the warnings that its
// own comments announce and no other.
func TestFullExampleValidates(t *testing.T) {
	_, diags := Load(fullExample)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, d := range diags {
		fields = append(fields, d.Field)
	}
	want := []string{
		"clusters[0].nodePools[2].vmSize",
		"clusters[0].dockerBridgeCidr",
		"services[0].inference.requirements",
		"services[0].autoScaler",
		"services[2].token.issuer",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields with a warning (-want +got):\n%s", diff)
	}
}

// TestFullExampleUsesEveryField checks that a user finds every property of the schema in it.
func TestFullExampleUsesEveryField(t *testing.T) {
	s := testSchema(t)
	data, err := os.ReadFile(fullExample)
	if err != nil {
		t.Fatal(err)
	}
	var file any
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	var walk func(location string, value any)
	walk = func(location string, value any) {
		node := s.lookup(location)
		for ref, ok := node["$ref"].(string); ok; ref, ok = node["$ref"].(string) {
			location, node = ref, s.lookup(ref)
		}
		switch value := value.(type) {
		case map[string]any:
			for name, v := range value {
				if child := location + "/properties/" + name; s.lookup(child) != nil {
					used[child] = true
					walk(child, v)
				} else {
					walk(location+"/additionalProperties", v)
				}
			}
		case []any:
			for _, v := range value {
				walk(location+"/items", v)
			}
		}
	}
	walk("#", file)

	objects := map[string]map[string]any{"#": s.text}
	for name, def := range s.text["$defs"].(map[string]any) {
		objects["#/$defs/"+name] = def.(map[string]any)
	}
	for _, location := range sortedKeys(objects) {
		properties, _ := objects[location]["properties"].(map[string]any)
		for _, name := range sortedKeys(properties) {
			if property := location + "/properties/" + name; !used[property] {
				t.Errorf("%s is not in %s", property, fullExample)
			}
		}
	}
}
