// Package seal keeps secrets unreadable for whoever has only the database, and
// is the only package that opens them again.
//
// Secrets are sealed by a data keyset (AES-256-GCM) that the database keeps,
// wrapped by the key in a file outside of it. The package leaves to the store
// where sealed values are kept and to the services who may have one opened. What
// always holds: a sealed value opens only in the place it was sealed for, so that
// nobody who can write to the database can move it elsewhere, or an older one
// back; a wrong key stops the start, before anything is served; and no error and
// no log line holds a secret or a key.
package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/purserhq/purser"
)

// Keyring seals and opens. Open makes it; it is safe for concurrent use.
type Keyring struct {
	data tink.AEAD
	// macs holds keyed hashes for reuse: keying one costs more than the MAC of a cursor.
	macs  sync.Pool
	seals atomic.Int64
}

func newKeyring(data tink.AEAD, macKey []byte) *Keyring {
	return &Keyring{data: data, macs: sync.Pool{New: func() any { return hmac.New(sha256.New, macKey) }}}
}

// SecretAccessKey is the Field of a provider's secret access key: what is sealed
// under one name does not open under another, so whoever seals and whoever opens
// take it from here.
const SecretAccessKey = "secretAccessKey"

// Binding is the place a secret is sealed for: it opens only there.
type Binding struct {
	Team     purser.TeamID
	Provider purser.ProviderID
	// Field is the name of what is sealed: a provider may have several secrets.
	Field string
	// Version grows with every new value, so that an old one does not pass for
	// the current one.
	Version int64
}

// Seal seals a secret for the place b. Two seals of the same secret differ.
//
// A sealed value is what Tink makes of it (developers.google.com/tink,
// "Wire format", AEAD):
//
//	version  1 byte, 1
//	key id   4 bytes: which key of the data keyset
//	nonce    12 bytes
//	the secret, encrypted
//	tag      16 bytes
func (k *Keyring) Seal(secret purser.Secret, b Binding) ([]byte, error) {
	return k.seal("seal.Keyring.Seal", []byte(secret.Expose()), b.context())
}

// Open opens what was sealed for the place b.
func (k *Keyring) Open(sealed []byte, b Binding) (purser.Secret, error) {
	plain, err := k.open("seal.Keyring.Open", sealed, b.context())
	return purser.NewSecret(string(plain)), err
}

// SealAnswer seals the answer to a request, which a team can have again under an
// idempotency key: an answer may hold a secret that is shown only once.
func (k *Keyring) SealAnswer(team purser.TeamID, key string, plain []byte) ([]byte, error) {
	return k.seal("seal.Keyring.SealAnswer", plain, answerContext(team, key))
}

// OpenAnswer opens what was sealed for the same team and idempotency key.
func (k *Keyring) OpenAnswer(team purser.TeamID, key string, sealed []byte) ([]byte, error) {
	return k.open("seal.Keyring.OpenAnswer", sealed, answerContext(team, key))
}

// Uses returns how often this process has sealed something, for a metric. One
// AES-GCM key should seal less than 2^32 values in its life, over all nodes
// (NIST SP 800-38D, section 8.3).
func (k *Keyring) Uses() int64 { return k.seals.Load() }

// MAC authenticates data for a purpose (HMAC-SHA256, 32 bytes). What was made for
// one purpose does not verify for another.
func (k *Keyring) MAC(purpose string, data []byte) []byte {
	h := k.macs.Get().(hash.Hash)
	defer k.macs.Put(h)
	h.Reset()
	h.Write(appendText(make([]byte, 0, 64), purpose))
	h.Write(data)
	return h.Sum(make([]byte, 0, sha256.Size))
}

// VerifyMAC reports whether mac is the MAC of data for the purpose. It takes the
// same time wherever the two differ.
func (k *Keyring) VerifyMAC(purpose string, data, mac []byte) bool {
	return hmac.Equal(k.MAC(purpose, data), mac)
}

func (k *Keyring) seal(op string, plain, context []byte) ([]byte, error) {
	k.seals.Add(1)
	sealed, err := k.data.Encrypt(plain, context)
	return sealed, purser.Wrap(op, err)
}

func (k *Keyring) open(op string, sealed, context []byte) ([]byte, error) {
	plain, err := k.data.Decrypt(sealed, context)
	if err != nil {
		return nil, &purser.Error{
			Kind: purser.KindInternal, Op: op, Err: err,
			Message: "A sealed value does not open: it was changed, or belongs to another place or database.",
		}
	}
	return plain, nil
}

// The contexts are Tink's associated data: not stored, but needed for opening.
// Each begins with a label that no other has, and every text stands behind its
// length (8 bytes, big endian), so that two places never have the same context.

func (b Binding) context() []byte {
	c := appendText(make([]byte, 0, 128), "purser secret 1")
	c = appendText(c, b.Team)
	c = appendText(c, b.Provider)
	c = appendText(c, b.Field)
	return binary.BigEndian.AppendUint64(c, uint64(b.Version)) //nolint:gosec // the bits are kept, not the number
}

func answerContext(team purser.TeamID, key string) []byte {
	c := appendText(make([]byte, 0, 128), "purser answer 1")
	c = appendText(c, team)
	return appendText(c, key)
}

func recordContext(name string) []byte {
	return appendText(appendText(nil, "purser keys 1"), name)
}

func appendText[T ~string](b []byte, text T) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(text)))
	return append(b, text...)
}
