package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

func logsOf(t *testing.T, client kubernetes.Interface, pod string, o *corev1.PodLogOptions) (string, error) {
	t.Helper()
	body, err := client.CoreV1().Pods("default").GetLogs(pod, o).DoRaw(t.Context())
	return string(body), err
}

// simplePod is a pod with one container of the test's server.
func simplePod(name, image string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken:  new(false),
			TerminationGracePeriodSeconds: new(int64(5)),
			Containers:                    []corev1.Container{{Name: "server", Image: image, Args: args}},
		},
	}
}

func create(t *testing.T, client kubernetes.Interface, pod *corev1.Pod) {
	t.Helper()
	pods := client.CoreV1().Pods("default")
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// remove deletes the pod and waits until it is gone.
func remove(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	pods := client.CoreV1().Pods("default")
	if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pod "+name+" gone", func() error {
		_, err := pods.Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there: %v", err)
	})
}

func testLogs(t *testing.T, client kubernetes.Interface, image string) {
	pods, err := readyPods(t.Context(), client, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := "starting as " + pods[0].Name + "\n"
	got, err := logsOf(t, client, pods[0].Name, &corev1.PodLogOptions{TailLines: new(int64(1))})
	if err != nil || got != want {
		t.Errorf("logs are %q, %v; want %q", got, err, want)
	}
	if _, err := logsOf(t, client, pods[0].Name, &corev1.PodLogOptions{Previous: true}); err == nil {
		t.Error("a container that has run once has previous logs")
	}

	create(t, client, simplePod("crash", image, "crash"))
	eventually(t, "the crashing pod restarted", func() error {
		p, err := client.CoreV1().Pods("default").Get(t.Context(), "crash", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, s := range p.Status.ContainerStatuses {
			last := s.LastTerminationState.Terminated
			if s.RestartCount > 0 && last != nil && last.ExitCode == 3 && s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff" {
				return nil
			}
		}
		return fmt.Errorf("status %+v", p.Status.ContainerStatuses)
	})
	got, err = logsOf(t, client, "crash", &corev1.PodLogOptions{Previous: true})
	if err != nil || got != "crashing as told\n" {
		t.Errorf("previous logs are %q, %v", got, err)
	}
	remove(t, client, "crash")

	create(t, client, simplePod("followed", image))
	eventually(t, "the followed pod runs", func() error {
		p, err := client.CoreV1().Pods("default").Get(t.Context(), "followed", metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("it is %s", p.Status.Phase)
		}
		return err
	})
	stream, err := client.CoreV1().Pods("default").GetLogs("followed", &corev1.PodLogOptions{Follow: true}).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	lines := bufio.NewReader(stream)
	if line, err := lines.ReadString('\n'); err != nil || line != "starting as followed\n" {
		t.Errorf("first line followed is %q, %v", line, err)
	}
	began := time.Now()
	remove(t, client, "followed")
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("a pod that ends when asked took %s to go", took)
	}
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != "asked to end\n" {
		t.Errorf("the rest followed is %q, %v", rest, err)
	}
}

func testSecretUpdate(t *testing.T, client kubernetes.Interface) {
	_, err := client.CoreV1().Secrets("default").Patch(t.Context(), "keys", types.MergePatchType,
		[]byte(`{"stringData":{"password":"another"}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := readyPods(t.Context(), client, 2)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the volume shows the new secret", func() error {
		r, err := ask(net.JoinHostPort(pods[0].Status.PodIP, "5001"))
		if err == nil && r.SecretFile != "another" {
			err = fmt.Errorf("it shows %q", r.SecretFile)
		}
		return err
	})
}

// A pod with a token runs in the machine's network, reaches the API server
// and proves who it is.
func testToken(t *testing.T, client kubernetes.Interface, image string) {
	pod := simplePod("frontend", image, "own-address")
	pod.Spec.AutomountServiceAccountToken = nil
	pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}
	create(t, client, pod)
	eventually(t, "the API server knows the pod", func() error {
		p, err := client.CoreV1().Pods("default").Get(t.Context(), "frontend", metav1.GetOptions{})
		if err != nil {
			return err
		}
		body, err := get(net.JoinHostPort(p.Status.PodIP, "5001"), "/ask")
		if err == nil && !strings.Contains(body, "system:serviceaccount:default:default") {
			err = errors.New(body)
		}
		return err
	})
	remove(t, client, "frontend")
}

func testReplacement(t *testing.T, client kubernetes.Interface) {
	pods, err := readyPods(t.Context(), client, 2)
	if err != nil {
		t.Fatal(err)
	}
	remove(t, client, pods[0].Name)
	eventually(t, "a new pod", func() error {
		_, err := readyPods(t.Context(), client, 2)
		return err
	})
	// One that ends by itself is started again in place.
	pods, err = readyPods(t.Context(), client, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = get(net.JoinHostPort(pods[0].Status.PodIP, "5001"), "/exit") // it dies before it answers
	eventually(t, "the container again", func() error {
		p, err := client.CoreV1().Pods("default").Get(t.Context(), pods[0].Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s := p.Status.ContainerStatuses[0]
		last := s.LastTerminationState.Terminated
		if !s.Ready || s.RestartCount != 1 || last == nil || last.ExitCode != 7 {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
}

func testLoadBalancer(t *testing.T, client kubernetes.Interface) {
	services := client.CoreV1().Services("default")
	_, err := services.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "churn"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "churn"},
			Ports: []corev1.ServicePort{{Port: 8080, TargetPort: intstr.FromString("http")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var address string
	answered := map[string]bool{}
	eventually(t, "both pods answer", func() error {
		s, err := services.Get(t.Context(), "churn", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(s.Status.LoadBalancer.Ingress) != 1 {
			return errors.New("no address")
		}
		address = net.JoinHostPort(s.Status.LoadBalancer.Ingress[0].IP, "8080")
		r, err := ask(address)
		if err != nil {
			return err
		}
		if answered[r.Pod] = true; len(answered) < 2 {
			return fmt.Errorf("answers: %v", answered)
		}
		return nil
	})
	if err := services.Delete(t.Context(), "churn", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the address is gone", func() error {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return errors.New("still answers")
		}
		return nil
	})
}

func testFailures(t *testing.T, client kubernetes.Interface, registry string) {
	create(t, client, simplePod("absent", registry+"/server@sha256:"+strings.Repeat("0", 64)))
	seen := map[string]bool{}
	eventually(t, "a failed pull is told", func() error {
		p, err := client.CoreV1().Pods("default").Get(t.Context(), "absent", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, s := range p.Status.ContainerStatuses {
			if w := s.State.Waiting; w != nil && strings.Contains(w.Message, "MANIFEST_UNKNOWN") {
				seen[w.Reason] = true
			}
		}
		if !seen["ErrImagePull"] || !seen["ImagePullBackOff"] {
			return fmt.Errorf("seen %v, status %+v", seen, p.Status.ContainerStatuses)
		}
		return nil
	})
	remove(t, client, "absent")
}

func testPoolChanges(t *testing.T, c *Cluster, client kubernetes.Interface, image string) {
	unschedulable := func(name string) {
		t.Helper()
		eventually(t, name+" is unschedulable", func() error {
			p, err := client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, cond := range p.Status.Conditions {
				if cond.Type == corev1.PodScheduled && cond.Reason == corev1.PodReasonUnschedulable {
					return nil
				}
			}
			return fmt.Errorf("status %+v", p.Status)
		})
	}
	big := simplePod("big", image)
	big.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
	create(t, client, big)
	unschedulable("big")
	remove(t, client, "big")

	gpu := simplePod("gpu", image)
	gpu.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
	create(t, client, gpu)
	unschedulable("gpu")
	pools := append(testPools(), Pool{Name: "gpu", VMSize: "Standard_NC4as_T4_v3", Count: 1})
	if err := c.SetPools(t.Context(), pools); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the GPU pod runs", func() error {
		p, err := client.CoreV1().Pods("default").Get(t.Context(), "gpu", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.Status.Phase != corev1.PodRunning || p.Spec.NodeName != "aks-gpu-00000000-vmss000000" {
			return fmt.Errorf("%s on %q", p.Status.Phase, p.Spec.NodeName)
		}
		return nil
	})
	if err := c.SetPools(t.Context(), []Pool{{Name: "nodepool1", VMSize: "Standard_D4s_v3", Count: 1}}); err != nil {
		t.Fatal(err)
	}
	nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) != 1 || nodes.Items[0].Name != "aks-nodepool1-00000000-vmss000000" {
		t.Errorf("nodes are %v", nodes.Items)
	}
	if _, err := client.CoreV1().Pods("default").Get(t.Context(), "gpu", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the GPU node's pod is still there: %v", err)
	}
	eventually(t, "both pods on the one node", func() error {
		_, err := readyPods(t.Context(), client, 2)
		return err
	})
}
