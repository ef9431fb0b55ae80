package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/purserhq/purser"
)

// metrics are what the server tells Prometheus about itself. Labels come from
// closed lists only: no ids, no names, nothing that clients send.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	scans    *prometheus.CounterVec
	running  prometheus.Gauge
	slices   *prometheus.HistogramVec
	listings prometheus.Counter
}

func newMetrics(seals func() int64) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_http_requests_total", Help: "Requests answered, by operation of the API and status.",
		}, []string{"operation", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "purser_http_request_duration_seconds", Help: "Time from a request's arrival to its answer, by operation.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"operation"}),
		scans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "purser_scans_total", Help: "Scans ended on this node, by final state and error code.",
		}, []string{"state", "code"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "purser_scan_slices_running", Help: "Slices of scans that this node works on now.",
		}),
		slices: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "purser_scan_slice_duration_seconds", Help: "Time that slices of scans took on this node, by what became of them.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 20, 30, 40, 60},
		}, []string{"outcome"}),
		listings: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "purser_scan_requests_total", Help: "Requests that scans on this node have sent to stores.",
		}),
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.requests, m.duration, m.scans, m.running, m.slices, m.listings,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "purser_seals_total", Help: "Secrets sealed by this process; a key must be replaced long before 2^32 of them.",
		}, func() float64 { return float64(seals()) }),
	)
	return m
}

// observeRequest counts one request.
func (m *metrics) observeRequest(operation string, status int, duration time.Duration) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(operation).Observe(duration.Seconds())
}

// observeScan counts a scan that this node has ended.
func (m *metrics) observeScan(state purser.ScanState, code string) {
	m.scans.WithLabelValues(string(state), code).Inc()
}

// observeSlice counts a slice that this node has worked on.
func (m *metrics) observeSlice(outcome string, took time.Duration, requests int64) {
	m.running.Dec()
	m.slices.WithLabelValues(outcome).Observe(took.Seconds())
	m.listings.Add(float64(requests))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
