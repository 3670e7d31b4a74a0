// Package bearer decides who may score: by key or by Kubernetes token.
package bearer

import (
	"crypto/sha256"
	"crypto/subtle"
	"sync"
)

// Keys are the valid keys of services, by the name of the Secret they lie in.
// Only their hashes are kept.
type Keys struct {
	mu     sync.RWMutex
	hashes map[string][][sha256.Size]byte
}

// Set replaces the keys of a Secret; empty ones are left out, and without any
// nobody gets in.
func (k *Keys) Set(secret string, keys ...[]byte) {
	var hashes [][sha256.Size]byte
	for _, key := range keys {
		if len(key) > 0 {
			hashes = append(hashes, sha256.Sum256(key))
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.hashes == nil {
		k.hashes = map[string][][sha256.Size]byte{}
	}
	if len(hashes) == 0 {
		delete(k.hashes, secret)
		return
	}
	k.hashes[secret] = hashes
}

// Check reports whether key is one of the Secret's. It always compares all of
// them, each in constant time, so that the time taken tells nothing.
func (k *Keys) Check(secret, key string) bool {
	k.mu.RLock()
	hashes := k.hashes[secret]
	k.mu.RUnlock()
	given := sha256.Sum256([]byte(key))
	match := 0
	for i := range hashes {
		match |= subtle.ConstantTimeCompare(hashes[i][:], given[:])
	}
	return match == 1
}
