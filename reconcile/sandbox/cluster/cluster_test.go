package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func architecture() string { return runtime.GOARCH }

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

func testPools() []Pool {
	return []Pool{{Name: "nodepool1", VMSize: "Standard_D4s_v3", Count: 2}}
}

// eventually polls until check gives nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.After(40 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func clientOf(t *testing.T, kubeconfig []byte) kubernetes.Interface {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func deployment(image string) *appsv1.Deployment {
	probe := &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http")}},
		PeriodSeconds: 1,
	}
	secretKey := &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}, Key: "password"}}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	labels := map[string]string{"app": "churn"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "churn"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					AutomountServiceAccountToken:  new(false),
					TerminationGracePeriodSeconds: new(int64(10)),
					SecurityContext:               &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(65532))},
					Volumes: []corev1.Volume{
						{Name: "keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys"}}},
						{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
					},
					Containers: []corev1.Container{{
						Name: "server", Image: image,
						Ports:           []corev1.ContainerPort{{Name: "http", ContainerPort: 5001}},
						SecurityContext: &corev1.SecurityContext{ReadOnlyRootFilesystem: new(true)},
						Env: []corev1.EnvVar{
							{Name: "PASSWORD", ValueFrom: secretKey},
							{Name: "POD_IP", ValueFrom: field("status.podIP")},
							{Name: "POD_NAME", ValueFrom: field("metadata.name")},
							{Name: "NODE_NAME", ValueFrom: field("spec.nodeName")},
						},
						VolumeMounts: []corev1.VolumeMount{
							{Name: "keys", MountPath: "/mnt/secret", ReadOnly: true}, {Name: "scratch", MountPath: "/scratch"},
						},
						StartupProbe: probe, ReadinessProbe: probe, LivenessProbe: probe,
						Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
					}},
				},
			},
		},
	}
}

// readyPods gives the Deployment's pods that are Ready, if they are n.
func readyPods(ctx context.Context, client kubernetes.Interface, n int) ([]corev1.Pod, error) {
	list, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=churn"})
	if err != nil {
		return nil, err
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
				out = append(out, p)
			}
		}
	}
	if len(out) != n || len(list.Items) != n {
		var all []string
		for _, p := range list.Items {
			status, _ := json.Marshal(p.Status)
			all = append(all, fmt.Sprintf("%s deleting=%v %.1500s", p.Name, p.DeletionTimestamp != nil, status))
		}
		return nil, fmt.Errorf("%d of %d pods are ready, want %d:\n%s", len(out), len(list.Items), n, strings.Join(all, "\n"))
	}
	return out, nil
}

func get(address, path string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return string(body), err
}

type report struct {
	UID, GID, PID           int
	Caps                    map[string]string
	Root                    []string
	WriteRoot, WriteScratch string
	SecretEnv, SecretFile   string
	PodIP, Pod, Node        string
	Prepared                string
}

func ask(address string) (report, error) {
	var r report
	body, err := get(address, "/")
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(body), &r)
}

func createApp(t *testing.T, client kubernetes.Interface, image string) {
	t.Helper()
	ctx := t.Context()
	if _, err := client.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "keys"}, StringData: map[string]string{"password": "open sesame"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AppsV1().Deployments("default").Create(ctx, deployment(image), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestCluster(t *testing.T) {
	host, image := pushServer(t)
	file := binary(t)
	began := time.Now()
	c, err := Start(t.Context(), Options{
		Dir: t.TempDir(), Name: "prod", Binary: file, Registry: host, Pools: testPools(), Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	t.Logf("started in %s", time.Since(began))
	client := clientOf(t, c.Kubeconfig())
	began = time.Now()
	createApp(t, client, image)
	eventually(t, "two pods", func() error { _, err := readyPods(t.Context(), client, 2); return err })
	t.Logf("pods ready in %s", time.Since(began))

	t.Run("isolation", func(t *testing.T) { testIsolation(t, client) })
	t.Run("logs", func(t *testing.T) { testLogs(t, client, image) })
	t.Run("secret update", func(t *testing.T) { testSecretUpdate(t, client) })
	t.Run("token", func(t *testing.T) { testToken(t, client, image) })
	t.Run("liveness", func(t *testing.T) { testLiveness(t, client, image) })
	t.Run("init", func(t *testing.T) { testInit(t, client, image) })
	t.Run("replacement", func(t *testing.T) { testReplacement(t, client) })
	t.Run("load balancer", func(t *testing.T) { testLoadBalancer(t, client) })
	t.Run("failures", func(t *testing.T) { testFailures(t, client, host) })
	t.Run("pools", func(t *testing.T) { testPoolChanges(t, c, client, image) })
	t.Run("stop", func(t *testing.T) {
		c.Stop()
		if left := processesOf(t, c.dir); len(left) > 0 {
			t.Errorf("processes left: %q", left)
		}
	})
}

func testIsolation(t *testing.T, client kubernetes.Interface) {
	pods, err := readyPods(t.Context(), client, 2)
	if err != nil {
		t.Fatal(err)
	}
	if pods[0].Status.PodIP == pods[1].Status.PodIP {
		t.Errorf("two pods have the address %s", pods[0].Status.PodIP)
	}
	for _, p := range pods {
		r, err := ask(net.JoinHostPort(p.Status.PodIP, "5001"))
		if err != nil {
			t.Fatal(err)
		}
		if r.UID != 65532 || r.GID != 65532 {
			t.Errorf("runs as %d:%d", r.UID, r.GID)
		}
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			if strings.Trim(r.Caps[set], "0") != "" || r.Caps[set] == "" {
				t.Errorf("%s is %q", set, r.Caps[set])
			}
		}
		if r.Caps["NoNewPrivs"] != "1" {
			t.Errorf("NoNewPrivs is %q", r.Caps["NoNewPrivs"])
		}
		if r.PID != 1 {
			t.Errorf("PID is %d, want 1 of its own namespace", r.PID)
		}
		if !strings.Contains(r.WriteRoot, "read-only file system") {
			t.Errorf("writing to / gave %q", r.WriteRoot)
		}
		if r.WriteScratch != "<nil>" {
			t.Errorf("writing to an emptyDir gave %q", r.WriteScratch)
		}
		if r.SecretEnv != "open sesame" || r.SecretFile != "open sesame" {
			t.Errorf("secret is %q in the environment and %q in the file", r.SecretEnv, r.SecretFile)
		}
		if r.PodIP != p.Status.PodIP || r.Pod != p.Name || r.Node != p.Spec.NodeName {
			t.Errorf("downward API says %+v", r)
		}
		if got := strings.Join(r.Root, " "); got != "dev etc mnt proc scratch server" {
			t.Errorf("the container sees in /: %s", got)
		}
		hostID := hostUser(t, p)
		if hostID == 0 {
			t.Error("the container's process is root on the host")
		}
	}
}

// hostUser is the user that the pod's process has outside of its namespaces.
func hostUser(t *testing.T, p corev1.Pod) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		env, err := os.ReadFile(filepath.Join(d, "environ"))
		if err != nil || !strings.Contains(string(env), "POD_NAME="+p.Name) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(d, "status"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			var uid int
			if _, err := fmt.Sscanf(line, "Uid:\t%d", &uid); err == nil {
				return uid
			}
		}
	}
	t.Fatalf("no process of pod %s", p.Name)
	return 0
}

// processesOf gives the command lines that name the folder, and pods of this process.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range dirs {
		line, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || filepath.Base(d) == fmt.Sprint(os.Getpid()) {
			continue
		}
		if text := string(line); strings.Contains(text, dir) || strings.HasPrefix(text, "pod churn-") {
			out = append(out, strings.ReplaceAll(text, "\x00", " "))
		}
	}
	return out
}

func TestKill(t *testing.T) {
	host, image := pushServer(t)
	dir := t.TempDir()
	file := binary(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimDir+"="+dir, "AMLAKS_TEST_REGISTRY="+host)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the victim said %q: %v", line, err)
	}
	kubeconfig, err := os.ReadFile(filepath.Join(dir, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	client := clientOf(t, kubeconfig)
	createApp(t, client, image)
	var before []corev1.Pod
	eventually(t, "two pods", func() (err error) { before, err = readyPods(t.Context(), client, 2); return err })

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "no process left", func() error {
		if left := processesOf(t, dir); len(left) > 0 {
			return fmt.Errorf("%q", left)
		}
		return nil
	})

	began := time.Now()
	c, err := Start(t.Context(), Options{Dir: dir, Name: "prod", Binary: file, Registry: host, Pools: testPools(), Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	t.Logf("started again in %s", time.Since(began))
	if got := string(c.Kubeconfig()); got != string(kubeconfig) {
		t.Error("the kubeconfig has changed")
	}
	was := map[string]string{}
	for _, p := range before {
		was[p.Name] = p.Status.PodIP
	}
	eventually(t, "the same pods again", func() error {
		pods, err := readyPods(t.Context(), client, 2)
		if err != nil {
			return err
		}
		for _, p := range pods {
			if was[p.Name] != p.Status.PodIP {
				return fmt.Errorf("pod %s has address %s, had %q", p.Name, p.Status.PodIP, was[p.Name])
			}
			if n := p.Status.ContainerStatuses[0].RestartCount; n != 1 {
				return fmt.Errorf("pod %s has %d restarts", p.Name, n)
			}
			r, err := ask(net.JoinHostPort(p.Status.PodIP, "5001"))
			if err != nil {
				return err
			}
			if r.Pod != p.Name {
				return errors.New("another pod answers")
			}
		}
		return nil
	})
}
