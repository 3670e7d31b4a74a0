package front

import (
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/amlaks/amlaks/cmd/amlaks-fe/internal/queue"
)

// metrics are a front end's. A forwarded request is counted by the front end
// that answers it, so that the sum over front ends counts each once.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	queued   *prometheus.HistogramVec
	rejected *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, s *Server, version string) *metrics {
	buckets := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	waits := append([]float64{.0005, .001, .0025}, buckets...)
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "amlaks_requests_total", Help: "Answered requests."}, []string{"service", "version", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "amlaks_request_duration_seconds", Help: "From the request's header to the answer's end.", Buckets: buckets}, []string{"service", "version"}),
		queued:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "amlaks_queue_duration_seconds", Help: "Wait for a free replica.", Buckets: waits}, []string{"service", "version"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "amlaks_rejected_total", Help: "Requests the front end answered itself."}, []string{"service", "reason"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "amlaks_build_info", Help: "1.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()}})
	build.Set(1)
	r.MustRegister(m.requests, m.duration, m.queued, m.rejected, build, &gauges{server: s})
	return m
}

// gauges are read from the queues when they are scraped.
type gauges struct{ server *Server }

var (
	inFlightDesc = prometheus.NewDesc("amlaks_inflight_requests", "Requests at replicas.", []string{"service", "version"}, nil)
	waitingDesc  = prometheus.NewDesc("amlaks_queued_requests", "Requests that wait for a replica.", []string{"service", "version"}, nil)
	replicasDesc = prometheus.NewDesc("amlaks_replicas", "Replicas by state.", []string{"service", "version", "state"}, nil)
)

func (g *gauges) Describe(c chan<- *prometheus.Desc) {
	c <- inFlightDesc
	c <- waitingDesc
	c <- replicasDesc
}

func (g *gauges) Collect(c chan<- prometheus.Metric) {
	g.server.each(func(service, version string, q *queue.Queue) {
		stats, inFlight := q.Stats(), 0
		for _, n := range stats.InFlight {
			inFlight += n
		}
		c <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(inFlight), service, version)
		c <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(stats.Waiting), service, version)
		c <- prometheus.MustNewConstMetric(replicasDesc, prometheus.GaugeValue, float64(stats.Ready), service, version, "ready")
	})
}

// recorder remembers what the access log tells of the answer.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if status >= 200 && r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// record counts the request and writes its line of the access log: no query,
// no header, no body.
func (s *Server) record(x *exchange, w *recorder, r *http.Request) {
	took := time.Since(x.start)
	service, version := "", "" // unknown names are not made label values: anyone can invent them
	if x.service != nil {
		service, version = x.service.Name, x.service.Versions[x.version].Name
	}
	if x.forwarded == "" || x.reason != "" {
		s.metrics.requests.WithLabelValues(service, version, strconv.Itoa(w.status)).Inc()
		s.metrics.duration.WithLabelValues(service, version).Observe(took.Seconds())
		if x.reason != "" && x.reason != "model_error" {
			s.metrics.rejected.WithLabelValues(service, x.reason).Inc()
		}
		if x.bound {
			s.metrics.queued.WithLabelValues(service, version).Observe(x.queued.Seconds())
		}
	}
	attrs := []slog.Attr{
		slog.String("id", x.requestID), slog.String("method", r.Method), slog.String("service", service), slog.String("version", version),
		slog.Int("status", w.status), slog.Float64("ms", took.Seconds()*1000), slog.Float64("queueMs", x.queued.Seconds()*1000), slog.Int64("bytes", w.bytes),
	}
	for _, a := range []slog.Attr{slog.String("replica", x.replica), slog.String("forwarded", x.forwarded), slog.String("reason", x.reason)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	s.config.Log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}
