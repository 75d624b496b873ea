// SPDX-License-Identifier: Apache-2.0

package lifecycle

import "time"

// Times are how long is waited between the runs of a container. The zero value is that of Usual.
type Times struct {
	// BackOff is the wait before the second restart; the first one is at once. Each further wait is twice the one before,
	// and none is longer than MaxBackOff.
	BackOff, MaxBackOff time.Duration
	// Calm is how long a run must last for the next wait to be counted from the beginning.
	Calm time.Duration
}

// Usual are the kubelet's times.
var Usual = Times{BackOff: 10 * time.Second, MaxBackOff: 5 * time.Minute, Calm: 10 * time.Minute}

func (t Times) orUsual() Times {
	if t == (Times{}) {
		return Usual
	}
	return t
}

// backOff counts the waits of one container.
type backOff struct{ next time.Duration }

// after is how long to wait after a run that took ran.
func (b *backOff) after(ran time.Duration, t Times) time.Duration {
	if ran >= t.Calm {
		b.next = 0
	}
	wait := b.next
	b.next = min(max(2*b.next, t.BackOff), t.MaxBackOff)
	return wait
}
