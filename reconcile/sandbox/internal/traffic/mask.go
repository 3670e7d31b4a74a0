package traffic

import (
	"encoding/json"
	"slices"
	"strings"
)

// masked stands where a secret was.
const masked = "***"

// secretWords make a JSON key or a query parameter secret when they occur in its name.
var secretWords = [...]string{"secret", "password", "token", "kubeconfig", "privatekey", "accountkey", "credential", "connectionstring"}

// secretNames are secret as whole names: the TLS pair of an AML compute, and SAS signatures.
var secretNames = [...]string{"key", "cert", "sig", "pfx", "pem"}

// notSecret are paging marks that only sound like secrets.
var notSecret = [...]string{"$skiptoken"}

func isSecret(name string) bool {
	name = strings.ToLower(name)
	if slices.Contains(notSecret[:], name) {
		return false
	}
	return slices.Contains(secretNames[:], name) ||
		slices.ContainsFunc(secretWords[:], func(word string) bool { return strings.Contains(name, word) })
}

func maskQuery(query map[string][]string) map[string][]string {
	for name := range query {
		if isSecret(name) {
			query[name] = []string{masked}
		}
	}
	return query
}

// maskBody gives a request's JSON without its secrets; what is not JSON is not kept.
func maskBody(body []byte) json.RawMessage {
	var value any
	if len(body) == 0 || json.Unmarshal(body, &value) != nil {
		return nil
	}
	clean, err := json.Marshal(mask(value))
	if err != nil || len(clean) > maxLogged {
		return json.RawMessage(`"too large to keep"`)
	}
	return clean
}

func mask(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if _, text := inner.(string); text && isSecret(key) {
				value[key] = masked
			} else {
				value[key] = mask(inner)
			}
		}
	case []any:
		for i := range value {
			value[i] = mask(value[i])
		}
	case string:
		if strings.Contains(value, "-----BEGIN ") {
			return masked
		}
	}
	return value
}
