package sandbox

import (
	"fmt"
	"path/filepath"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/arm"
)

// RegisterModel puts a file or a folder into the workspace's datastore and registers it.
func (s *Sandbox) RegisterModel(name, version, path string) error {
	under, err := s.upload(name, version, path)
	if err != nil {
		return err
	}
	s.arm.RegisterModel(s.seed, name, version, under)
	return nil
}

// RegisterModelURI registers a version whose files are where the URI says, or nowhere.
func (s *Sandbox) RegisterModelURI(name, version, uri string) error {
	if err := checkModel(name, version); err != nil {
		return err
	}
	s.arm.RegisterModelURI(s.seed, name, version, uri)
	return nil
}

// RegisterRegistryModel registers a file or a folder in an Azure ML registry, which is made if
// need be. Who asks the registry for its files is given a signature to read them with.
func (s *Sandbox) RegisterRegistryModel(registry, name, version, path string) error {
	under, err := s.upload(registry+"/"+name, version, path, name)
	if err != nil {
		return err
	}
	url := s.BlobEndpoint() + "/" + storageAccount + "/" + arm.Container
	s.arm.RegisterRegistryModel(s.seed, registry, name, version, url+"/"+under, url+"?"+s.blobs.Signature(storageAccount, arm.Container))
	return nil
}

// upload puts a file or a folder into the workspace's container.
func (s *Sandbox) upload(folder, version, path string, name ...string) (under string, err error) {
	if err := checkModel(append(name, folder)[0], version); err != nil {
		return "", err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	base := filepath.Base(path)
	if !filepath.IsLocal(base) {
		return "", fmt.Errorf("model %s:%s: %s cannot be a model", folder, version, path)
	}
	account := s.arm.StorageAccount(s.seed)
	if account == "" {
		return "", fmt.Errorf("register model %s:%s: there is no workspace %s yet", folder, version, Workspace)
	}
	under = "models/" + folder + "/" + version + "/" + base
	if err := s.blobs.Import(account, arm.Container, under, path); err != nil {
		return "", fmt.Errorf("upload model %s:%s: %w", folder, version, err)
	}
	return under, nil
}

// Import puts a file or a folder at a path of the workspace's container, in place of what was
// there, as another program would.
func (s *Sandbox) Import(under, path string) error {
	return s.blobs.Import(storageAccount, arm.Container, under, path)
}

// Store makes an ARM resource as it is given, in place of what was there.
func (s *Sandbox) Store(id, kind string, properties map[string]any) {
	s.arm.Store(id, kind, properties)
}

// BlobEndpoint is the URL of the blob store; accounts are paths below it.
func (s *Sandbox) BlobEndpoint() string { return "http://" + s.settings.address(portBlob) }

// RefuseStorageTokens takes the role on the storage account away from the identity, or gives it back.
func (s *Sandbox) RefuseStorageTokens(refuse bool) { s.blobs.RefuseTokens(refuse) }

// LockAccountKeys switches the storage account's keys off, or on.
func (s *Sandbox) LockAccountKeys(locked bool) { s.blobs.LockKeys(locked) }

// AccountKey is that of the storage account.
func (s *Sandbox) AccountKey() string { return s.blobs.AccountKey() }

// Secrets lets listSecrets of a datastore of the workspace give these; nil: it is forbidden,
// as from the start.
func (s *Sandbox) Secrets(datastore string, secrets map[string]any) {
	s.arm.Secrets(s.seed, datastore, secrets)
}
