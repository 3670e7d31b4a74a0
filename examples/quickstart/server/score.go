package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// maxBodyBytes bounds a request: about 10,000 rows of 13 numbers.
const maxBodyBytes = 1 << 20

// scoreRequest is v1's wire convention. The numbers are pointers so that a null
// is seen: it would otherwise be scored as 0.
type scoreRequest struct {
	Data [][]*float64 `json:"data"`
}

type scoreResponse struct {
	Predictions   []string    `json:"predictions"`
	Probabilities [][]float64 `json:"probabilities"`
	Model         string      `json:"model"`
}

// handler serves m; log gets one line a request, without the data, which may be
// somebody's.
type handler struct {
	model *model
	log   *slog.Logger
}

func newHandler(m *model, log *slog.Logger) http.Handler {
	h := &handler{model: m, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.healthy)
	mux.HandleFunc("POST /score", h.score)
	mux.HandleFunc("GET /swagger.json", h.swagger)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		mux.ServeHTTP(seen, r)
		log.Info("request", "method", r.Method, "path", r.URL.Path, "status", seen.status,
			"bytes", seen.bytes, "ms", float64(time.Since(begin).Microseconds())/1000)
	})
}

func (h *handler) healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "Healthy") // a probe that hung up needs no answer
}

func (h *handler) score(w http.ResponseWriter, r *http.Request) {
	rows, err := h.rows(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		writeJSON(w, http.StatusRequestEntityTooLarge, map[string]string{
			"error": fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)})
		return
	}
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	answer := scoreResponse{
		Predictions:   make([]string, len(rows)),
		Probabilities: make([][]float64, len(rows)),
		Model:         h.model.id(),
	}
	for i, row := range rows {
		if answer.Predictions[i], answer.Probabilities[i], err = h.model.predict(row); err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": fmt.Sprintf("data[%d]: %v", i, err)})
			return
		}
	}
	writeJSON(w, http.StatusOK, answer)
}

// rows reads and checks a request's body.
func (h *handler) rows(body io.Reader) ([][]float64, error) {
	decoder := json.NewDecoder(body)
	var request scoreRequest
	if err := decoder.Decode(&request); err != nil {
		return nil, fmt.Errorf("the body is not {\"data\": [[...], ...]}: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the body goes on after its JSON")
	}
	if request.Data == nil {
		return nil, errors.New("the body has no \"data\"")
	}
	rows := make([][]float64, len(request.Data))
	for i, row := range request.Data {
		if len(row) != len(h.model.Inputs) {
			return nil, fmt.Errorf("data[%d]: %d numbers, want %d: %q", i, len(row), len(h.model.Inputs), h.model.Inputs)
		}
		rows[i] = make([]float64, len(row))
		for j, x := range row {
			if x == nil {
				return nil, fmt.Errorf("data[%d][%d]: %s is null, want a number", i, j, h.model.Inputs[j])
			}
			rows[i][j] = *x
		}
	}
	return rows, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the status is out; a client that hung up cannot be told
}

// statusWriter remembers what the log line says.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.bytes += n
	return n, err
}
