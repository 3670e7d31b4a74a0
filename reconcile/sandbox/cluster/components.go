package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

// assetsVariable names a folder with ready binaries, as Kubernetes' envtest
// has it: etcd and kube-apiserver, sometimes the others too.
const assetsVariable = "KUBEBUILDER_ASSETS"

// command is how a component is started: from a folder of binaries named like
// the components, or as the first argument of the one binary that holds them
// all. What assets holds comes first.
func command(binary, assets, component string) []string {
	for _, dir := range []string{assets, binary} {
		if dir == "" {
			continue
		}
		file := filepath.Join(dir, component)
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() {
			return []string{file}
		}
	}
	return []string{binary, component}
}

// serviceCIDR is AKS's default.
const serviceCIDR = "10.0.0.0/16"

// issuer is what the tokens of service accounts name as theirs.
const issuer = "https://kubernetes.default.svc.cluster.local"

// controllers that a cluster without volumes, clouds and certificates of its
// own has no work for; each costs memory and watches.
var idleControllers = []string{
	"bootstrap-signer-controller", "certificatesigningrequest-approving-controller",
	"certificatesigningrequest-cleaner-controller", "certificatesigningrequest-signing-controller",
	"device-taint-eviction-controller", "ephemeral-volume-controller", "horizontal-pod-autoscaler-controller",
	"node-ipam-controller", "persistentvolume-attach-detach-controller", "persistentvolume-binder-controller",
	"persistentvolume-expander-controller", "persistentvolume-protection-controller",
	"persistentvolumeclaim-protection-controller", "podcertificaterequest-cleaner-controller",
	"resourceclaim-controller", "token-cleaner-controller", "ttl-controller",
	"validatingadmissionpolicy-status-controller", "volumeattributesclass-protection-controller",
}

// components are the four processes in the order they are started.
func (c *Cluster) components() ([]*component, error) {
	p, s, dir := c.pki, c.state, c.dir
	kubeconfig := filepath.Join(dir, "kubeconfig")
	schedulerConfig := filepath.Join(dir, "scheduler.yaml")
	body, err := yaml.Marshal(map[string]any{
		"apiVersion":                "kubescheduler.config.k8s.io/v1",
		"kind":                      "KubeSchedulerConfiguration",
		"leaderElection":            map[string]any{"leaderElect": false},
		"clientConnection":          map[string]any{"kubeconfig": kubeconfig, "qps": 500, "burst": 1000},
		"podInitialBackoffSeconds":  1,
		"podMaxBackoffSeconds":      5,
		"enableProfiling":           false,
		"enableContentionProfiling": false,
	})
	if err != nil {
		return nil, err
	}
	if err := writeFile(schedulerConfig, body, 0o600); err != nil {
		return nil, err
	}
	client, peer := "https://"+s.endpoint(portEtcd), "https://"+s.endpoint(portEtcdPeer)
	flags := []struct {
		name  string
		flags []string
	}{
		{"etcd", []string{
			"--name=sandbox", "--data-dir=" + filepath.Join(dir, "etcd"),
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=sandbox=" + peer,
			"--client-cert-auth", "--trusted-ca-file=" + p.cert(certEtcdCA),
			"--cert-file=" + p.cert(certEtcd), "--key-file=" + p.key(certEtcd),
			"--peer-client-cert-auth", "--peer-trusted-ca-file=" + p.cert(certEtcdCA),
			"--peer-cert-file=" + p.cert(certEtcd), "--peer-key-file=" + p.key(certEtcd),
			// What it holds need not outlive the machine.
			"--unsafe-no-fsync", "--log-level=warn", "--snapshot-count=2000",
		}},
		{"kube-apiserver", []string{
			"--etcd-servers=" + client, "--etcd-cafile=" + p.cert(certEtcdCA),
			"--etcd-certfile=" + p.cert(certEtcd), "--etcd-keyfile=" + p.key(certEtcd),
			"--bind-address=" + s.address(), "--advertise-address=" + s.address(),
			fmt.Sprintf("--secure-port=%d", s.Ports[portAPIServer]),
			// A loopback address cannot be the endpoint of Service kubernetes.
			"--endpoint-reconciler-type=none",
			"--tls-cert-file=" + p.cert(certAPIServer), "--tls-private-key-file=" + p.key(certAPIServer),
			"--client-ca-file=" + p.cert(certCA),
			"--service-account-issuer=" + issuer,
			"--service-account-key-file=" + p.key(keyTokens), "--service-account-signing-key-file=" + p.key(keyTokens),
			"--authorization-mode=RBAC", "--service-cluster-ip-range=" + serviceCIDR,
			"--kubelet-client-certificate=" + p.cert(certToKubelet), "--kubelet-client-key=" + p.key(certToKubelet),
			"--kubelet-certificate-authority=" + p.cert(certCA), "--kubelet-preferred-address-types=InternalIP",
			// The nodes are ready when they register; the taint would only be taken
			// off by the next round of the node lifecycle controller.
			"--disable-admission-plugins=TaintNodesByCondition",
			"--enable-priority-and-fairness=false", "--profiling=false", "--allow-privileged=true",
		}},
		{"kube-controller-manager", []string{
			"--kubeconfig=" + kubeconfig, "--secure-port=0", "--leader-elect=false",
			"--root-ca-file=" + p.cert(certCA), "--service-account-private-key-file=" + p.key(keyTokens),
			"--kube-api-qps=500", "--kube-api-burst=1000", "--profiling=false",
			"--controllers=*,-" + strings.Join(idleControllers, ",-"),
		}},
		{"kube-scheduler", []string{"--config=" + schedulerConfig, "--secure-port=0"}},
	}
	var out []*component
	assets := os.Getenv(assetsVariable)
	for _, f := range flags {
		out = append(out, &component{
			name:    f.name,
			command: slices.Concat(command(c.binary, assets, f.name), f.flags),
			dir:     filepath.Join(dir, "log"),
			kills:   make(chan chan struct{}),
			done:    make(chan struct{}),
		})
	}
	return out, nil
}

// kubeconfig is the cluster administrator's, as AKS's listClusterAdminCredential
// gives it: one cluster, one user with a certificate, all of it inline.
func (c *Cluster) makeKubeconfig() ([]byte, error) {
	read := map[string][]byte{}
	for _, file := range []string{c.pki.cert(certCA), c.pki.cert(certAdmin), c.pki.key(certAdmin)} {
		body, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		read[file] = body
	}
	user := "clusterAdmin_" + c.name
	return clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{c.name: {
			Server:                   "https://" + c.state.endpoint(portAPIServer),
			CertificateAuthorityData: read[c.pki.cert(certCA)],
		}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{user: {
			ClientCertificateData: read[c.pki.cert(certAdmin)],
			ClientKeyData:         read[c.pki.key(certAdmin)],
		}},
		Contexts:       map[string]*clientcmdapi.Context{c.name + "-admin": {Cluster: c.name, AuthInfo: user}},
		CurrentContext: c.name + "-admin",
	})
}
