package kube

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox/cluster"
)

// pods is a control plane with hollow nodes, seen past what is tested.
type pods struct {
	t      *testing.T
	client kubernetes.Interface
}

func (p pods) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// eventually waits for what may take a moment.
func (p pods) eventually(what string, done func() (bool, error)) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := done()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("%s: %v", what, err)
		case <-ticker.C:
		}
	}
}

func template(labels map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.invalid/nothing:1"}}},
	}
}

func (p pods) deploy(namespace, name string, replicas int32, labels map[string]string) {
	p.t.Helper()
	_, err := p.client.AppsV1().Deployments(namespace).Create(p.t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels),
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1))}}},
	}, metav1.CreateOptions{})
	p.must(err)
	p.eventually(name+" is available", func() (bool, error) {
		d, err := p.client.AppsV1().Deployments(namespace).Get(p.t.Context(), name, metav1.GetOptions{})
		return err == nil && d.Status.AvailableReplicas == replicas, err
	})
}

// on lists the pods of a pool's nodes, NAMESPACE/LABEL app, sorted by the API server.
func (p pods) on(pool string) []string {
	p.t.Helper()
	all, err := p.client.CoreV1().Pods("").List(p.t.Context(), metav1.ListOptions{})
	p.must(err)
	var names []string
	for _, pod := range all.Items {
		if strings.HasPrefix(pod.Spec.NodeName, "aks-"+pool+"-") {
			names = append(names, pod.Namespace+"/"+pod.Labels["app"])
		}
	}
	return names
}

// cordons are the names of the cordoned nodes of a pool.
func (p pods) cordons(pool string) int {
	p.t.Helper()
	nodes, err := p.client.CoreV1().Nodes().List(p.t.Context(), metav1.ListOptions{LabelSelector: labelPool + "=" + pool})
	p.must(err)
	n := 0
	for _, node := range nodes.Items {
		if node.Spec.Unschedulable {
			n++
		}
	}
	return n
}

// neverWithout watches the Ready pods of a namespace, and fails when there is none.
func (p pods) neverWithout(namespace string) (end func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	watch, err := p.client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{})
	p.must(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ready := map[types.UID]bool{}
		for event := range watch.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			before := len(ready)
			delete(ready, pod.UID)
			if event.Type != "DELETED" && pod.DeletionTimestamp == nil && podReady(pod) {
				ready[pod.UID] = true
			}
			if before > 0 && len(ready) == 0 {
				p.t.Errorf("namespace %s has no Ready pod", namespace)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// TestDrain empties nodes under a real API server: budgets are honoured and named, the
// stack's own services have no gap, and what is cut short goes on.
func TestDrain(t *testing.T) {
	t.Parallel()
	binary, err := cluster.Binary(t.Context(), "", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	old := cluster.Pool{Name: "agents", VMSize: "Standard_D4ds_v5", Count: 2}
	successor := cluster.Pool{Name: "agentsr", VMSize: "Standard_D8ds_v5", Count: 2}
	c, err := cluster.Start(t.Context(), cluster.Options{Dir: t.TempDir(), Name: "prod", Binary: binary, Pools: []cluster.Pool{old}, Hollow: true, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	config, err := clientcmd.RESTConfigFromKubeConfig(c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	p, kubeconfig := pods{t, client}, string(c.Kubeconfig())
	fresh := func() *Nodes {
		n := NewNodes("churn", false)
		n.every = 50 * time.Millisecond
		return n
	}
	for _, name := range []string{"amlaks-churn", "others"} {
		_, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		p.must(err)
	}
	p.deploy("amlaks-churn", "churn", 1, map[string]string{"app": "churn", LabelStack: "churn"})
	p.deploy("others", "web", 2, map[string]string{"app": "web"})
	daemon := map[string]string{"app": "daemon"}
	_, err = client.AppsV1().DaemonSets("others").Create(t.Context(), &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "daemon"},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: daemon}, Template: template(daemon)}}, metav1.CreateOptions{})
	p.must(err)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "always-two"}, Spec: policyv1.PodDisruptionBudgetSpec{
		MinAvailable: new(intstr.FromInt32(2)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
	_, err = client.PolicyV1().PodDisruptionBudgets("others").Create(t.Context(), budget, metav1.CreateOptions{})
	p.must(err)
	p.eventually("the budget is known", func() (bool, error) {
		b, err := client.PolicyV1().PodDisruptionBudgets("others").Get(t.Context(), "always-two", metav1.GetOptions{})
		return err == nil && b.Status.ExpectedPods == 2 && b.Status.CurrentHealthy == 2, err
	})

	t.Run("a pod without a controller", func(t *testing.T) {
		alone := template(map[string]string{"app": "alone"})
		_, err := client.CoreV1().Pods("others").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "alone"}, Spec: alone.Spec}, metav1.CreateOptions{})
		p.must(err)
		p.eventually("it has a node", func() (bool, error) {
			pod, err := client.CoreV1().Pods("others").Get(t.Context(), "alone", metav1.GetOptions{})
			return err == nil && pod.Spec.NodeName != "", err
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err = fresh().Drain(ctx, kubeconfig, []string{"agents"}, func(string) {})
		if reconcile.ReasonOf(err) != reconcile.ReasonEvictionBlocked || !strings.Contains(err.Error(), "others/alone") {
			t.Errorf("error %v, reason %q", err, reconcile.ReasonOf(err))
		}
		if n := p.cordons("agents"); n != 0 {
			t.Errorf("%d nodes were cordoned all the same", n)
		}
		p.must(client.CoreV1().Pods("others").Delete(t.Context(), "alone", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}))
		p.eventually("it is gone", func() (bool, error) {
			_, err := client.CoreV1().Pods("others").Get(t.Context(), "alone", metav1.GetOptions{})
			return err != nil, nil
		})
	})

	p.must(c.SetPools(t.Context(), []cluster.Pool{old, successor}))
	p.must(fresh().WaitReady(t.Context(), kubeconfig, "agentsr", 2, func(string) {}))

	t.Run("too few nodes", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		said := ""
		err := fresh().WaitReady(ctx, kubeconfig, "agentsr", 3, func(message string) { said = message })
		if reconcile.ReasonOf(err) != reconcile.ReasonNotHealthy || said != "waiting for nodes: 2 of the 3 nodes of pool agentsr are ready" {
			t.Errorf("error %v, said %q", err, said)
		}
	})

	end := p.neverWithout("amlaks-churn")
	t.Run("a budget that allows nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var said []string
		err := fresh().Drain(ctx, kubeconfig, []string{"agents"}, func(message string) {
			if said = append(said, message); strings.Contains(message, "always-two") && len(p.on("agentsr")) >= 3 { // its daemons, and churn
				cancel()
			}
		})
		if reconcile.ReasonOf(err) != reconcile.ReasonEvictionBlocked || !strings.Contains(err.Error(), "pod others/web-") ||
			!strings.Contains(err.Error(), "The disruption budget always-two needs 2 healthy pods and has 2 currently") || reconcile.HintOf(err) == "" {
			t.Errorf("error %v, reason %q", err, reconcile.ReasonOf(err))
		}
		if n := p.cordons("agents"); n != 2 {
			t.Errorf("%d nodes are cordoned, want 2\n%s", n, strings.Join(said, "\n"))
		}
		done, all, err := NewNodes("churn", true).Drained(t.Context(), kubeconfig, []string{"agents"})
		if err != nil || all != 2 || done == 2 {
			t.Errorf("Drained: %d of %d, %v", done, all, err)
		}
		if err := NewNodes("churn", true).Drain(t.Context(), kubeconfig, []string{"agentsr"}, func(string) {}); err == nil || p.cordons("agentsr") != 0 {
			t.Errorf("a reading run drains: %v", err)
		}
	})

	t.Run("until the budget is lifted", func(t *testing.T) {
		lifted := false
		err := fresh().Drain(t.Context(), kubeconfig, []string{"agents"}, func(message string) {
			if strings.Contains(message, "always-two") && !lifted {
				lifted = true
				_, err := client.PolicyV1().PodDisruptionBudgets("others").Patch(t.Context(), "always-two", types.MergePatchType, []byte(`{"spec":{"minAvailable":1}}`), metav1.PatchOptions{})
				p.must(err)
			}
		})
		p.must(err)
		if !lifted {
			t.Error("the budget was not named")
		}
		if got := fmt.Sprint(p.on("agents")); got != "[others/daemon others/daemon]" {
			t.Errorf("left on the old nodes: %s", got)
		}
		if done, all, err := fresh().Drained(t.Context(), kubeconfig, []string{"agents"}); done != 2 || all != 2 || err != nil {
			t.Errorf("Drained: %d of %d, %v", done, all, err)
		}
	})
	end()

	t.Run("back", func(t *testing.T) {
		nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: labelPool + "=agents"})
		p.must(err)
		// As if somebody else had cordoned one.
		_, err = client.CoreV1().Nodes().Patch(t.Context(), nodes.Items[0].Name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+cordoned+`":null}}}`), metav1.PatchOptions{})
		p.must(err)
		p.must(fresh().WaitReady(t.Context(), kubeconfig, "agents", 1, func(string) {}))
		if n := p.cordons("agents"); n != 1 {
			t.Errorf("%d nodes are cordoned, want the one that is not ours", n)
		}
	})
}
