// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"testing"
	"testing/fstest"
)

func TestMachineMirrors(t *testing.T) {
	t.Parallel()
	const deb822 = "Types: deb\nURIs: http://mirror.test/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n\n" +
		"Types: deb\nURIs: https://mirror.test/sec\nSuites: bookworm-security\nComponents: main\n\n" +
		"Types: deb-src\nURIs: http://src.test\nSuites: bookworm\nComponents: main\n\n" +
		"Enabled: no\nTypes: deb\nURIs: http://off.test\nSuites: bookworm\nComponents: main\n"
	lines := func(text string) fstest.MapFS {
		return fstest.MapFS{"etc/apt/sources.list": {Data: []byte(text)}}
	}
	tests := []struct {
		name             string
		files            fstest.MapFS
		mirror, security string
	}{
		{"none", fstest.MapFS{}, "", ""},
		{"stanzas", fstest.MapFS{"etc/apt/sources.list.d/debian.sources": {Data: []byte(deb822)}}, "http://mirror.test/debian", "https://mirror.test/sec"},
		{"lines, security beside", lines("# deb http://no.test bookworm main\ndeb [arch=amd64] http://one.test/debian bookworm main\n"), "http://one.test/debian", "http://one.test/debian-security"},
		{"another release", lines("deb http://one.test/debian trixie main contrib\ndeb http://sec.test/d trixie-security main\n"), "http://one.test/debian", "http://sec.test/d"},
		{"another project's repository", lines("deb http://other.test/linux/debian bookworm stable\n"), "", ""},
		{"other transports", lines("deb file:/srv/debian bookworm main\n"), "", ""},
		{"the first one", lines("deb http://one.test/debian sid main\ndeb http://two.test/debian bookworm main\n"), "http://one.test/debian", "http://one.test/debian-security"},
	}
	for _, tt := range tests {
		mirror, security := MachineMirrors(tt.files)
		if mirror != tt.mirror || security != tt.security {
			t.Errorf("%s: got %q and %q, want %q and %q", tt.name, mirror, security, tt.mirror, tt.security)
		}
	}
}
