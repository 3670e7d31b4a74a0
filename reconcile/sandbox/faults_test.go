package sandbox_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// raw sends a request as no SDK would, and gives status and body.
func raw(t *testing.T, s *sandbox.Sandbox, method, target, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.Token())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

// awaitState polls until a cluster's provisioning state is the wanted one.
func awaitState(t *testing.T, clusters *armcontainerservice.ManagedClustersClient, name, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for got := ""; got != want; {
		live, err := clusters.Get(ctx, group, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got = *live.Properties.ProvisioningState; got == want {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("provisioning state %s, want %s", got, want)
		}
	}
}

func inject(t *testing.T, s *sandbox.Sandbox, fault sandbox.Fault) {
	t.Helper()
	if _, err := s.Fault(fault); err != nil {
		t.Fatal(err)
	}
}

func TestFaults(t *testing.T) {
	s := start(t, t.TempDir())
	clusters, _ := aks(t, s)
	create(t, clusters, "prod")
	t.Run("status", func(t *testing.T) {
		s.ClearRequests()
		inject(t, s, sandbox.Fault{Method: "PUT", Path: "managedclusters/prod$", Status: 403, Count: 1})
		wantCode(t, put(t, clusters, "prod", newCluster()), http.StatusForbidden, "AuthorizationFailed")
		seen := s.Requests("arm")
		if len(seen) != 1 || seen[0].Fault != "status 403" || seen[0].Status != 403 {
			t.Errorf("recorded %+v", seen)
		}
		if err := put(t, clusters, "prod", newCluster()); err != nil {
			t.Errorf("after the fault: %v", err)
		}
	})
	t.Run("throttled", func(t *testing.T) {
		s.ClearRequests()
		inject(t, s, sandbox.Fault{Method: "GET", Status: 429, RetryAfter: sandbox.Duration(time.Second)})
		before := time.Now()
		if _, err := clusters.Get(t.Context(), group, "prod", nil); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(before); waited < time.Second || calls(s, "arm", "GET") != 2 {
			t.Errorf("the SDK waited %v and sent %d requests", waited, calls(s, "arm", "GET"))
		}
	})
	t.Run("reset after a write", func(t *testing.T) {
		inject(t, s, sandbox.Fault{Method: "PUT", Reset: "after"})
		body := newCluster()
		body.Tags["reset"] = body.Tags["amlaks-stack"]
		// azcore sends the PUT again and meets its own operation (azure-sdk.md 4, step 14).
		if err := put(t, clusters, "prod", body); err != nil {
			wantCode(t, err, http.StatusConflict, "OperationNotAllowed")
		}
		awaitState(t, clusters, "prod", "Succeeded")
		live, err := clusters.Get(t.Context(), group, "prod", nil)
		if err != nil || live.Tags["reset"] == nil {
			t.Errorf("the write took no effect: %v, %v", live.Tags, err)
		}
	})
	t.Run("reset before a write", func(t *testing.T) {
		s.ClearRequests()
		inject(t, s, sandbox.Fault{Method: "PUT", Reset: "before"})
		if err := put(t, clusters, "prod", newCluster()); err != nil {
			t.Error(err)
		}
		if n := calls(s, "arm", "PUT"); n != 2 {
			t.Errorf("%d PUTs, want 2: the one that was reset, and azcore's next", n)
		}
	})
	t.Run("stall", func(t *testing.T) {
		inject(t, s, sandbox.Fault{Method: "GET", Stall: sandbox.Duration(100 * time.Millisecond)})
		before := time.Now()
		if _, err := clusters.Get(t.Context(), group, "prod", nil); err != nil || time.Since(before) < 100*time.Millisecond {
			t.Errorf("answered after %v, %v", time.Since(before), err)
		}
	})
	t.Run("operation fails", func(t *testing.T) {
		inject(t, s, sandbox.Fault{Method: "PUT", Operation: "failed:SkuNotAvailable"})
		wantCode(t, put(t, clusters, "prod", newCluster()), http.StatusOK, "SkuNotAvailable")
		awaitState(t, clusters, "prod", "Failed")
		if err := put(t, clusters, "prod", newCluster()); err != nil {
			t.Errorf("a PUT over the failed cluster: %v", err)
		}
	})
	t.Run("operation never ends", func(t *testing.T) {
		inject(t, s, sandbox.Fault{Method: "PUT", Operation: "never"})
		poller, err := clusters.BeginCreateOrUpdate(t.Context(), group, "prod", newCluster(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := poller.Poll(t.Context()); err != nil || poller.Done() {
			t.Errorf("done %v, %v", poller.Done(), err)
		}
		wantCode(t, put(t, clusters, "prod", newCluster()), http.StatusConflict, "OperationNotAllowed")
		s.ClearFaults()
		if _, err := poller.PollUntilDone(t.Context(), nil); err != nil {
			t.Errorf("after the faults were cleared: %v", err)
		}
	})
	if left := s.Faults(); len(left) != 0 {
		t.Errorf("faults left: %v", left)
	}
}

func TestFaultIsChecked(t *testing.T) {
	s := start(t, t.TempDir())
	for name, fault := range map[string]sandbox.Fault{
		"no way":         {},
		"two ways":       {Status: 500, Reset: "before"},
		"status":         {Status: 200},
		"reset":          {Reset: "sometimes"},
		"operation":      {Operation: "maybe"},
		"not arm":        {Service: "git", Operation: "never"},
		"service":        {Service: "dns", Status: 500},
		"path":           {Status: 500, Path: "("},
		"negative count": {Status: 500, Count: -1},
	} {
		if _, err := s.Fault(fault); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A sandbox that ended in the middle of a creation goes on with it, at the same addresses.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, func(o *sandbox.Options) { o.OperationTime = time.Hour })
	clusters, _ := aks(t, s)
	poller, err := clusters.BeginCreateOrUpdate(t.Context(), group, "prod", newCluster(), nil)
	if err != nil {
		t.Fatal(err)
	}
	endpoint, key, registry := s.ARMEndpoint(), s.Token(), s.Registry()
	s.Close()
	s = start(t, dir)
	if s.ARMEndpoint() != endpoint || s.Token() != key || s.Registry() != registry {
		t.Error("addresses or token have changed")
	}
	made, err := poller.PollUntilDone(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if *made.Properties.ProvisioningState != "Succeeded" {
		t.Errorf("provisioning state %s", *made.Properties.ProvisioningState)
	}
	if _, err := sandbox.Start(t.Context(), sandbox.Options{Dir: dir, Kubeconfig: []byte(kubeconfig)}); err == nil {
		t.Error("a second sandbox started on the same folder")
	}
}
