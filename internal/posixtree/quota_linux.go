package posixtree

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func newFileSystem() fileSystem {
	return fileSystem{attribute: attribute, project: project, usage: projectUsage}
}

func attribute(fd int, name string) (string, error) {
	var value [64]byte // for a number
	n, err := unix.Fgetxattr(fd, name, value[:])
	if err != nil {
		return "", err
	}
	return string(value[:n]), nil
}

// project asks by FS_IOC_FSGETXATTR, see ioctl_xfs_fsgetxattr(2) and linux/fs.h.
func project(fd int) (id uint32, inherited bool, err error) {
	var attributes struct {
		flags, extentSize, extents, project, cowExtentSize uint32
		_                                                  [8]byte
	}
	const (
		// Which bits of a request say that it reads differs between architectures.
		getAttributes = unix.FS_IOC_GETFLAGS&0xe0000000 | unsafe.Sizeof(attributes)<<16 | 'X'<<8 | 31
		inherit       = 0x200 // FS_XFLAG_PROJINHERIT
	)
	//nolint:gosec // the kernel fills the struct that it defines
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getAttributes, uintptr(unsafe.Pointer(&attributes)))
	if errno != 0 {
		return 0, false, errno
	}
	return attributes.project, attributes.flags&inherit != 0, nil
}

// projectUsage asks by quotactl_fd(2), which needs no path of a device and is the
// same for ext4 and XFS.
func projectUsage(fd int, project uint32) (bytes, inodes uint64, err error) {
	const getProjectQuota = 0x800007<<8 | 2 // QCMD(Q_GETQUOTA, PRJQUOTA), linux/quota.h
	var usage struct {                      // struct if_dqblk
		hardBytes, softBytes, bytes    uint64 // the limits in blocks, bytes in bytes
		hardInodes, softInodes, inodes uint64
		graceBytes, graceInodes        uint64
		valid, _                       uint32
	}
	//nolint:gosec // the kernel fills the struct that it defines
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), getProjectQuota, uintptr(project), uintptr(unsafe.Pointer(&usage)), 0, 0)
	if errno != 0 {
		return 0, 0, errno
	}
	return usage.bytes, usage.inodes, nil
}
