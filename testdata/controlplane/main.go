// Command controlplane is Kubernetes' own control plane in one binary: etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler, each started by
// naming it as the first argument and given that component's own flags:
//
//	controlplane kube-apiserver --etcd-servers=http://127.0.0.1:2379 ...
//
// It is a module of its own, so that nothing of k8s.io/kubernetes reaches the
// go.mod of amlaks, and one main package, so that one link serves all four.
// The sandbox builds it once and keeps it in the user's cache folder.
//
// One thing differs from what Kubernetes ships: addresses in 127.0.0.0/8 are
// valid endpoints; see allowLoopbackEndpoints.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	netutils "k8s.io/utils/net"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: controlplane etcd|kube-apiserver|kube-controller-manager|kube-scheduler [flags]")
		os.Exit(2)
	}
	component := os.Args[1]
	// Each component parses os.Args itself, so the subcommand is taken out.
	os.Args = slices.Delete(os.Args, 1, 2)
	switch component {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		allowLoopbackEndpoints()
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case "kube-scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	default:
		fmt.Fprintf(os.Stderr, "controlplane: unknown component %q\n", component)
		os.Exit(2)
	}
}

// allowLoopbackEndpoints makes the API server take EndpointSlices whose
// addresses are in 127.0.0.0/8. Kubernetes refuses them, as on another machine
// they would mean that machine; the sandbox's pods have no other addresses, and
// there is no other machine. The one function that refuses them parses the
// address through a variable, so that function alone is shown a different one.
func allowLoopbackEndpoints() {
	const refuses = "k8s.io/kubernetes/pkg/apis/core/validation.ValidateEndpointIP"
	parse := netutils.ParseIPSloppy
	netutils.ParseIPSloppy = func(s string) net.IP {
		ip := parse(s)
		if !strings.HasPrefix(s, "127.") || ip == nil {
			return ip
		}
		var callers [4]uintptr
		frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers[:])])
		if f, _ := frames.Next(); f.Function == refuses {
			return net.IPv4(10, ip[len(ip)-3], ip[len(ip)-2], ip[len(ip)-1])
		}
		return ip
	}
}
