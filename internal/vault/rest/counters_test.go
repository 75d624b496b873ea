// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

const aCounter = "/counters/0123456789abcdef0123456789abcdef"

func state(generation, digest string) object {
	return object{"generation": generation, "digest": strings.Repeat(digest, 32)}
}

// TestCounters has a counter go forward, from the state that it has alone.
func TestCounters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	for _, c := range []struct {
		name, method, path string
		body               any
		status             int
		code               string
	}{
		{"one that is not there", "GET", aCounter, nil, 404, "CounterNotFound"},
		{"another name", "GET", "/counters/volume", nil, 400, "BadParameter"},
		{"upper case", "PUT", strings.ToUpper(aCounter), object{"next": state("1", "01")}, 400, "BadParameter"},
		{"from what is not there", "PUT", aCounter, object{"was": state("1", "01"), "next": state("2", "02")}, 409, "Conflict"},
		{"to nothing", "PUT", aCounter, object{}, 400, "BadParameter"},
		{"to no digest", "PUT", aCounter, object{"next": object{"generation": "1"}}, 400, "BadParameter"},
		{"to a number", "PUT", aCounter, object{"next": object{"generation": 1, "digest": strings.Repeat("01", 32)}}, 400, "BadParameter"},
		{"the first", "PUT", aCounter, object{"next": state("1", "01")}, 200, ""},
		{"the first again", "PUT", aCounter, object{"next": state("1", "01")}, 409, "Conflict"},
		{"the next", "PUT", aCounter, object{"was": state("1", "01"), "next": state("2", "02")}, 200, ""},
		{"another digest", "PUT", aCounter, object{"was": state("2", "03"), "next": state("3", "03")}, 409, "Conflict"},
		{"back", "PUT", aCounter, object{"was": state("2", "02"), "next": state("1", "01")}, 400, "BadParameter"},
		{"the same", "PUT", aCounter, object{"was": state("2", "02"), "next": state("2", "02")}, 400, "BadParameter"},
		{"removal", "DELETE", aCounter, nil, 405, ""},
	} {
		a := w.send(t.Context(), "operator", c.method, c.path, c.body)
		if a.status != c.status || c.code != "" && a.get("error.code") != c.code {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
	if a := w.must(t, "GET", aCounter, nil); a.get("generation") != "2" || a.get("digest") != strings.Repeat("02", 32) {
		t.Errorf("it has %s", a.body)
	}
	if a := w.send(t.Context(), "nobody", "GET", aCounter, nil); a.status != 401 {
		t.Errorf("a stranger: %d", a.status)
	}
}

// TestCounterRace has one of several who move a counter from the same state do it.
func TestCounterRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.must(t, "PUT", aCounter, object{"next": state("1", "01")})
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			switch a := w.send(t.Context(), "operator", "PUT", aCounter, object{"was": state("1", "01"), "next": state("2", "02")}); a.status {
			case 200:
				won.Add(1)
			case 409:
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d moved it", won.Load())
	}
}
