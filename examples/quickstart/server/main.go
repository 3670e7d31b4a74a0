// Command server scores wines: it serves one model file over the contract of an
// Azure ML scoring container, and is all that is in the quickstart's image.
//
//	GET  /              "Healthy"
//	POST /score         {"data": [[13 numbers], ...]} -> classes and probabilities
//	GET  /swagger.json  the same in OpenAPI 2, with an example
//
// It needs no Python and no base image: the model is standardisation and a
// multinomial logistic regression (MODEL.md says how it was fitted), which is a
// matrix product and a softmax. One file of parameters is read from
// AZUREML_MODEL_DIR at start; a wrong file stops the container before it ever
// says that it is healthy.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// address is where Azure ML's scoring containers listen.
const address = ":5001"

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	if err := start(log); err != nil {
		log.Error("stopped", "error", err.Error())
		os.Exit(1)
	}
}

func start(log *slog.Logger) error {
	dir := os.Getenv("AZUREML_MODEL_DIR")
	if dir == "" {
		return errors.New("AZUREML_MODEL_DIR is not set: it names the folder of the model file")
	}
	m, err := loadModel(dir)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.Info("serving", "model", m.id(), "address", listener.Addr().String())
	return serve(ctx, listener, newHandler(m, log))
}

// serve answers on listener until ctx ends, then lets requests in flight finish:
// Kubernetes sends SIGTERM while the last of them are still being scored.
func serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	// Below Kubernetes' default grace of 30 s, so that we end before it kills us.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}
