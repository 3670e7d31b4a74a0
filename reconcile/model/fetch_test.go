package model

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
	"github.com/amlaks/amlaks/spec"
)

// The variables by which this program is a process that fetches a model, to be killed.
const (
	childEndpoint = "MODEL_TEST_ENDPOINT"
	childToken    = "MODEL_TEST_TOKEN"
	childCache    = "MODEL_TEST_CACHE"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEndpoint) == "" {
		os.Exit(m.Run())
	}
	c, err := New(token(os.Getenv(childToken)), armOptions(os.Getenv(childEndpoint)), Options{
		SubscriptionID: sandbox.SubscriptionID, ResourceGroup: sandbox.ResourceGroup, Workspace: sandbox.Workspace, CacheDir: os.Getenv(childCache),
	})
	if err == nil {
		_, err = c.Files(context.Background(), churn, quiet)
	}
	fmt.Fprintln(os.Stderr, "the child was not killed:", err)
	os.Exit(1)
}

// ranges is a blob of this many ranges, the last of which is short.
const ranges = 10

func large() []byte { return weights(7, (ranges-1)*rangeSize+12345) }

// isRange tells the reading of a blob's content.
func isRange(r sandbox.Request) bool {
	return r.Service == "blob" && r.Method == http.MethodGet && r.Query["comp"] == nil
}

// A process that is killed with -9 in the middle leaves the ranges that it has, and the next one
// fetches the others. A range that did not reach the disk as it was is not believed.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	const let = 4 // ranges that the child is given
	var given atomic.Int32
	held := make(chan struct{})
	w := start(t, func(r sandbox.Request, at sandbox.Moment) bool {
		if !isRange(r) || at != sandbox.Before || given.Add(1) <= let {
			return true
		}
		<-held // closed when the child is dead
		return true
	})
	content := large()
	w.register("churn", "3", content)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childEndpoint+"="+w.ARMEndpoint(), childToken+"="+w.Token(), childCache+"="+w.cache)
	var said bytes.Buffer
	child.Stderr = &said
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	journal := ""
	eventually(t, func() bool {
		found, err := filepath.Glob(filepath.Join(w.cache, "models", "partial", "*.done"))
		if err != nil || len(found) != 1 {
			return false
		}
		journal = found[0]
		lines, err := os.ReadFile(journal)
		return err == nil && len(strings.Fields(string(lines))) == 2*let
	})
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it says that it was killed
	if said.Len() > 0 {
		t.Fatal(said.String())
	}
	close(held)
	eventually(t, func() bool { // what the child had asked for is over
		n := 0
		for _, r := range w.Requests("blob") {
			if isRange(r) {
				n++
			}
		}
		return n == int(given.Load())
	})

	var index int
	lines, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(lines), &index); err != nil {
		t.Fatal(err)
	}
	spoil(t, strings.TrimSuffix(journal, ".done"), int64(index)*rangeSize+5)
	if err := os.WriteFile(journal, append(lines, "9 0123"...), 0o600); err != nil { // cut off in its last line
		t.Fatal(err)
	}
	w.ClearRequests()
	want(t, files(t, w.client(), churn), content)
	if got := len(w.blobReads()); got != ranges-let+1 {
		t.Errorf("%d ranges fetched after the kill, want the %d that were missing and the one that was spoilt", got, ranges-let)
	}
	left, err := os.ReadDir(filepath.Join(w.cache, "models", "partial"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in partial: %v, %v", left, err)
	}
}

// eventually polls until it holds.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal("it does not come to hold")
		}
	}
}

// spoil turns over one byte of a file.
func spoil(t *testing.T, name string, at int64) {
	t.Helper()
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var b [1]byte
	if _, err := file.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := file.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// A body that breaks off is asked for again, and nothing else is.
func TestBodyBreaksOff(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	content := large()
	w.register("churn", "3", content)
	if _, err := w.Fault(sandbox.Fault{Service: "blob", Method: "GET", Path: "weights.bin", Reset: "middle", Count: 3}); err != nil {
		t.Fatal(err)
	}
	want(t, files(t, w.Client, churn), content)
	cut := 0
	for _, r := range w.Requests("blob") {
		if r.Fault != "" {
			cut++
		}
	}
	if good := len(w.blobReads()); cut != 3 || good != ranges {
		t.Errorf("%d ranges cut and %d whole, want 3 and %d", cut, good, ranges)
	}
}

// damage changes bytes of blobs on their way, as a proxy or a bad cable would.
type damage struct{ left atomic.Int32 }

func (d *damage) Do(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultClient.Do(r)
	if err == nil && strings.HasSuffix(r.URL.Path, "weights.bin") && d.left.Add(-1) >= 0 {
		content, readErr := io.ReadAll(response.Body)
		if readErr != nil {
			return nil, readErr
		}
		content[len(content)/2] ^= 1
		response.Body = io.NopCloser(bytes.NewReader(content))
	}
	return response, err
}

// A range whose content is not what its hash says is fetched again; for ever damaged, it is an
// error, and nothing is kept.
func TestDamagedOnTheWay(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	content := large()
	w.register("churn", "3", content)
	d := &damage{}
	through := func(_ *Options, options *arm.ClientOptions) { options.Transport = d }
	d.left.Store(1000)
	_, err := w.client(through).Files(patient(t), churn, quiet)
	if err == nil || !strings.Contains(err.Error(), "not what its hash says") {
		t.Errorf("damaged for ever: %v", err)
	}
	d.left.Store(2)
	want(t, files(t, w.client(through), churn), content)
}

// blobClient is one of a blob of the workspace's container.
func (w *world) blobClient(name string) *blockblob.Client {
	w.t.Helper()
	options := &azblob.ClientOptions{}
	options.InsecureAllowCredentialWithHTTP = true
	client, err := azblob.NewClient(w.BlobEndpoint()+"/mlprodstorage", token(w.Token()), options)
	if err != nil {
		w.t.Fatal(err)
	}
	return client.ServiceClient().NewContainerClient("azureml-blobstore").NewBlockBlobClient(name)
}

type streaming struct{ *bytes.Reader }

func (streaming) Close() error { return nil }

// A blob that is not what was uploaded is not used.
func TestContentMD5(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.register("churn", "3", []byte("right"))
	weights := w.blobClient("models/churn/3/model/weights.bin")
	if _, err := weights.SetHTTPHeaders(t.Context(), blob.HTTPHeaders{BlobContentMD5: bytes.Repeat([]byte{7}, 16)}, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := w.client().Files(patient(t), churn, quiet)
		if err == nil || !strings.Contains(err.Error(), "Content-MD5 is 0707") || reconcile.HintOf(err) == "" {
			t.Errorf("got %v", err)
		}
	}
	if _, err := weights.Upload(t.Context(), streaming{bytes.NewReader([]byte("right"))}, nil); err != nil {
		t.Fatal(err)
	}
	want(t, files(t, w.client(), churn), []byte("right"))
}

// A blob that is written over while it is read is fetched anew, and never mixed; one that does
// not come to rest is an error that says whose fault it is.
func TestBlobChangesMeanwhile(t *testing.T) {
	t.Parallel()
	var w *world
	var mu sync.Mutex
	changes, seen := 1, 0
	var next []byte
	w = start(t, func(r sandbox.Request, at sandbox.Moment) bool {
		mu.Lock()
		defer mu.Unlock()
		if !isRange(r) || at != sandbox.After || r.Status != http.StatusPartialContent || changes == 0 {
			return true
		}
		if seen++; seen%3 == 0 {
			changes--
			next = weights(uint64(100+seen), len(next))
			if err := w.Import("models/churn/3/model", filepath.Dir(writeTo(t, "weights.bin", next))); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	next = large()
	w.register("churn", "3", next)
	want(t, files(t, w.Client, churn), next)

	if err := os.RemoveAll(w.cache); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	changes = 1000
	mu.Unlock()
	_, err := w.client().Files(patient(t), churn, quiet)
	mu.Lock()
	changes = 0 // a request that was given up may still be served
	mu.Unlock()
	if reconcile.ReasonOf(err) != reconcile.ReasonConflict || !strings.Contains(reconcile.HintOf(err), "register what is new as a new version") {
		t.Errorf("a blob that does not come to rest: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(w.cache, "models", "partial")); err != nil || len(left) > 0 {
		t.Errorf("left of blobs that are no more: %v, %v", left, err)
	}
}

// A process that is killed when it has the whole blob, and has not yet said so, has fetched it.
func TestKilledAtTheEnd(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	content := large()
	w.register("churn", "3", content)
	files(t, w.Client, churn)
	cache := w.Client.cache
	known, err := filepath.Glob(cache.known("*"))
	if err != nil || len(known) != 1 {
		t.Fatal(known, err)
	}
	var journal strings.Builder
	for i := range ranges {
		fmt.Fprintf(&journal, "%d %x\n", i, md5.Sum(content[i*rangeSize:min((i+1)*rangeSize, len(content))]))
	}
	partial := cache.partial(filepath.Base(known[0]))
	if err := errors.Join(os.Remove(known[0]), os.RemoveAll(cache.tree("")), os.WriteFile(partial, content, 0o600),
		os.WriteFile(partial+".done", []byte(journal.String()), 0o600)); err != nil {
		t.Fatal(err)
	}
	w.ClearRequests()
	want(t, files(t, w.client(), churn), content)
	if n := len(w.blobReads()); n != 0 {
		t.Errorf("%d ranges fetched of a blob that is here", n)
	}
}

func writeTo(t *testing.T, name string, content []byte) string {
	return filepath.Join(tree(t, "new", map[string][]byte{name: content}), name)
}

// Interrupted, it says so, and goes on where it was.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int32
	w := start(t, func(r sandbox.Request, at sandbox.Moment) bool {
		if isRange(r) && at == sandbox.After && n.Add(1) == 3 {
			cancel()
		}
		return true
	})
	w.register("churn", "3", large())
	if _, err := w.Files(ctx, churn, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	want(t, files(t, w.client(), churn), large())
}

// Several that want the same model at the same time fetch it once, be they of one process or,
// as the lock of a file does not know the difference, of several.
func TestFetchedOnceBySeveral(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	content := large()
	w.register("churn", "3", content)
	if err := w.RegisterModelURI("twin", "1", "azureml://datastores/workspaceblobstore/paths/models/churn/3/model"); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 6 {
		c := w.Client
		if i%2 == 0 {
			c = w.client()
		}
		m := churn
		if i%3 == 0 {
			m = spec.Model{Name: "twin", Version: "1"}
		}
		group.Go(func() {
			dir, err := c.Files(patient(t), m, quiet)
			if err != nil {
				t.Error(err)
				return
			}
			want(t, read(t, dir), content)
		})
	}
	group.Wait()
	if n := len(w.blobReads()); n != ranges {
		t.Errorf("%d ranges fetched, want %d", n, ranges)
	}
}
