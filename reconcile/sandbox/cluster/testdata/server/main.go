// Command server is what the tests run in pods: it answers with who it is and
// what it may do.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "crash" {
		fmt.Println("crashing as told")
		os.Exit(3)
	}
	if len(os.Args) > 2 && os.Args[1] == "init" {
		os.Exit(prepare(os.Args[2]))
	}
	fmt.Println("starting as", os.Getenv("HOSTNAME"))
	host := ""
	if len(os.Args) > 1 && os.Args[1] == "own-address" {
		host = os.Getenv("POD_IP")
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		secret, _ := os.ReadFile("/mnt/secret/password")
		writeRoot := os.WriteFile("/written", nil, 0o600)
		writeScratch := os.WriteFile("/scratch/written", nil, 0o600)
		status, _ := os.ReadFile("/proc/self/status")
		order, _ := os.ReadFile(prepared)
		caps := map[string]string{}
		for line := range strings.Lines(string(status)) {
			if k, v, ok := strings.Cut(line, ":"); ok && (strings.HasPrefix(k, "Cap") || k == "NoNewPrivs") {
				caps[k] = strings.TrimSpace(v)
			}
		}
		var seen []string
		if entries, err := os.ReadDir("/"); err == nil {
			for _, e := range entries {
				seen = append(seen, e.Name())
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"uid": os.Getuid(), "gid": os.Getgid(), "pid": os.Getpid(), "caps": caps, "root": seen,
			"writeRoot": fmt.Sprint(writeRoot), "writeScratch": fmt.Sprint(writeScratch),
			"secretEnv": os.Getenv("PASSWORD"), "secretFile": string(secret),
			"podIP": os.Getenv("POD_IP"), "pod": os.Getenv("POD_NAME"), "node": os.Getenv("NODE_NAME"),
			"prepared": string(order),
		})
	})
	var sick atomic.Bool
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	http.HandleFunc("/sicken", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	// ask calls the API server with the pod's own token.
	http.HandleFunc("/ask", ask)
	http.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { fmt.Println("exiting as told"); os.Exit(7) })
	l, err := net.Listen("tcp", net.JoinHostPort(host, "5001"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() { _ = http.Serve(l, nil) }()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	fmt.Println("asked to end")
	time.Sleep(50 * time.Millisecond)
}

const prepared = "/scratch/prepared"

// prepare is what init containers do: each adds its name to a file. The one
// named flaky fails once.
func prepare(name string) int {
	if name == "flaky" {
		once, err := os.OpenFile("/scratch/flaky", os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			once.Close()
			return 4
		}
	}
	f, err := os.OpenFile(prepared, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer f.Close()
	fmt.Fprintln(f, name)
	return 0
}
