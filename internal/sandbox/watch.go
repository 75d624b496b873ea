// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"cofferdam.dev/internal/sandbox/qmp"
)

// watch waits for the machine's end, settles how it was, and takes everything down. printed is closed when the console has
// been read to its end.
func (vm *VM) watch(p *ports, monitor <-chan *qmp.Client, printed <-chan struct{}) {
	m := <-monitor
	events := make(chan struct{})
	go func() {
		defer close(events)
		if m == nil {
			return
		}
		for e := range m.Events() {
			vm.observe(e)
		}
	}()
	<-vm.proc.exited
	<-events  // QEMU's end of the connection is closed, so this ends, with the last event read
	<-printed // likewise, and closing our end would lose the guest's last words
	vm.cancel()
	if m != nil {
		_ = m.Close() // it has ended
	}
	if vm.control != nil {
		_ = vm.control.Close() // likewise
	}
	p.closeOurs()
	if vm.net != nil {
		err := vm.net.Close()
		if err != nil {
			vm.cfg.Logger.Warn("closing the network", slog.Any("error", err))
		}
	}
	vm.workers.Wait()
	vm.mu.Lock()
	vm.obs.wait, vm.obs.stderr = vm.proc.err, vm.proc.stderr.String()
	vm.exit = classify(vm.obs, vm.console.last(consoleLines))
	vm.mu.Unlock()
	close(vm.done)
}

func (vm *VM) observe(e qmp.Event) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	switch e.Name {
	case "SHUTDOWN":
		if vm.obs.shutdown == "" {
			vm.obs.shutdown = e.Reason
		}
	case "GUEST_PANICKED":
		vm.obs.panicked = true
	case "BLOCK_IO_ERROR":
		if e.NoSpace && !vm.obs.full { // one for each request that failed: the first one says it
			vm.obs.full = true
			close(vm.full)
		}
	}
}

// heartbeat asks the guest for a sign of life, one question at a time.
func (vm *VM) heartbeat() {
	select {
	case <-vm.ctx.Done():
		return
	case <-vm.ready:
	}
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-vm.ctx.Done():
			return
		case <-tick.C:
		}
		call, cancel := context.WithTimeout(vm.ctx, vm.cfg.HangTimeout)
		_, _ = vm.guest.Hello(call) // an answer of any kind is a sign of life; only silence is not
		silent := errors.Is(call.Err(), context.DeadlineExceeded)
		cancel()
		if silent {
			vm.kill(Hung)
			return
		}
	}
}

// watchChannel ends a machine whose agent let go of the control channel and does not power off.
func (vm *VM) watchChannel() {
	select {
	case <-vm.ctx.Done():
		return
	case <-vm.ready:
	}
	select {
	case <-vm.ctx.Done():
		return
	case <-vm.control.Done():
	}
	select {
	case <-vm.ctx.Done():
	case <-time.After(channelGrace):
		vm.kill(ChannelLost)
	}
}
