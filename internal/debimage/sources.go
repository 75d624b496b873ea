// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// sourcesList returns the private sources.list: Debian's suites from the mirrors that the machine itself uses.
func sourcesList(root fs.FS) string {
	main, security := mirrors(root)
	var b strings.Builder
	for _, s := range []struct{ base, suite string }{
		{main, suite}, {main, suite + "-updates"}, {security, suite + "-security"},
	} {
		fmt.Fprintf(&b, "deb [arch=%s signed-by=%s] %s %s main\n", architecture, archiveKeyring, s.base, s.suite)
	}
	return b.String()
}

// mirrors finds the addresses of the suite and of its security updates in the machine's apt sources. Whatever they
// are, every package list must carry Debian's signature.
func mirrors(root fs.FS) (main, security string) {
	main, security = defaultMirror, defaultSecurity
	files, _ := fs.Glob(root, "etc/apt/sources.list.d/*") // the pattern is valid
	for _, name := range append([]string{"etc/apt/sources.list"}, files...) {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		var entries []source
		if path.Ext(name) == ".sources" {
			entries = parseDeb822(string(text))
		} else {
			entries = parseOneLine(string(text))
		}
		for _, e := range entries {
			base := baseOf(e.base)
			if base == "" {
				continue
			}
			if slices.Contains(e.suites, suite) {
				main = base
			}
			if slices.Contains(e.suites, suite+"-security") {
				security = base
			}
		}
	}
	return main, security
}

// source is one entry of apt's sources.
type source struct {
	base   string
	suites []string
}

// parseOneLine reads sources in the form "deb [options] URI suite component…".
func parseOneLine(text string) []source {
	var entries []source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		if _, after, found := strings.Cut(rest, "]"); found {
			rest = after
		}
		f := strings.Fields(rest)
		if len(f) >= 2 {
			entries = append(entries, source{base: f[0], suites: f[1:2]})
		}
	}
	return entries
}

// parseDeb822 reads sources in the form of stanzas with Types, URIs and Suites.
func parseDeb822(text string) []source {
	var entries []source
	for stanza := range strings.SplitSeq(text, "\n\n") {
		fields := map[string]string{}
		for line := range strings.Lines(stanza) {
			name, value, ok := strings.Cut(line, ":")
			if ok && !strings.HasPrefix(line, "#") {
				fields[strings.ToLower(name)] = strings.TrimSpace(value)
			}
		}
		if strings.EqualFold(fields["enabled"], "no") || !slices.Contains(strings.Fields(fields["types"]), "deb") {
			continue
		}
		for _, base := range strings.Fields(fields["uris"]) {
			entries = append(entries, source{base: base, suites: strings.Fields(fields["suites"])})
		}
	}
	return entries
}
