package pgtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// watchdog runs PostgreSQL until its own standard input ends, which the kernel
// sees to when the test binary has gone, be it killed. Then it removes the
// files: they are nobody's any more.
const watchdog = `
"$1/initdb" -D "$2/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$2/log" 2>&1 || exit 1
echo initialised
"$1/postgres" -D "$2/data" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$2" \
	-c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=400 >>"$2/log" 2>&1 &
read -r _
kill -QUIT $! 2>/dev/null
wait $!
cd / && rm -rf "$2"
`

// watchdogInput is the writing end of the watchdog's input. It stays open, and
// unused, as long as this process lives; were it only a local variable, the
// garbage collector would close it and end the server in the middle of tests.
var watchdogInput io.Closer //nolint:unused // see above

// start starts a server of this test binary's own and returns the URL of its
// superuser's database.
func start() (string, error) {
	bin, err := findPostgres()
	if err != nil {
		return "", err
	}
	dir, credential, err := makeDir()
	if err != nil {
		return "", err
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("/bin/sh", "-c", watchdog, "watchdog", bin, dir, strconv.Itoa(port))
	cmd.Dir = dir
	// Out of reach of a Ctrl-C that is meant for the tests: the watchdog must
	// outlive them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential}
	if watchdogInput, err = cmd.StdinPipe(); err != nil {
		return "", err
	}
	progress, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	if n, _ := progress.Read(make([]byte, 64)); n == 0 {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return "", errors.Join(fmt.Errorf("PostgreSQL could not be set up in %s: %s", dir, log), cmd.Wait())
	}
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port), nil
}

// findPostgres returns the directory of PostgreSQL's programs: Debian's, which
// keeps them out of the way, or whatever is first in PATH.
func findPostgres() (string, error) {
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is correct
	if len(installed) > 0 {
		return filepath.Dir(installed[len(installed)-1]), nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", errors.New("PostgreSQL is not installed, and this test needs a real one: run it by `make test`, which installs it, or install the package postgresql")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	return filepath.Dir(path), nil
}

// makeDir makes the server's directory. PostgreSQL refuses to run as root; then
// the directory is user postgres's, and so is the server.
func makeDir() (string, *syscall.Credential, error) {
	dir, err := os.MkdirTemp("", "purser-postgres-")
	if err != nil || os.Geteuid() != 0 {
		return dir, nil, err
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return "", nil, errors.New("PostgreSQL does not run as root, and there is no user postgres to run it as: install the package postgresql, or run the tests as another user")
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32) // numbers on every Unix
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return dir, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
