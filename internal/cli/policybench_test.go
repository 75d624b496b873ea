// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
)

// secondRun is how long a policy may take whose image was seen before.
const secondRun = 200 * time.Millisecond

// BenchmarkGenerateAgain makes the policy of a real image whose layers are in the cache already, and with a lock file.
// It fails above the limit.
func BenchmarkGenerateAgain(b *testing.B) {
	testcap.Require(b, testcap.Images)
	ref := "oci-archive:" + filepath.Join(testcap.Dir(), "images", "redis.tar")
	home, lock := b.TempDir(), filepath.Join(b.TempDir(), "cofferdam.lock")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = null.Close() }() // nothing was kept in it
	generate := func(flags ...string) {
		p := Current()
		p.Args = append([]string{"--home", home, "policy", "generate", ref}, flags...)
		p.In, p.Out, p.Err = null, null, null
		if code := Main(b.Context(), p); code != 0 {
			b.Fatalf("exit code %d", code)
		}
	}
	generate("--lock", lock, "--update-lock")
	for name, flags := range map[string][]string{"cache": nil, "lock": {"--lock", lock, "--locked"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				generate(flags...)
			}
			if per := b.Elapsed() / time.Duration(b.N); per > secondRun {
				b.Errorf("%s for one policy, want at most %s", per, secondRun)
			}
		})
	}
}
