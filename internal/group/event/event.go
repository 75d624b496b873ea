// SPDX-License-Identifier: Apache-2.0

// Package event keeps what happened to a group: a bounded list in one file, which grows at its end and can be read while
// it does.
//
// The form is that of the events of Azure container groups, one JSON object on a line. What happens again and again is
// one event with a count. The package trusts its own file only as far as it can parse it: a line that was torn when its
// writer was killed is left out. Messages may hold a tenant's text; they are cut and made safe to print, and never hold
// the value of a variable or the content of a file.
package event

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Type tells trouble from the usual course of things.
type Type string

// The types.
const (
	Normal  Type = "Normal"
	Warning Type = "Warning"
)

// The names of events that are known from elsewhere.
const (
	Pulling             = "Pulling"
	Pulled              = "Pulled"
	Created             = "Created"
	Started             = "Started"
	Killing             = "Killing"
	Failed              = "Failed"
	BackOff             = "BackOff"
	Unhealthy           = "Unhealthy"
	FailedPostStartHook = "FailedPostStartHook"
	FailedPreStopHook   = "FailedPreStopHook"
)

// The names of events of our own.
const (
	Exited        = "Exited"        // a container's process ended, by itself or not
	PolicyDenied  = "PolicyDenied"  // the guest's policy refused a request
	MachineLost   = "MachineLost"   // the machine ended and nobody had asked for it
	OutOfMemory   = "OutOfMemory"   // the kernel killed a process of the container for want of memory
	ScratchFull   = "ScratchFull"   // the host had no room for what the machine wrote
	VolumeFailed  = "VolumeFailed"  // a volume could not be filled or shared
	VolumeReady   = "VolumeReady"   // a volume has its content
	GroupStopping = "GroupStopping" // somebody asked for the end
)

// Event is something that happened, perhaps several times.
type Event struct {
	Name    string    `json:"name"`
	Type    Type      `json:"type"`
	Message string    `json:"message"`
	Count   int       `json:"count"`
	First   time.Time `json:"firstTimestamp"`
	Last    time.Time `json:"lastTimestamp"`
	// Container is empty for an event of the group.
	Container string `json:"container,omitempty"`
}

// MaxMessage is the length of a message at most, in bytes.
const MaxMessage = 1 << 10

// MaxEvents is how many events are kept, the newest.
const MaxEvents = 1000

// key is what makes two events one.
type key struct{ container, name, message string }

func (e Event) key() key { return key{e.Container, e.Name, e.Message} }

// Clean makes one line of text that is safe to print and not too long.
func Clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= MaxMessage {
		return text
	}
	text = text[:MaxMessage-len("…")]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text + "…"
}

// folded are events by their key, in the order of their last occurrence.
type folded struct {
	events []Event
	at     map[key]int
}

// put adds e or replaces an earlier form of it, and keeps the newest.
func (f *folded) put(e Event) {
	if f.at == nil {
		f.at = map[key]int{}
	}
	i, known := f.at[e.key()]
	if known {
		f.events = append(f.events[:i], f.events[i+1:]...)
		f.reindex(i)
	}
	f.at[e.key()] = len(f.events)
	f.events = append(f.events, e)
	if len(f.events) > MaxEvents {
		delete(f.at, f.events[0].key())
		f.events = f.events[1:]
		f.reindex(0)
	}
}

func (f *folded) reindex(from int) {
	for i := from; i < len(f.events); i++ {
		f.at[f.events[i].key()] = i
	}
}

// get returns the event with e's key.
func (f *folded) get(e Event) (Event, bool) {
	i, known := f.at[e.key()]
	if !known {
		return Event{}, false
	}
	return f.events[i], true
}
