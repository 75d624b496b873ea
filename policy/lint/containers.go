// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/outline"
)

func (l *linter) containers() {
	list := l.outline.Containers
	rule, has := l.outline.Rules["containers"]
	brings := func(f outline.Fragment) bool { return slices.Contains(f.Includes, "containers") }
	if len(list) == 0 && (!has || string(rule.Constant) != "") && !slices.ContainsFunc(l.outline.Fragments, brings) {
		l.add(NoContainers, rule.Line, "containers", "no container is listed")
	}
	twins := map[string]int{}
	for i, c := range list {
		at := fmt.Sprintf("containers[%d]", i)
		l.container(c, at)
		key := twinKey(c.Container)
		first, again := twins[key]
		switch {
		case !again:
			twins[key] = i
		case list[first].AllowStdioAccess == c.AllowStdioAccess:
			l.add(Duplicate, c.Line, at, "%s is the same as containers[%d]", describe(c, i), first)
		default:
			l.add(Indistinguishable, c.Line, at, "%s differs from containers[%d] in allow_stdio_access alone", describe(c, i), first)
		}
	}
}

// twinKey is the same for containers that no request can tell apart.
func twinKey(c policy.Container) string {
	c.ID, c.Name, c.AllowStdioAccess = "", "", false
	key, err := json.Marshal(c)
	if err != nil {
		return "" // the model always encodes
	}
	return string(key)
}

func describe(c outline.Container, i int) string {
	switch {
	case c.Name != "":
		return fmt.Sprintf("container %q", c.Name)
	case c.ID != "":
		return fmt.Sprintf("container %q", c.ID)
	}
	return fmt.Sprintf("container %d", i+1)
}

func (l *linter) container(c outline.Container, at string) {
	l.startable(c, at)
	l.image(c, at)
	for i, r := range c.EnvRules {
		l.envRule(r, c.Line, fmt.Sprintf("%s.env_rules[%d]", at, i))
	}
	for i, m := range c.Mounts {
		l.mount(m, c.Line, fmt.Sprintf("%s.mounts[%d]", at, i))
	}
	for i, e := range c.ExecProcesses {
		if shell(e.Command) {
			l.add(DebugShell, c.Line, fmt.Sprintf("%s.exec_processes[%d]", at, i), "%s may be started", e.Command[0])
		}
	}
	one := policy.Policy{Containers: []policy.Container{c.Container}}
	for _, s := range one.Secrets() {
		l.add(Secret, c.Line, at, "%s looks like a secret by %s", s.Place, s.Why)
	}
	l.privileges(c, at)
	for i, u := range append([]policy.IDName{c.User.UserIDName}, c.User.GroupIDNames...) {
		where := at + ".user.user_idname"
		if i > 0 {
			where = fmt.Sprintf("%s.user.group_idnames[%d]", at, i-1)
		}
		if u.Strategy == policy.StrategyRegexp {
			l.pattern(u.Pattern, c.Line, where)
		}
	}
}

func (l *linter) startable(c outline.Container, at string) {
	if c.Command == nil {
		l.add(NullCommand, c.Line, at+".command", "the command is null")
	}
	if len(c.Layers) == 0 {
		l.add(NoLayers, c.Line, at+".layers", "no layers are listed")
	}
}

func (l *linter) image(c outline.Container, at string) {
	if c.ID != "" && !strings.Contains(c.ID, "@sha256:") && !strings.HasPrefix(c.ID, "sha256:") {
		l.add(MutableTag, c.Line, at+".id", "%s is not named by digest", c.ID)
	}
}

func shell(command []string) bool {
	names := []string{"sh", "bash", "ash", "dash", "zsh", "ksh", "busybox"}
	return len(command) == 1 && slices.Contains(names, path.Base(command[0]))
}

var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

func (l *linter) privileges(c outline.Container, at string) {
	if c.AllowElevated {
		l.add(Elevated, c.Line, at+".allow_elevated", "allow_elevated is true")
	}
	if c.User.UserIDName.Strategy == policy.StrategyAny {
		l.add(AnyUser, c.Line, at+".user.user_idname", "any user is allowed")
	}
	var more []string
	for _, set := range [][]string{
		c.Capabilities.Bounding, c.Capabilities.Effective, c.Capabilities.Permitted, c.Capabilities.Inheritable, c.Capabilities.Ambient,
	} {
		for _, name := range set {
			if !slices.Contains(defaultCapabilities, name) && !slices.Contains(more, name) {
				more = append(more, name)
			}
		}
	}
	if len(more) > 0 {
		const most = 5
		text := strings.Join(more[:min(most, len(more))], ", ")
		if len(more) > most {
			text += fmt.Sprintf(" and %d more", len(more)-most)
		}
		l.add(MoreCapabilities, c.Line, at+".capabilities", "it has %s", text)
	}
}

func (l *linter) mount(m policy.Mount, line int, at string) {
	for _, prefix := range []string{"sandbox://", "hugepages://", "plan9://"} {
		rest, ok := strings.CutPrefix(m.Source, prefix)
		if !ok {
			continue
		}
		if prefix != "plan9://" {
			l.pattern(rest, line, at+".source")
		}
		return
	}
	l.add(GuestPath, line, at+".source", "%s is mounted from %q", m.Destination, m.Source)
}

var svn = regexp.MustCompile(`^([0-9]+|[0-9]+\.[0-9]+\.[0-9]+)$`)

func (l *linter) fragments() {
	for i, f := range l.outline.Fragments {
		at := fmt.Sprintf("fragments[%d]", i)
		if !svn.MatchString(f.MinimumSVN) || strings.Trim(f.MinimumSVN, "0.") == "" {
			l.add(FragmentSVN, f.Line, at+".minimum_svn", "minimum_svn is %q", f.MinimumSVN)
		}
		if !strings.HasPrefix(f.Issuer, "did:x509:") {
			l.add(FragmentIssuer, f.Line, at+".issuer", "the issuer is %q", f.Issuer)
		}
		if slices.Contains(f.Includes, "namespace") {
			l.add(FragmentNamespace, f.Line, at+".includes", "it includes its namespace")
		}
		if len(f.RequiredReceipts) > 0 && !l.loadsTrustLists() {
			l.add(FragmentReceipts, f.Line, at+".required_receipts", "%s", strings.Join(f.RequiredReceipts, ", "))
		}
	}
}

// loadsTrustLists says whether the policy, or a fragment of it, may accept a trust list.
func (l *linter) loadsTrustLists() bool {
	_, lists := l.outline.Rules["transparency_trust_lists"]
	brings := func(f outline.Fragment) bool { return slices.Contains(f.Includes, "transparency_trust_lists") }
	_, rule := l.outline.Rules[string(engine.PointLoadTrustList)]
	return rule && (lists || slices.ContainsFunc(l.outline.Fragments, brings))
}
