package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile/sandbox"
	"github.com/amlaks/amlaks/reconcile/sandbox/cluster"
)

// runAsAmlaks makes this test binary the command itself, so that tests can start it and kill it.
const runAsAmlaks = "AMLAKS_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runAsAmlaks) != "" {
		main()
	}
	code := m.Run()
	if err := shared.end(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// shared is the one control plane behind the clusters of all worlds: to start it takes longer
// than most tests. Namespaces keep the worlds apart.
var shared controlPlane

type controlPlane struct {
	start   sync.Once
	dir     string
	cluster *cluster.Cluster
	client  kubernetes.Interface
	err     error
	worlds  atomic.Int32
}

// running gives the control plane, started by the first caller.
func (c *controlPlane) running(t *testing.T) *controlPlane {
	t.Helper()
	c.start.Do(func() { c.err = c.begin() })
	if c.err != nil {
		t.Fatalf("start the control plane: %v", c.err)
	}
	return c
}

func (c *controlPlane) begin() (err error) {
	ctx := context.Background()
	source, err := filepath.Abs(filepath.Join("..", "..", "testdata", "controlplane"))
	if err != nil {
		return err
	}
	binary, err := cluster.Binary(ctx, source, os.Stderr)
	if err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "amlaks-world-"); err != nil {
		return err
	}
	c.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir: c.dir, Name: "shared", Binary: binary, Hollow: true,
		Pools: []cluster.Pool{{Name: "agents", VMSize: "Standard_D64ds_v5", Count: 4}},
	})
	if err != nil {
		return err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(c.cluster.Kubeconfig())
	if err != nil {
		return err
	}
	config.QPS = -1
	c.client, err = kubernetes.NewForConfig(config)
	return err
}

func (c *controlPlane) end() error {
	if c.cluster != nil {
		c.cluster.Stop()
	}
	if c.dir == "" {
		return nil
	}
	return os.RemoveAll(c.dir)
}

// world is one stack's: an Azure and a registry of its own in this process, a namespace of
// the shared control plane, whose nodes run nothing, and a folder with amlaks.yaml.
type world struct {
	*sandbox.Sandbox
	t         *testing.T
	dir       string
	stack     string // a name that no other world has
	namespace string
	kube      kubernetes.Interface // past the sandbox: unseen by it, and never failing
	cluster   *cluster.Cluster
}

// worldTime is how long Azure's operations take in a world: long enough to be met running.
const worldTime = 50 * time.Millisecond

func newWorld(t *testing.T, options ...func(*sandbox.Options)) *world {
	t.Helper()
	c := shared.running(t)
	w := &world{t: t, dir: t.TempDir(), stack: fmt.Sprintf("w%d", c.worlds.Add(1)), kube: c.client, cluster: c.cluster}
	w.namespace = "amlaks-" + w.stack
	o := sandbox.Options{Dir: filepath.Join(w.dir, "sandbox"), Kubeconfig: c.cluster.Kubeconfig(), OperationTime: worldTime}
	for _, option := range options {
		option(&o)
	}
	var err error
	if w.Sandbox, err = sandbox.Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		w.dropNamespace()
	})
	for name, content := range map[string]string{"model/weights.json": `{"w": [1, 2, 3]}`, "score/server": "#!/bin/false\n", "amlaks-fe": "a front end\n"} {
		w.write(name, content)
	}
	return w
}

// dropNamespace is what becomes of a namespace when its cluster is no more.
func (w *world) dropNamespace() {
	// Its test is over when this is called, and the context of the test with it.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.kube.CoreV1().Namespaces().Delete(ctx, w.namespace, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		w.t.Errorf("delete namespace %s: %v", w.namespace, err)
	}
}

// write puts a file into the world's folder; STACK in it becomes the stack's name.
func (w *world) write(name, content string) {
	w.t.Helper()
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "STACK", w.stack)), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// stackHead begins the amlaks.yaml of a world.
const stackHead = `apiVersion: amlaks.io/v1
name: STACK
workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml-prod, name: ml-prod}
`

// oneService is the smallest stack that has something of everything.
const oneService = stackHead + `clusters:
  - name: prod
    purpose: DevTest
    agentCount: 1
    frontEnd: {port: 8080}
    protect: false
services:
  - name: churn
    cluster: prod
    models: [{name: churn, version: 1, path: ./model}]
    inference: {sourceDirectory: score, command: [./server], baseImage: scratch}
    resources: {cpu: 0.1, memoryInGB: 0.1}
    numReplicas: 1
`

// ended is a run of the command that is over.
type ended struct {
	code           int // -1: killed by a signal
	stdout, stderr string
}

// child is a run of the command that goes on.
type child struct {
	command        *exec.Cmd
	stdout, stderr bytes.Buffer
	done           chan struct{}
	err            error
}

// runLimit is for one run on a machine that is busy with other work; none takes so long.
const runLimit = 2 * time.Minute

// start runs `amlaks ARGS` as a process of its own, in the world's folder.
func (w *world) start(args ...string) *child {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), runLimit)
	c := &child{command: exec.CommandContext(ctx, self, append([]string{"--front-end", filepath.Join(w.dir, "amlaks-fe")}, args...)...), done: make(chan struct{})}
	c.command.Dir, c.command.Stdout, c.command.Stderr = w.dir, &c.stdout, &c.stderr
	c.command.Env = []string{
		runAsAmlaks + "=1", "AMLAKS_ARM_ENDPOINT=" + w.ARMEndpoint(), "AMLAKS_ARM_TOKEN=" + w.Token(),
		"HOME=" + w.dir, "XDG_CACHE_HOME=" + filepath.Join(w.dir, "cache"), "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(),
		"GOGC=400", // a process of a second need not collect its garbage
	}
	if err := c.command.Start(); err != nil {
		cancel()
		w.t.Fatal(err)
	}
	go func() {
		defer close(c.done)
		defer cancel()
		c.err = c.command.Wait()
	}()
	return c
}

// signal sends a signal; one that has ended takes none.
func (c *child) signal(s syscall.Signal) error {
	if err := c.command.Process.Signal(s); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// wait gives how it ended.
func (c *child) wait() ended {
	<-c.done
	return ended{c.command.ProcessState.ExitCode(), c.stdout.String(), c.stderr.String()}
}

// run is `amlaks ARGS` to its end.
func (w *world) run(args ...string) ended {
	w.t.Helper()
	return w.start(args...).wait()
}

// must is run, and the exit code must be the one given.
func (w *world) must(code int, args ...string) ended {
	w.t.Helper()
	got := w.run(args...)
	if got.code != code {
		w.t.Fatalf("amlaks %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got.code, code, got.stdout, got.stderr)
	}
	return got
}

// TestWorld takes a stack through its life in a world.
func TestWorld(t *testing.T) {
	w := newWorld(t)
	w.write("amlaks.yaml", oneService)
	w.must(exitPending, "plan", "--detailed-exitcode")
	w.must(exitOK, "apply", "--yes")
	w.must(exitOK, "plan", "--detailed-exitcode")
	if _, err := w.kube.AppsV1().Deployments(w.namespace).Get(t.Context(), "churn", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	w.ClearRequests()
	w.must(exitOK, "apply", "--yes")
	for _, r := range w.Requests("all") {
		if isWrite(r) {
			t.Errorf("a second apply wrote: %s %s %s", r.Service, r.Method, r.Path)
		}
	}
	w.must(exitOK, "destroy", "--yes", w.stack)
}

// isWrite tells whether a request changes something if it is served.
func isWrite(r sandbox.Request) bool {
	switch {
	case r.Method == "GET", r.Method == "HEAD":
		return false
	case r.Query["dryRun"] != nil:
		return false
	case strings.HasSuffix(strings.ToLower(r.Path), "credential"):
		return false // reading a kubeconfig is a POST in ARM
	}
	return true
}
