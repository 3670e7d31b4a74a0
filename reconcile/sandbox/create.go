package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// defaultVMSize is what `az aks create` takes in 2026 when nothing is said.
const defaultVMSize = "Standard_D4ds_v5"

// clusterName and groupName are Azure's rules for names.
var (
	clusterName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$`)
	groupName   = regexp.MustCompile(`^[a-zA-Z0-9_()-][a-zA-Z0-9_.()-]{0,88}$`)
)

// CreateCluster makes an AKS cluster as somebody would by hand, without a stack's tags, and
// waits until it is there. It goes through ARM's own handler, so what az would be refused is
// refused, but it is not among the Requests.
func (s *Sandbox) CreateCluster(ctx context.Context, request ClusterRequest) error {
	if request.ResourceGroup == "" {
		request.ResourceGroup = ResourceGroup
	}
	if request.SubscriptionID == "" {
		request.SubscriptionID = SubscriptionID
	}
	if request.VMSize == "" {
		request.VMSize = defaultVMSize
	}
	if request.AgentCount == 0 {
		request.AgentCount = 1
	}
	if !clusterName.MatchString(request.Name) || !groupName.MatchString(request.ResourceGroup) {
		return fmt.Errorf("cluster %q in group %q: not names that Azure would take", request.Name, request.ResourceGroup)
	}
	target := fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerService/managedClusters/%s?api-version=2025-02-01",
		request.SubscriptionID, request.ResourceGroup, request.Name)
	content, err := json.Marshal(map[string]any{
		"location": "westeurope", "identity": map[string]any{"type": "SystemAssigned"},
		"properties": map[string]any{
			"dnsPrefix": request.Name,
			"agentPoolProfiles": []any{map[string]any{
				"name": "nodepool1", "mode": "System", "vmSize": request.VMSize, "count": request.AgentCount,
			}},
		},
	})
	if err != nil {
		return err
	}
	if status, answer := s.ask(ctx, http.MethodPut, target, content, "If-None-Match", "*"); status != http.StatusCreated {
		return fmt.Errorf("create cluster %s: %s", request.Name, answer.Error.Message)
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		switch _, answer := s.ask(ctx, http.MethodGet, target, nil); answer.Properties.ProvisioningState {
		case "Succeeded":
			return nil
		case "Failed", "Canceled", "":
			return fmt.Errorf("create cluster %s: it has ended as %q", request.Name, answer.Properties.ProvisioningState)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type armAnswer struct {
	Error      struct{ Message string }
	Properties struct{ ProvisioningState string }
}

// ask calls ARM's handler in this process.
func (s *Sandbox) ask(ctx context.Context, method, target string, content []byte, header ...string) (int, armAnswer) {
	r, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(content))
	if err != nil {
		return 0, armAnswer{}
	}
	r.Header.Set("Authorization", "Bearer "+s.settings.Token)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := &capture{header: http.Header{}}
	s.arm.ServeHTTP(w, r)
	var answer armAnswer
	_ = json.Unmarshal(w.content.Bytes(), &answer) // an empty answer is told by its status
	return w.status, answer
}

// capture keeps an answer.
type capture struct {
	header  http.Header
	status  int
	content bytes.Buffer
}

func (c *capture) Header() http.Header         { return c.header }
func (c *capture) WriteHeader(status int)      { c.status = status }
func (c *capture) Write(p []byte) (int, error) { return c.content.Write(p) }
