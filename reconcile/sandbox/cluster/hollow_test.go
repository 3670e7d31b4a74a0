package cluster

import (
	"context"
	"fmt"
	"net"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// available waits until a Deployment has exactly n pods, all of them Ready.
func available(t *testing.T, client kubernetes.Interface, name string, n int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d pods of %s", n, name), func() error {
		d, err := client.AppsV1().Deployments("default").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		if d.Status.AvailableReplicas != n || d.Status.UpdatedReplicas != n || len(pods.Items) != int(n) {
			return fmt.Errorf("%d available, %d updated, %d pods", d.Status.AvailableReplicas, d.Status.UpdatedReplicas, len(pods.Items))
		}
		return nil
	})
}

// TestHollow has Deployments of an image that does not exist become available, and restarts
// the API server under them.
func TestHollow(t *testing.T) {
	c, err := Start(t.Context(), Options{Dir: t.TempDir(), Name: "prod", Binary: binary(t), Pools: testPools(), Hollow: true, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	client := clientOf(t, c.Kubeconfig())
	want := deployment("registry.invalid/nothing:1")
	want.Spec.Template.Spec.Volumes[0].Secret.Optional = new(true)
	if _, err := client.AppsV1().Deployments("default").Create(t.Context(), want, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	available(t, client, "churn", 2)
	scale := func(n int32) error {
		_, err := client.AppsV1().Deployments("default").UpdateScale(t.Context(), "churn", &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: "churn", Namespace: "default"}, Spec: autoscalingv1.ScaleSpec{Replicas: n},
		}, metav1.UpdateOptions{})
		return err
	}
	if err := scale(1); err != nil {
		t.Fatal(err)
	}
	available(t, client, "churn", 1)
	pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	logs, err := client.CoreV1().Pods("default").GetLogs(pods.Items[0].Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil || len(logs) != 0 {
		t.Errorf("logs %q, %v", logs, err)
	}

	before := connect(t, c)
	if err := c.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := before.Read(make([]byte, 1)); err == nil {
		t.Error("the connection to the API server that was killed still answers")
	}
	if err := scale(3); err != nil {
		t.Fatal(err)
	}
	available(t, client, "churn", 3)
}

// connect opens a connection to the API server, and says nothing.
func connect(t *testing.T, c *Cluster) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(context.WithoutCancel(t.Context()), "tcp", c.state.endpoint(portAPIServer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
