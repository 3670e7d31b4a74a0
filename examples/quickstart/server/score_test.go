package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tolerance is how far a probability may be from scikit-learn's.
const tolerance = 1e-9

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// startModel serves a committed version of the model; what it logs goes to log.
func startModel(t *testing.T, version string, log io.Writer) *httptest.Server {
	t.Helper()
	m, err := loadModel(filepath.Join("..", "model", version))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newHandler(m, slog.New(slog.NewJSONHandler(log, nil))))
	t.Cleanup(server.Close)
	return server
}

func post(t *testing.T, url, body string) (int, []byte) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, b
}

// What scikit-learn said about rows it had not seen is what the server says.
func TestScoreEqualsScikitLearn(t *testing.T) {
	var heldout struct {
		Data     json.RawMessage `json:"data"`
		Versions map[string]struct {
			Predictions   []string    `json:"predictions"`
			Probabilities [][]float64 `json:"probabilities"`
		} `json:"versions"`
	}
	readJSON(t, "testdata/heldout.json", &heldout)
	if len(heldout.Versions) != 2 {
		t.Fatalf("%d versions recorded, want 2", len(heldout.Versions))
	}
	for version, want := range heldout.Versions {
		t.Run(version, func(t *testing.T) {
			server := startModel(t, version, io.Discard)
			status, body := post(t, server.URL+"/score", `{"data": `+string(heldout.Data)+`}`)
			if status != http.StatusOK {
				t.Fatalf("status %d: %s", status, body)
			}
			var got scoreResponse
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatal(err)
			}
			if got.Model != "wine:"+version {
				t.Errorf("model %q, want wine:%s", got.Model, version)
			}
			if diff := cmp.Diff(want.Predictions, got.Predictions); diff != "" {
				t.Errorf("predictions (-scikit-learn +server):\n%s", diff)
			}
			near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= tolerance })
			if diff := cmp.Diff(want.Probabilities, got.Probabilities, near); diff != "" {
				t.Errorf("probabilities (-scikit-learn +server):\n%s", diff)
			}
		})
	}
}

// The sample request gives the committed answers: the demo relies on version 2
// correcting one of version 1's.
func TestSampleRequest(t *testing.T) {
	request, err := os.ReadFile("../request.json")
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string][]string
	readJSON(t, "../expected.json", &expected)
	if cmp.Equal(expected["1"], expected["2"]) {
		t.Errorf("both versions answer %v: the sample shows no difference", expected["1"])
	}
	for version, want := range expected {
		server := startModel(t, version, io.Discard)
		_, body := post(t, server.URL+"/score", string(request))
		var got scoreResponse
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if diff := cmp.Diff(want, got.Predictions); diff != "" {
			t.Errorf("version %s (-want +got):\n%s", version, diff)
		}
	}
}

func TestMalformedInput(t *testing.T) {
	server := startModel(t, "2", io.Discard)
	row := func(last string) string { return "[" + strings.Repeat("1,", 12) + last + "]" }
	for name, test := range map[string]struct {
		body   string
		status int
		error  string
	}{
		"empty":          {"", 400, "the body is not"},
		"not JSON":       {"alcohol=12", 400, "the body is not"},
		"not an object":  {"[[1]]", 400, "the body is not"},
		"no data":        {`{"rows": []}`, 400, `no "data"`},
		"text":           {`{"data": [` + row(`"12"`) + `]}`, 400, "the body is not"},
		"null":           {`{"data": [` + row("null") + `]}`, 400, "data[0][12]: proline is null"},
		"short row":      {`{"data": [` + row("1") + `, [1, 2]]}`, 400, "data[1]: 2 numbers, want 13"},
		"null row":       {`{"data": [null]}`, 400, "data[0]: 0 numbers, want 13"},
		"too large to":   {`{"data": [` + row("1e308") + `,[` + strings.Repeat("1e308,", 12) + `-1e308]]}`, 400, "too large to score"},
		"two documents":  {`{"data": []} {"data": []}`, 400, "goes on after"},
		"too long":       {`{"data": [` + strings.Repeat(" ", maxBodyBytes) + `]}`, 413, "larger than 1048576 bytes"},
		"exponent range": {`{"data": [` + row("1e999") + `]}`, 400, "the body is not"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := post(t, server.URL+"/score", test.body)
			var got map[string]string
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatalf("answer %q is no JSON: %v", body, err)
			}
			if status != test.status || !strings.Contains(got["error"], test.error) {
				t.Errorf("got %d %q, want %d with %q", status, got["error"], test.status, test.error)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	server := startModel(t, "1", io.Discard)
	for _, test := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/", 200, "Healthy"},
		{"HEAD", "/", 200, ""},
		{"POST", "/", 405, "Method Not Allowed\n"},
		{"GET", "/score", 405, "Method Not Allowed\n"},
		{"GET", "/else", 404, "404 page not found\n"},
	} {
		request, err := http.NewRequest(test.method, server.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		response.Body.Close()
		if err != nil || response.StatusCode != test.status || string(body) != test.body {
			t.Errorf("%s %s: %d %q %v, want %d %q", test.method, test.path, response.StatusCode, body, err, test.status, test.body)
		}
	}
}

// A client can send the document's example back as it is.
func TestSwaggerExampleScores(t *testing.T) {
	server := startModel(t, "2", io.Discard)
	response, err := http.Get(server.URL + "/swagger.json")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var document struct {
		Swagger     string                     `json:"swagger"`
		Paths       map[string]json.RawMessage `json:"paths"`
		Definitions map[string]struct {
			Example json.RawMessage `json:"example"`
		} `json:"definitions"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&document); err != nil {
		t.Fatal(err)
	}
	if document.Swagger != "2.0" || document.Paths["/score"] == nil {
		t.Errorf("swagger %q, paths %v", document.Swagger, document.Paths)
	}
	status, body := post(t, server.URL+"/score", string(document.Definitions["ServiceInput"].Example))
	if status != http.StatusOK {
		t.Errorf("the example scores with %d: %s", status, body)
	}
}

func TestLogHasNoData(t *testing.T) {
	var log bytes.Buffer
	server := startModel(t, "2", &log)
	request := `{"data": [[` + strings.Repeat("73.5,", 12) + `73.5]]}`
	if status, body := post(t, server.URL+"/score", request); status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	server.Close() // ends the handler, and with it the writes to log
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("want one line of JSON, got %q: %v", log.String(), err)
	}
	if line["path"] != "/score" || line["status"] != 200.0 || strings.Contains(log.String(), "73.5") {
		t.Errorf("log line %s", log.String())
	}
}
