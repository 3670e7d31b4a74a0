package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// The fault matrix: the real command, as a process, meets each fault of a column at each
// request of a row. It ends converged, or with the exit code, the reason and the hint that the
// column says; and once the fault is gone, a second run converges. The rows and columns are in
// faults_table_test.go; what takes more than a fault of the sandbox is in faults_kube_test.go.

// faultRow is a request that faults hit: what amlaks does to whom.
type faultRow struct {
	verb, what   string // create, update, delete or read; of what
	service      string // of the sandbox
	method, path string
	before       string       // amlaks.yaml, applied by make before each cell; CELL is the cell's number
	after        string       // that of the run
	make         []string     // default: apply --yes --prune
	lay          func(*world) // what else is done before each cell
	run          []string     // meets the fault
	check        []string     // exits 0 when all is done
	pending      int          // exit code of run where nothing is wrong
	partial      bool         // more than one change: exit code 4 where a single one ends with 1
	skip         []string     // columns that say the same as another here, or nothing
}

// column is a fault, and what becomes of a run that meets it.
type column struct {
	name  string
	fault sandbox.Fault
	verbs string   // c(reate) u(pdate) d(elete) r(ead)
	flags []string // beside the usual ones
	end   end
	said  string // a phrase of its output, however it ends
}

// end is how a run that meets a fault ends.
type end struct {
	code   int // exitOK: converged, in this very run
	reason reconcile.Reason
	hint   string // a phrase
}

var converges = end{}

// hurried are the flags of every run: what fails for ever does so within 12 s, and a request
// that gets no answer is given up after 3. A machine that is busy answers within that.
var hurried = []string{"--request-timeout", "12s"}

// hangs is when a run of the matrix has gone wrong, whatever it met.
const hangs = 100 * time.Second

// bounded is run, and a run that does not end shows where it hangs.
func (w *world) bounded(args ...string) ended {
	w.t.Helper()
	c := w.start(append(append([]string{}, hurried...), args...)...)
	deadline := time.NewTimer(hangs)
	defer deadline.Stop()
	select {
	case <-c.done:
	case <-deadline.C:
		if err := c.signal(syscall.SIGQUIT); err != nil {
			w.t.Error(err)
		}
		got := c.wait()
		w.t.Fatalf("amlaks %s hangs:\n%s%s", strings.Join(args, " "), got.stdout, got.stderr)
	}
	return c.wait()
}

func (w *world) mustBounded(code int, args ...string) {
	w.t.Helper()
	if got := w.bounded(args...); got.code != code {
		w.t.Fatalf("amlaks %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got.code, code, got.stdout, got.stderr)
	}
}

func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("some minutes of waiting for what faults make one wait for")
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, rowsAtATime)
	for peer, matrix := range map[string]struct {
		rows    []faultRow
		columns []column
	}{"arm": {armRows, armColumns}, "registry": {registryRows, registryColumns}, "kube": {kubeRows, kubeColumns}} {
		for _, r := range matrix.rows {
			// Not t.Parallel: that would make rows, which hardly do anything but wait, wait for
			// processors.
			all.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				t.Run(peer+"/"+r.verb+" "+r.what, func(t *testing.T) { r.play(t, matrix.columns) })
			})
		}
	}
	all.Wait()
}

// rowsAtATime is how many rows are played side by side.
const rowsAtATime = 9

// play meets one fault after the other, in a world of its own.
func (r faultRow) play(t *testing.T, columns []column) {
	w, n := newWorld(t), 0
	for _, c := range columns {
		if !strings.Contains(c.verbs, r.verb[:1]) || slices.Contains(r.skip, c.name) {
			continue
		}
		n++
		t.Run(c.name, func(t *testing.T) {
			of := *w
			of.t = t
			meeting{&of, r, c, n}.play()
		})
	}
}

// meeting is one cell of the table, the meeting of a row and a column.
type meeting struct {
	*world
	row    faultRow
	column column
	number int
}

func (c meeting) file(content string) {
	c.t.Helper()
	c.write("amlaks.yaml", strings.ReplaceAll(content, "CELL", strconv.Itoa(c.number)))
}

func (c meeting) play() {
	t := c.t
	if c.row.before != "" {
		c.file(c.row.before)
		make := c.row.make
		if make == nil {
			make = []string{"apply", "--yes", "--prune"}
		}
		c.mustBounded(exitOK, make...)
	}
	if c.row.lay != nil {
		c.row.lay(c.world)
	}
	c.file(c.row.after)
	fault := c.column.fault
	fault.Service, fault.Method, fault.Path = c.row.service, c.row.method, c.row.path
	fault, err := c.Fault(fault)
	if err != nil {
		t.Fatal(err)
	}
	defer c.ClearFaults()
	got := c.bounded(append(append([]string{}, c.words(c.row.run)...), c.column.flags...)...)
	output := got.stdout + got.stderr
	if c.unmet(fault) {
		t.Fatalf("no request met the fault\n%s", output)
	}
	c.ClearFaults()
	want := c.column.end
	code := want.code
	switch {
	case code == exitOK:
		code = c.row.pending
	case code == exitError1 && c.row.partial:
		code = exitPartial
	}
	if got.code != code {
		t.Errorf("exit code %d, want %d", got.code, code)
	}
	said := c.column.said
	if c.row.verb == "read" && c.column.fault.Reset == "before" {
		// net/http itself tries a read again, and says nothing, on another connection that it has
		// kept: how many there are is chance.
		said = ""
	}
	for _, phrase := range []string{said, want.hint} {
		if !strings.Contains(output, phrase) {
			t.Errorf("it does not say %q", phrase)
		}
	}
	if want.reason != "" && !strings.Contains(got.stderr, "\n  reason: "+string(want.reason)+"\n  hint: ") {
		t.Errorf("the reason is not %s, or has no hint", want.reason)
	}
	if want.code != exitOK { // once the fault is gone, it is made good
		if again := c.bounded(c.words(c.row.run)...); again.code != c.row.pending {
			t.Errorf("the second run: exit code %d\n%s%s", again.code, again.stdout, again.stderr)
		}
	}
	if check := c.bounded(c.words(c.row.check)...); check.code != exitOK {
		t.Errorf("not converged: exit code %d\n%s%s", check.code, check.stdout, check.stderr)
	}
	if t.Failed() {
		t.Logf("the run that met the fault:\n%s", output)
	}
}

// words are a command's, with the stack's name put in.
func (c meeting) words(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		out[i] = strings.ReplaceAll(arg, "STACK", c.stack)
	}
	return out
}

// unmet tells whether a fault still waits for its first request.
func (c meeting) unmet(fault sandbox.Fault) bool {
	return slices.ContainsFunc(c.Faults(), func(f sandbox.Fault) bool { return f.ID == fault.ID && f.Count == fault.Count })
}

// dropDeployment takes the service's Deployment away behind amlaks' back.
func dropDeployment(w *world) {
	w.t.Helper()
	now := metav1.DeletePropagationBackground
	deployments := w.kube.AppsV1().Deployments(w.namespace)
	if err := deployments.Delete(w.t.Context(), "churn", metav1.DeleteOptions{PropagationPolicy: &now}); err != nil {
		w.t.Fatal(err)
	}
}

// freshModel gives the service another model, whose image is not in the registry.
func freshModel(w *world) {
	w.t.Helper()
	w.write("model/weights.json", fmt.Sprintf(`{"w": [%d]}`, time.Now().UnixNano()))
}

// destroyed takes away what the last cell made.
func destroyed(w *world) {
	w.t.Helper()
	w.write("amlaks.yaml", faultCluster)
	w.mustBounded(exitOK, "destroy", "--yes", w.stack)
}
