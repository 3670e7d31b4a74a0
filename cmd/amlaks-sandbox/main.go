// Command amlaks-sandbox runs an Azure of one's own on loopback: Resource Manager, registry,
// blob store, git server and real Kubernetes. See package reconcile/sandbox.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster"
)

func main() {
	cluster.MaybeRunContainer() // a pod's process is this program again
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "amlaks-sandbox:", err)
		os.Exit(1)
	}
}
