package cluster

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/klog/v2"
)

// Errors of client-go go where the cluster's other lines go; its remarks do not.
func TestWithLog(t *testing.T) {
	var lines []string
	ctx := withLog(t.Context(), func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) })
	log := klog.FromContext(ctx)
	log.Info("watch ended", "type", "Pod")
	log.WithName("reflector").WithValues("type", "Pod").Error(errors.New("100% refused"), "cannot list", "again", 3)
	log.Error(nil, "cannot write")
	if diff := cmp.Diff([]string{"cannot list: 100% refused type=Pod again=3", "cannot write"}, lines); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
