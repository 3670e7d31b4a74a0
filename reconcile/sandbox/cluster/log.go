package cluster

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/klog/v2"
)

// withLog gives a context in which client-go's informers and events tell their
// errors to logf and not to this process' standard error. What is no error is
// dropped: each component's own log has more of it.
func withLog(ctx context.Context, logf func(string, ...any)) context.Context {
	return klog.NewContext(ctx, klog.New(logSink{logf: logf}))
}

// logSink is where klog's lines go.
type logSink struct {
	logf   func(string, ...any)
	values []any
}

func (s logSink) Init(klog.RuntimeInfo) {}

func (s logSink) Enabled(int) bool { return false }

func (s logSink) Info(int, string, ...any) {}

func (s logSink) Error(err error, message string, values ...any) {
	var line strings.Builder
	line.WriteString(message)
	if err != nil {
		fmt.Fprintf(&line, ": %v", err)
	}
	all := append(s.values[:len(s.values):len(s.values)], values...)
	for i := 0; i+1 < len(all); i += 2 {
		fmt.Fprintf(&line, " %v=%v", all[i], all[i+1])
	}
	s.logf("%s", line.String())
}

func (s logSink) WithValues(values ...any) klog.LogSink {
	s.values = append(s.values[:len(s.values):len(s.values)], values...)
	return s
}

func (s logSink) WithName(string) klog.LogSink { return s }
