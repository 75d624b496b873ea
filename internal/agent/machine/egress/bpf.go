// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The commands of bpf(2), and the kinds of programs, maps and places that are used (linux/bpf.h).
const (
	cmdMapCreate  = 0
	cmdProgLoad   = 5
	cmdProgAttach = 8
	cmdMapFreeze  = 22

	mapLRUHash = 9

	kindSKB     = 8  // BPF_PROG_TYPE_CGROUP_SKB
	kindAddress = 18 // BPF_PROG_TYPE_CGROUP_SOCK_ADDR

	pointIngress  = 0  // BPF_CGROUP_INET_INGRESS
	pointEgress   = 1  // BPF_CGROUP_INET_EGRESS
	pointConnect4 = 10 // BPF_CGROUP_INET4_CONNECT
	pointConnect6 = 11 // BPF_CGROUP_INET6_CONNECT
)

// The table of datagram flows: who has sent to whom, and when. The least recently used make room for new ones.
const (
	flowKeySize   = 20 // address 16, of an IPv4 one mapped; its port, our port
	flowValueSize = 8  // nanoseconds of the monotonic clock
	maxFlows      = 16384
)

// attributes is the argument of bpf(2), field after field. The kernel takes what is missing at the end as zero.
type attributes struct {
	b    []byte
	pins runtime.Pinner
}

func (a *attributes) u32(values ...uint32) {
	for _, v := range values {
		a.b = binary.NativeEndian.AppendUint32(a.b, v)
	}
}

// pointer adds the address of a buffer, which must not be empty.
func (a *attributes) pointer(buf []byte) {
	a.pins.Pin(&buf[0])
	a.b = binary.NativeEndian.AppendUint64(a.b, uint64(uintptr(unsafe.Pointer(&buf[0]))))
}

func (a *attributes) name(s string) {
	var name [16]byte
	copy(name[:15], s)
	a.b = append(a.b, name[:]...)
}

func (a *attributes) call(command int) (int, error) {
	defer a.pins.Unpin()
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(unsafe.Pointer(&a.b[0])), uintptr(len(a.b)))
	runtime.KeepAlive(a.b)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// createFlows makes the table. Programs alone write to it: no process can, whatever it may.
func createFlows() (int, error) {
	var a attributes
	a.u32(mapLRUHash, flowKeySize, flowValueSize, maxFlows, 0, 0, 0)
	a.name("egress_flows")
	fd, err := a.call(cmdMapCreate)
	if err != nil {
		return -1, err
	}
	var f attributes
	f.u32(uint32(fd))
	_, err = f.call(cmdMapFreeze)
	if err != nil {
		_ = unix.Close(fd) // the first error is the telling one
		return -1, fmt.Errorf("closing it to processes: %w", err)
	}
	return fd, nil
}

// loadAttempts is how often the verifier is asked. It gives up with EAGAIN when a signal arrives, and the Go runtime
// sends itself signals.
const loadAttempts = 100

// load hands a program to the kernel's verifier. log, if there is one, receives what it has to say.
func load(h hook, code, log []byte) (int, error) {
	for n := 1; ; n++ {
		fd, err := loadOnce(h, code, log)
		if !errors.Is(err, unix.EAGAIN) || n == loadAttempts {
			return fd, err
		}
	}
}

func loadOnce(h hook, code, log []byte) (int, error) {
	var a attributes
	a.u32(uint32(h.kind), uint32(len(code)/insnSize))
	a.pointer(code)
	a.pointer([]byte("Apache-2.0\x00"))
	if len(log) > 0 {
		a.u32(1, uint32(len(log)))
		a.pointer(log)
	} else {
		a.u32(0, 0, 0, 0)
	}
	a.u32(0, 0) // kernel version, flags
	a.name("egress")
	a.u32(0, uint32(h.point)) // no device; what it will be attached to
	return a.call(cmdProgLoad)
}

// attach puts a program at a place of a control group, without flags: instead of one that is there already, and so that
// no descendant can have another.
func attach(group, program, point int) error {
	var a attributes
	a.u32(uint32(group), uint32(program), uint32(point), 0)
	_, err := a.call(cmdProgAttach)
	return err
}
