package sandbox_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// credential is the kubeconfig that ARM hands out for a cluster.
func credential(t *testing.T, s *sandbox.Sandbox, name string) *rest.Config {
	t.Helper()
	clusters, _ := aks(t, s)
	given, err := clusters.ListClusterAdminCredentials(t.Context(), group, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(given.Kubeconfigs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	config.Timeout = 20 * time.Second
	return config
}

func kubernetesOf(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"password": "secret-of-the-body"}}
}

// eventually polls until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-ticker.C:
		}
	}
}

// TestGate asks a real API server through the gate.
func TestGate(t *testing.T) {
	dir := t.TempDir()
	real := func(o *sandbox.Options) { o.Kubeconfig, o.HollowNodes = nil, true }
	s := start(t, dir, real)
	clusters, _ := aks(t, s)
	create(t, clusters, "prod")
	config := credential(t, s, "prod")
	client := kubernetesOf(t, config)
	maps := client.CoreV1().ConfigMaps("default")

	t.Run("seen", func(t *testing.T) {
		s.ClearRequests()
		if _, err := maps.Create(t.Context(), configMap("seen"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		seen := s.Requests("kube")
		if len(seen) != 1 || seen[0].Method != http.MethodPost || seen[0].Status != http.StatusCreated ||
			seen[0].Path != "/ml-prod_prod/api/v1/namespaces/default/configmaps" {
			t.Fatalf("recorded %+v", seen)
		}
		if seen[0].Body != nil || seen[0].Headers["Authorization"] != "" {
			t.Errorf("recorded a body or a credential: %+v", seen[0])
		}
	})
	t.Run("token", func(t *testing.T) {
		for name, token := range map[string]string{"another": "x" + config.BearerToken, "ARM's": s.Token(), "none": ""} {
			stranger := rest.CopyConfig(config)
			stranger.BearerToken = token
			_, err := kubernetesOf(t, stranger).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
			if !apierrors.IsUnauthorized(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("no such cluster", func(t *testing.T) {
		other := rest.CopyConfig(config)
		other.Host = strings.TrimSuffix(other.Host, "prod") + "staging"
		if _, err := kubernetesOf(t, other).CoreV1().ConfigMaps("default").Create(t.Context(), configMap("x"), metav1.CreateOptions{}); err == nil {
			t.Error("answered")
		}
	})
	t.Run("watch", func(t *testing.T) {
		watch, err := maps.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=watched"})
		if err != nil {
			t.Fatal(err)
		}
		defer watch.Stop()
		if _, err := maps.Create(t.Context(), configMap("watched"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		select {
		case event := <-watch.ResultChan():
			if event.Type != "ADDED" {
				t.Errorf("%+v", event)
			}
		case <-time.After(20 * time.Second):
			t.Error("no event came through")
		}
	})
	t.Run("hollow nodes", func(t *testing.T) {
		labels := map[string]string{"app": "x"}
		deployments := client.AppsV1().Deployments("default")
		_, err := deployments.Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "x"},
			Spec: appsv1.DeploymentSpec{
				Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: labels},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "x", Image: "registry.invalid/x"}}},
				},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "two pods are Ready", func() bool {
			live, err := deployments.Get(t.Context(), "x", metav1.GetOptions{})
			return err == nil && live.Status.AvailableReplicas == 2
		})
	})
	t.Run("while a pool changes", func(t *testing.T) {
		_, pools := aks(t, s)
		pool := armcontainerservice.AgentPool{Properties: &armcontainerservice.ManagedClusterAgentPoolProfileProperties{
			Mode: to.Ptr(armcontainerservice.AgentPoolModeSystem), VMSize: to.Ptr("Standard_D4ds_v5"), Count: to.Ptr[int32](6),
		}}
		poller, err := pools.BeginCreateOrUpdate(t.Context(), group, "prod", "agentpool", pool, nil)
		if err != nil {
			t.Fatal(err)
		}
		for !poller.Done() {
			if _, err := maps.Create(t.Context(), configMap("meanwhile"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
				t.Fatal(err)
			}
			if _, err := poller.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil || len(nodes.Items) != 6 {
			t.Errorf("%d nodes, %v", len(nodes.Items), err)
		}
	})
	t.Run("upgrade", func(t *testing.T) {
		s.ClearRequests()
		transport, err := rest.TransportFor(config)
		if err != nil {
			t.Fatal(err)
		}
		// A watch over WebSocket (RFC 6455 1.3 has this key).
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+"/api/v1/namespaces/default/configmaps?watch=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Origin": {config.Host},
			"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		frame := make([]byte, 16)
		_, err = io.ReadFull(response.Body, frame)
		response.Body.Close()
		if response.StatusCode != http.StatusSwitchingProtocols || err != nil || !strings.Contains(string(frame), `{"type`) {
			t.Fatalf("%s, %q, %v", response.Status, frame, err)
		}
		eventually(t, "it is recorded", func() bool {
			seen := s.Requests("kube")
			return len(seen) == 1 && seen[0].Status == http.StatusSwitchingProtocols
		})
	})
	t.Run("faults", func(t *testing.T) {
		inject(t, s, sandbox.Fault{Service: "kube", Method: "PUT", Path: "configmaps/seen", Status: 403})
		if _, err := maps.Update(t.Context(), configMap("seen"), metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("403: %v", err)
		}
		inject(t, s, sandbox.Fault{Service: "kube", Status: 429, RetryAfter: sandbox.Duration(time.Second)})
		raw := client.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces/default/configmaps/seen").MaxRetries(0).Do(t.Context())
		if seconds, retry := apierrors.SuggestsClientDelay(raw.Error()); !apierrors.IsTooManyRequests(raw.Error()) || !retry || seconds != 1 {
			t.Errorf("429: %v", raw.Error())
		}
		inject(t, s, sandbox.Fault{Service: "kube", Method: "POST", Reset: "before"})
		if _, err := maps.Create(t.Context(), configMap("lost"), metav1.CreateOptions{}); err == nil || apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
			t.Errorf("reset before: %v", err)
		}
		if _, err := maps.Get(t.Context(), "lost", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("reset before had an effect: %v", err)
		}
		inject(t, s, sandbox.Fault{Service: "kube", Method: "POST", Reset: "after"})
		if _, err := maps.Create(t.Context(), configMap("lost"), metav1.CreateOptions{}); err == nil {
			t.Error("reset after: answered")
		}
		if _, err := maps.Get(t.Context(), "lost", metav1.GetOptions{}); err != nil {
			t.Errorf("reset after had no effect: %v", err)
		}
		inject(t, s, sandbox.Fault{Service: "kube", Method: "GET", Stall: sandbox.Duration(100 * time.Millisecond)})
		before := time.Now()
		if _, err := maps.Get(t.Context(), "lost", metav1.GetOptions{}); err != nil || time.Since(before) < 100*time.Millisecond {
			t.Errorf("stall: answered after %v, %v", time.Since(before), err)
		}
		if left := s.Faults(); len(left) != 0 {
			t.Errorf("faults left: %+v", left)
		}
	})
	t.Run("the user's own cluster", func(t *testing.T) {
		own, err := os.ReadFile(filepath.Join(dir, "clusters", "ml-prod_prod", "kubeconfig"))
		if err != nil {
			t.Fatal(err)
		}
		second := start(t, t.TempDir(), func(o *sandbox.Options) { o.Kubeconfig = own })
		clusters, _ := aks(t, second)
		create(t, clusters, "mine")
		config := credential(t, second, "mine")
		if _, err := kubernetesOf(t, config).CoreV1().ConfigMaps("default").Get(t.Context(), "lost", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		if seen := second.Requests("kube"); len(seen) != 1 || seen[0].Path != "/ml-prod_mine/api/v1/namespaces/default/configmaps/lost" {
			t.Errorf("recorded %+v", seen)
		}
		poller, err := clusters.BeginDelete(t.Context(), group, "mine", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := poller.PollUntilDone(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := kubernetesOf(t, config).CoreV1().ConfigMaps("default").Create(t.Context(), configMap("after"), metav1.CreateOptions{}); err == nil {
			t.Error("the gate leads to a cluster that was deleted")
		}
	})
	t.Run("restart", func(t *testing.T) {
		s.Close()
		s = start(t, dir, real)
		if again := credential(t, s, "prod"); again.Host != config.Host || again.BearerToken != config.BearerToken || string(again.CAData) != string(config.CAData) {
			t.Error("the kubeconfig has changed")
		}
		if _, err := maps.Get(t.Context(), "lost", metav1.GetOptions{}); err != nil {
			t.Errorf("by the old kubeconfig: %v", err)
		}
	})
}
