package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/purserhq/purser"
)

// Keysets keeps wrapped keys in the database.
type Keysets interface {
	// LoadKeyset returns what is stored under name, or nil.
	LoadKeyset(ctx context.Context, name string) ([]byte, error)
	// CreateKeyset stores wrapped unless something is stored under name already,
	// and returns what is stored then.
	CreateKeyset(ctx context.Context, name string, wrapped []byte) (stored []byte, err error)
}

// Options say where the keys are. Keysets and KeyFile are needed.
type Options struct {
	Keysets Keysets
	// KeyFile is the path of the file with the key that wraps all others.
	KeyFile string
	// Logger is told when a key file was made; nil means slog.Default().
	Logger *slog.Logger
}

// What the database keeps, each wrapped by the key in the file for its name. The
// order is that of their making: the check is last, so where it is there is
// everything.
const (
	dataRecord  = "data"  // Tink keyset, AES-256-GCM: seals secrets
	macRecord   = "mac"   // 32 random bytes: authenticates cursors
	checkRecord = "check" // known text: tells the right key file from a wrong one
)

const (
	checkText  = "this key file belongs to this database"
	macKeySize = 32
)

// errWrongKey is the cause of the error for a key that does not fit.
var errWrongKey = errors.New("the wrapped keys do not open")

// Open opens the keys, and makes them on the very first start: when there is
// neither a key file nor anything that one has wrapped. Nodes may start at once
// on one database; all of them come to the same keys. Errors are sentences for
// the person who starts the server, and say what to do.
func Open(ctx context.Context, o Options) (*Keyring, error) {
	if path, err := filepath.Abs(o.KeyFile); err == nil {
		o.KeyFile = path // people should not have to guess the directory
	}
	records, err := loadRecords(ctx, o.Keysets)
	if err != nil {
		return nil, purser.Wrap("seal.Open", err)
	}
	key, made, err := findKey(ctx, o, len(records) == 0)
	if err != nil {
		return nil, err
	}
	kek, err := subtle.NewAESGCM(key)
	if err != nil {
		return nil, purser.Wrap("seal.Open", err)
	}
	k, err := (&opener{Options: o, kek: kek, records: records}).open(ctx)
	if made && errors.Is(err, errWrongKey) {
		return nil, tooLate(o.KeyFile)
	}
	return k, purser.Wrap("seal.Open", err)
}

// loadRecords reads in the order opposite to the making: with one record it sees
// all that were made before, also while another node makes them.
func loadRecords(ctx context.Context, keysets Keysets) (map[string][]byte, error) {
	records := make(map[string][]byte)
	for _, name := range []string{checkRecord, macRecord, dataRecord} {
		wrapped, err := keysets.LoadKeyset(ctx, name)
		if err != nil {
			return nil, err
		}
		if wrapped != nil {
			records[name] = wrapped
		}
	}
	return records, nil
}

// findKey reads the key file. If there is none and fresh says that nothing needs
// an old one, it makes one.
func findKey(ctx context.Context, o Options, fresh bool) (key []byte, made bool, err error) {
	key, err = readKeyFile(o.KeyFile)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if !fresh {
		return nil, false, startError("the key file %s is missing, and the secrets in the database cannot be opened without it; "+
			"restore it from your backup, copy it from another node, or say with --seal-key-file where it is", o.KeyFile)
	}
	err = createKeyFile(o.KeyFile)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, err
	}
	made = err == nil
	if key, err = readKeyFile(o.KeyFile); errors.Is(err, fs.ErrNotExist) {
		err = cannotRead(o.KeyFile, err) // a symbolic link to nothing, or somebody removes it
	}
	if err == nil && made {
		o.logger().WarnContext(ctx, "made a new key file: back it up now, apart from the database; without it every stored secret is lost", "path", o.KeyFile)
	}
	return key, made, err
}

func (o Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.Default()
	}
	return o.Logger
}

// tooLate answers a first start that another node, with a key of its own, has
// won. Nothing can be sealed by the key made here, so its file only misleads.
func tooLate(path string) error {
	if err := os.Remove(path); err != nil {
		return cannotWrite(path, err)
	}
	return startError("another server was first to start on this database and has made the key file; copy that file to %s and start again", path)
}

// opener is one call of Open that has its key.
type opener struct {
	Options
	kek     tink.AEAD
	records map[string][]byte
}

func (o *opener) open(ctx context.Context) (*Keyring, error) {
	if err := o.checkRecords(); err != nil {
		return nil, err
	}
	data, err := o.dataKeys(ctx)
	if err != nil {
		return nil, err
	}
	mac, err := o.unwrap(ctx, macRecord, func() []byte {
		key := make([]byte, macKeySize)
		_, _ = rand.Read(key) // never fails: the runtime ends the process instead
		return key
	})
	if err != nil {
		return nil, err
	}
	if _, err := o.unwrap(ctx, checkRecord, func() []byte { return []byte(checkText) }); err != nil {
		return nil, err
	}
	return newKeyring(data, mac), nil
}

// checkRecords looks at what there was before anything is made: an incomplete
// database must not be completed with keys that open nothing of it.
func (o *opener) checkRecords() error {
	if wrapped, found := o.records[checkRecord]; found {
		if _, err := o.kek.Decrypt(wrapped, recordContext(checkRecord)); err != nil {
			return o.wrongKey()
		}
	}
	missing := ""
	for _, name := range []string{dataRecord, macRecord, checkRecord} {
		if _, found := o.records[name]; !found {
			missing = name
		} else if missing != "" {
			return startError("the database lacks a part of its keys (%s); restore it from a backup", missing)
		}
	}
	return nil
}

// dataKeys opens the data keyset, making it first if there is none.
func (o *opener) dataKeys(ctx context.Context) (tink.AEAD, error) {
	wrapped, err := o.record(ctx, dataRecord, func() ([]byte, error) {
		handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		err = handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&b), o.kek, recordContext(dataRecord))
		return b.Bytes(), err
	})
	if err != nil {
		return nil, err
	}
	handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(wrapped)), o.kek, recordContext(dataRecord))
	if err != nil {
		return nil, o.doesNotOpen(dataRecord)
	}
	return aead.New(handle)
}

// unwrap opens what a record holds, making it first if there is none.
func (o *opener) unwrap(ctx context.Context, name string, plain func() []byte) ([]byte, error) {
	wrapped, err := o.record(ctx, name, func() ([]byte, error) { return o.kek.Encrypt(plain(), recordContext(name)) })
	if err != nil {
		return nil, err
	}
	opened, err := o.kek.Decrypt(wrapped, recordContext(name))
	if err != nil {
		return nil, o.doesNotOpen(name)
	}
	return opened, nil
}

// record returns a record as it is stored. One that this node makes may lose
// against that of another node.
func (o *opener) record(ctx context.Context, name string, wrap func() ([]byte, error)) ([]byte, error) {
	if wrapped, found := o.records[name]; found {
		return wrapped, nil
	}
	wrapped, err := wrap()
	if err != nil {
		return nil, err
	}
	return o.Keysets.CreateKeyset(ctx, name, wrapped)
}

// doesNotOpen tells a damaged record from a wrong key: a key that has opened the
// check is the right one.
func (o *opener) doesNotOpen(name string) error {
	if _, found := o.records[checkRecord]; found {
		return startError("the keys in the database are damaged (%s); restore it from a backup", name)
	}
	return o.wrongKey()
}

func (o *opener) wrongKey() error {
	return &purser.Error{
		Kind: purser.KindUnavailable, Op: "seal.Open", Err: errWrongKey,
		Message: "the key file " + o.KeyFile + " does not belong to this database; restore the right one from your backup, or copy it from another node",
	}
}
