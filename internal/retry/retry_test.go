// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"
)

func TestAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 400_000_000, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "7s": 0, "1.5": 0, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:04:25 GMT": 20 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0, "tomorrow": 0,
	} {
		if got := After(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := After(nil, now); got != 0 {
		t.Errorf("no header: %s", got)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	none := func(time.Duration) time.Duration { return 0 }
	for _, c := range []struct{ mean, asked, want time.Duration }{
		{time.Second, 0, time.Second / 2}, {time.Second, time.Second / 4, time.Second / 2}, {time.Second, time.Minute, time.Minute},
	} {
		if got := Pause(c.mean, c.asked, none); got != c.want {
			t.Errorf("%s, asked for %s: %s, want %s", c.mean, c.asked, got, c.want)
		}
		for range 100 {
			if got := Pause(c.mean, c.asked, nil); got < c.want || got >= c.want+c.mean {
				t.Errorf("%s, asked for %s: %s", c.mean, c.asked, got)
			}
		}
	}
}

func TestSleep(t *testing.T) {
	t.Parallel()
	if err := Sleep(t.Context(), time.Millisecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
