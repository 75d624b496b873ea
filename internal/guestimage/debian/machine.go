// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
)

// releases are the names that Debian's suites have had lately, newest first.
var releases = []string{"sid", "unstable", "forky", "testing", "trixie", "stable", "bookworm", "oldstable", "bullseye"}

// MachineMirrors finds the base addresses of Debian's archive and of its security updates in the apt sources below root,
// the machine's file system. They are empty where apt names none. Where only the archive is named, the security updates
// are taken to lie beside it, as on Debian's own mirrors. Whatever they are, nothing is taken from them without Debian's
// signature.
func MachineMirrors(root fs.FS) (mirror, security string) {
	files, _ := fs.Glob(root, "etc/apt/sources.list.d/*") // the pattern is valid
	for _, name := range append([]string{"etc/apt/sources.list"}, files...) {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		entries := parseOneLine(string(text))
		if path.Ext(name) == ".sources" {
			entries = parseDeb822(string(text))
		}
		for _, e := range entries {
			base := baseOf(e.base)
			if base == "" || !slices.Contains(e.components, "main") { // other repositories name suites alike
				continue
			}
			if slices.ContainsFunc(e.suites, func(s string) bool { return slices.Contains(releases, s) }) {
				mirror = firstOf(mirror, base)
			}
			if slices.ContainsFunc(e.suites, func(s string) bool {
				release, ok := strings.CutSuffix(s, "-security")
				return ok && slices.Contains(releases, release)
			}) {
				security = firstOf(security, base)
			}
		}
	}
	if mirror != "" && security == "" {
		security = mirror + "-security"
	}
	return mirror, security
}

// source is one entry of apt's sources.
type source struct {
	base       string
	suites     []string
	components []string
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
			entries = append(entries, source{base: f[0], suites: f[1:2], components: f[2:]})
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
			entries = append(entries, source{base: base, suites: strings.Fields(fields["suites"]), components: strings.Fields(fields["components"])})
		}
	}
	return entries
}

// baseOf reduces a repository address to what a sources.list line needs, or "" if it is none over HTTP.
func baseOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return ""
	}
	return strings.TrimSuffix(u.String(), "/")
}
