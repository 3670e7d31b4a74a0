package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/amlaks/amlaks/reconcile/source"
)

// metrics are the daemon's own, in a registry of their own.
type metrics struct {
	registry    *prometheus.Registry
	polls       *prometheus.CounterVec // by result: unchanged, changed, invalid, moved, error
	reconciles  *prometheus.CounterVec // by result: ok, failed, unhealthy, invalid, superseded, interrupted
	duration    prometheus.Histogram
	lastSuccess prometheus.Gauge
	revision    *prometheus.GaugeVec
	changes     *prometheus.CounterVec // by action
}

func newMetrics() *metrics {
	const namespace, subsystem = "amlaks", "daemon"
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		registry:   prometheus.NewRegistry(),
		polls:      counter("polls_total", "Polls of git, by result.", "result"),
		reconciles: counter("reconcile_total", "Reconciles, by result.", "result"),
		changes:    counter("changes_total", "Changes carried out, by action.", "action"),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem,
			Name: "reconcile_duration_seconds", Help: "How long reconciles take.",
			// From a look at an unchanged world (0.1 s) to a new AKS cluster (20 min).
			Buckets: []float64{0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1200, 2400}}),
		lastSuccess: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem,
			Name: "last_success_timestamp_seconds", Help: "When a reconcile last ended healthily."}),
		revision: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem,
			Name: "revision_info", Help: "The newest revision seen; always 1."}, []string{"revision"}),
	}
	m.registry.MustRegister(m.polls, m.reconciles, m.changes, m.duration, m.lastSuccess, m.revision,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// newest replaces the revision, so that there is one series and not one a commit.
func (m *metrics) newest(rev source.Revision) {
	m.revision.Reset()
	m.revision.WithLabelValues(rev.Hash).Set(1)
}

func (m *metrics) ended(r *run, result string, now time.Time) {
	m.reconciles.WithLabelValues(result).Inc()
	m.duration.Observe(now.Sub(r.started).Seconds())
	for action, n := range r.outcome.Changes {
		m.changes.WithLabelValues(action).Add(float64(n))
	}
}
