package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"strings"

	"github.com/purserhq/purser"
)

// An API key is
//
//	psr_<key id>_<43 characters>_<6 characters>
//
//	key id         finds the key in the store; it is no secret
//	43 characters  the secret: random digits of base 62, 256 bits
//	6 characters   checksum: CRC-32 (IEEE) of all that stands before the underscore
//	               before it, in base 62 with leading zeros
//
// The prefix and the checksum let scanners find keys that leaked and let a
// mistyped key be refused without a trip to the store, as GitHub's do (github.blog,
// "Behind GitHub's new authentication token formats", 2021). They protect nothing:
// anybody can compute a checksum.
const (
	keyPrefix      = "psr_"
	keyIDLength    = 15
	secretLength   = 43
	checksumLength = 6
	keyLength      = len(keyPrefix) + keyIDLength + 1 + secretLength + 1 + checksumLength
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// NewKey makes an API key: its id and its hash are for the store, the token is
// for its holder and is kept nowhere.
func NewKey() (id purser.KeyID, token purser.Secret, hash []byte) {
	id = purser.NewKeyID()
	body := keyPrefix + string(id) + "_" + newSecret()
	text := body + "_" + checksum(body)
	return id, purser.NewSecret(text), HashKey(text)
}

// ParseKey returns the id in an API key, and false for what cannot be one. What
// parses need not exist.
func ParseKey(token string) (purser.KeyID, bool) {
	if len(token) != keyLength || !strings.HasPrefix(token, keyPrefix+"key") {
		return "", false
	}
	body, sum := token[:keyLength-checksumLength-1], token[keyLength-checksumLength-1:]
	id, secret := body[len(keyPrefix):len(keyPrefix)+keyIDLength], body[len(keyPrefix)+keyIDLength:]
	if !purser.ValidID(id) || secret[0] != '_' || !isBase62(secret[1:]) || sum != "_"+checksum(body) {
		return "", false
	}
	return purser.KeyID(id), true
}

// HashKey returns what the store keeps of an API key: its SHA-256. A slow hash
// would add nothing, for nobody can try 2^256 keys.
func HashKey(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// newSecret returns 43 random digits of base 62, which hold 256.03 bits.
func newSecret() string {
	digits := make([]byte, 0, secretLength)
	var random [2 * secretLength]byte
	for {
		_, _ = rand.Read(random[:]) // never fails: the runtime ends the process instead
		for _, b := range random {
			if b >= 4*62 {
				continue // its remainder would favour the first digits
			}
			if digits = append(digits, base62[b%62]); len(digits) == secretLength {
				return string(digits)
			}
		}
	}
}

func isBase62(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(base62, r) })
}

func checksum(body string) string {
	n := crc32.ChecksumIEEE([]byte(body))
	var digits [checksumLength]byte
	for i := range digits {
		digits[checksumLength-1-i] = base62[n%62]
		n /= 62
	}
	return string(digits[:])
}
