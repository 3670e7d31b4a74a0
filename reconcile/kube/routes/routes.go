// Package routes is the table by which a cluster's front end knows its services.
// The Kubernetes driver writes it to a ConfigMap; amlaks-fe watches that
// ConfigMap. It holds no secret: keys stay in the Secrets it names.
package routes

// ConfigMap and Key are where the table lies in the stack's namespace.
const (
	ConfigMap = "amlaks-routes"
	Key       = "routes.json"
)

// Keys of a service's key Secret. Both are valid at the same time, so that one
// can be regenerated while clients use the other.
const (
	PrimaryKey   = "primaryKey"
	SecondaryKey = "secondaryKey"
)

// Table is all services of one stack on one cluster.
type Table struct {
	Stack    string    `json:"stack"`
	Services []Service `json:"services"` // sorted by name
}

// Service is one scoring URL, /api/v1/service/NAME/score.
type Service struct {
	Name     string `json:"name"`
	AuthMode string `json:"authMode"` // key, token or none
	// KeysSecret names the Secret with PrimaryKey and SecondaryKey (authMode key).
	KeysSecret string `json:"keysSecret,omitempty"`
	// Token says what a bearer token must show (authMode token).
	Token *Token `json:"token,omitempty"`

	ScoringTimeoutMs int `json:"scoringTimeoutMs"`
	MaxQueueWaitMs   int `json:"maxQueueWaitMs"`
	// MaxConcurrent is per container.
	MaxConcurrent int       `json:"maxConcurrent"`
	Versions      []Version `json:"versions"` // at least one; exactly one is the default
}

// Token is the claims that are required of a token.
type Token struct {
	Issuer   string   `json:"issuer"` // kubernetes or entra
	Audience string   `json:"audience"`
	Subject  string   `json:"subject,omitempty"`  // kubernetes: system:serviceaccount:NAMESPACE:NAME
	TenantID string   `json:"tenantId,omitempty"` // entra
	Roles    []string `json:"roles,omitempty"`    // entra: one of them suffices
}

// Version is one Deployment behind a service's URL.
type Version struct {
	Name string `json:"name"` // "default" for a service without versions
	// Backend is the Kubernetes Service whose EndpointSlices list the replicas
	// (label kubernetes.io/service-name).
	Backend string `json:"backend"`
	Port    int    `json:"port"`
	// ScoringPath is the container's, usually /score.
	ScoringPath string `json:"scoringPath"`
	// Percent of the traffic; the default version takes what the others leave.
	Percent float64 `json:"percent"`
	Default bool    `json:"default"`
}
