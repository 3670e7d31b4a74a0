package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/files"
)

// The ports of a sandbox, by the name they are kept under.
const (
	portARM      = "arm"
	portRegistry = "registry"
	portBlob     = "blob"
	portGitHTTP  = "gitHTTP"
	portGitSSH   = "gitSSH"
	portKube     = "kube"
	portVault    = "vault"
)

// settings are chosen at the first start and kept, so that what was given out stays right.
type settings struct {
	Token     string         `json:"token"`
	KubeToken string         `json:"kubeToken"` // of the kubeconfigs that ARM hands out
	Ports     map[string]int `json:"ports"`
	// NoWorkspace holds for later starts too.
	NoWorkspace bool `json:"noWorkspace,omitempty"`
	// Controlplane is the binary of the last start: a later one may find no source.
	Controlplane string `json:"controlplane,omitempty"`
}

func (s settings) address(name string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Ports[name]))
}

// settle reads or chooses the settings and listens on their ports.
func (s *Sandbox) settle() (listeners map[string]net.Listener, err error) {
	if err := files.ReadJSON(s.path("sandbox.json"), &s.settings); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if s.settings.Token == "" {
		s.settings.Token = "sandbox-" + rand.Text()
	}
	if s.settings.KubeToken == "" {
		s.settings.KubeToken = rand.Text()
	}
	s.settings.NoWorkspace = s.settings.NoWorkspace || s.options.NoWorkspace
	if s.settings.Ports == nil {
		s.settings.Ports = map[string]int{}
	}
	listeners = map[string]net.Listener{}
	for _, name := range []string{portARM, portRegistry, portBlob, portGitHTTP, portGitSSH, portKube, portVault} {
		listener, err := net.Listen("tcp", s.settings.address(name))
		if err != nil {
			for _, open := range listeners {
				open.Close()
			}
			return nil, fmt.Errorf("the port that %s has had since the first start is taken: %w", name, err)
		}
		listeners[name] = listener
		s.settings.Ports[name] = listener.Addr().(*net.TCPAddr).Port
	}
	return listeners, s.keepSettings()
}

func (s *Sandbox) keepSettings() error { return files.WriteJSON(s.path("sandbox.json"), s.settings) }

// keepKubeconfig makes the user's kubeconfig hold for later starts too: clusters that were
// made with it have no control plane of their own.
func (s *Sandbox) keepKubeconfig() error {
	file := s.path("kubeconfig")
	if s.options.Kubeconfig != nil {
		return files.Write(file, s.options.Kubeconfig, 0o600)
	}
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s.options.Kubeconfig = content
	return err
}

// Variable is one that programs find the sandbox by.
type Variable struct{ Name, Value string }

// Environment is what DIR/env exports. AMLAKS_ARM_TOKEN is as secret as the sandbox is.
func (s *Sandbox) Environment() []Variable {
	return []Variable{
		{"AMLAKS_ARM_ENDPOINT", s.ARMEndpoint()},
		{"AMLAKS_ARM_TOKEN", s.Token()},
		{"SANDBOX_SUBSCRIPTION", SubscriptionID},
		{"SANDBOX_RESOURCE_GROUP", ResourceGroup},
		{"SANDBOX_WORKSPACE", Workspace},
		{"SANDBOX_REGISTRY", s.Registry()},
		{"SANDBOX_VAULT", s.Vault()},
		{"SANDBOX_GIT_HTTP", s.GitHTTP()},
		{"SANDBOX_GIT_SSH", s.GitSSH()},
		{"SANDBOX_SSH_KEY", s.SSHKey()},
		{"SANDBOX_KNOWN_HOSTS", s.KnownHosts()},
	}
}

func (s *Sandbox) writeEnv() error {
	var text strings.Builder
	for _, variable := range s.Environment() {
		fmt.Fprintf(&text, "export %s='%s'\n", variable.Name, strings.ReplaceAll(variable.Value, "'", `'\''`))
	}
	return files.Write(s.path("env"), []byte(text.String()), 0o600)
}

// lock makes sure that a folder has one sandbox. The lock ends with the process.
func lock(name string) (unlock func(), err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("another sandbox runs on this folder: %w", err)
	}
	return func() { file.Close() }, nil
}

// modelName and modelVersion are Azure ML's rules for assets.
var (
	modelName    = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}$`)
	modelVersion = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,29}$`)
)

func checkModel(name, version string) error {
	if !modelName.MatchString(name) || !modelVersion.MatchString(version) {
		return fmt.Errorf("model %s:%s: want NAME:VERSION of letters, digits, dots, dashes and underscores", name, version)
	}
	return nil
}
