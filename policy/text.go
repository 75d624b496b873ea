// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Hash is the SHA-256 of a policy's text: the launch's HOST_DATA.
func Hash(text []byte) [32]byte { return sha256.Sum256(text) }

// Text writes the policy as the confcom extension does: the text whose hash is pinned. It has no final newline, except
// in the prerelease form, whose last newline counts like every other byte.
func (p *Policy) Text() []byte { return p.text(false) }

// PrettyText writes the policy with its containers indented, for people. Its hash differs from Text's.
func (p *Policy) PrettyText() []byte { return p.text(true) }

const header = "package policy\n\nimport future.keywords.every\nimport future.keywords.in\n\n"

// trustListsLine begins the line that only texts with trust lists have.
const trustListsLine = "transparency_trust_lists := "

// egressLine begins the line that only texts with an egress list have.
const egressLine = EgressRuleName + " := "

// EgressRuleName is the name by which a text gives its Egress.
const EgressRuleName = "allow_egress"

const footer = "\nreason := {\"errors\": data.framework.errors}"

// pointsInText are the rules of the text, in its order.
var pointsInText = []string{
	"mount_device", "unmount_device", "mount_overlay", "unmount_overlay", "create_container", "exec_in_container",
	"exec_external", "shutdown_container", "signal_container_process", "plan9_mount", "plan9_unmount",
	"get_properties", "dump_stacks", "runtime_logging", "load_fragment", "scratch_mount", "scratch_unmount",
}

const rwMountDevice = "rw_mount_device"

// prereleasePoints are the further rules of the prerelease form, last in its list.
var prereleasePoints = []string{"host_network", "load_transparency_trust_list"}

// prerelease says whether the text has the prerelease form. The version alone decides, so that a reader knows too.
func (p *Policy) prerelease() bool { return p.APIVersion == PrereleaseAPI }

// allow is one allow_… line.
type allow struct {
	name  string
	value *bool
}

func (p *Policy) allows() []allow {
	list := []allow{
		{"allow_properties_access", &p.AllowPropertiesAccess},
		{"allow_dump_stacks", &p.AllowDumpStacks},
		{"allow_runtime_logging", &p.AllowRuntimeLogging},
		{"allow_environment_variable_dropping", &p.AllowEnvironmentVariableDropping},
		{"allow_unencrypted_scratch", &p.AllowUnencryptedScratch},
		{"allow_capability_dropping", &p.AllowCapabilityDropping},
	}
	if p.prerelease() {
		list = append(list, allow{"allow_host_network", &p.AllowHostNetwork})
	}
	return list
}

// points are the rules that the text has a line for, in its order.
func (p *Policy) points() []string {
	switch {
	case p.prerelease():
		return slices.Concat(pointsInText, []string{rwMountDevice}, prereleasePoints)
	case p.OmitRWMountDevice:
		return pointsInText
	}
	return slices.Concat(pointsInText, []string{rwMountDevice})
}

// rule is the line that leaves a decision to the framework.
func rule(point string) string { return fmt.Sprintf("%s := data.framework.%s\n", point, point) }

func (p *Policy) text(pretty bool) []byte {
	var b bytes.Buffer
	b.WriteString(header)
	fmt.Fprintf(&b, "api_version := %s\n", quote(p.APIVersion))
	fmt.Fprintf(&b, "framework_version := %s\n\n", quote(p.FrameworkVersion))
	fragments := make([]Fragment, 0, len(p.Fragments))
	for _, f := range p.Fragments {
		f.Includes = filled(f.Includes)
		fragments = append(fragments, f)
	}
	containers := make([]Container, 0, len(p.Containers))
	for _, c := range p.Containers {
		containers = append(containers, c.filled())
	}
	fmt.Fprintf(&b, "fragments := %s\n\n", encode(fragments, true))
	if len(p.TrustLists) > 0 {
		fmt.Fprintf(&b, "%s%s\n\n", trustListsLine, encode(filledLists(p.TrustLists), true))
	}
	if p.Egress != nil {
		fmt.Fprintf(&b, "%s%s\n\n", egressLine, encode(p.Egress.filled(), true))
	}
	fmt.Fprintf(&b, "containers := %s\n\n", encode(containers, pretty))
	for _, a := range p.allows() {
		fmt.Fprintf(&b, "%s := %t\n", a.name, *a.value)
	}
	b.WriteByte('\n')
	for _, point := range p.points() {
		b.WriteString(rule(point))
	}
	b.WriteString(footer)
	if p.prerelease() {
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// filled returns a copy whose lists are empty where they were nil: the text has no null but a missing command.
func (c Container) filled() Container {
	k := &c.Capabilities
	for _, set := range []*[]string{&k.Ambient, &k.Bounding, &k.Effective, &k.Inheritable, &k.Permitted, &c.Layers} {
		*set = filled(*set)
	}
	c.EnvRules = filled(c.EnvRules)
	c.Signals = filled(c.Signals)
	c.Mounts = filled(slices.Clone(c.Mounts))
	for i := range c.Mounts {
		c.Mounts[i].Options = filled(c.Mounts[i].Options)
	}
	c.ExecProcesses = filled(slices.Clone(c.ExecProcesses))
	for i := range c.ExecProcesses {
		c.ExecProcesses[i].Command = filled(c.ExecProcesses[i].Command)
		c.ExecProcesses[i].Signals = filled(c.ExecProcesses[i].Signals)
	}
	c.User.GroupIDNames = filled(c.User.GroupIDNames)
	return c
}

func filledLists(lists []TrustList) []TrustList {
	out := slices.Clone(lists)
	for i := range out {
		out[i].AllowedLedgers = filled(out[i].AllowedLedgers)
	}
	return out
}

func filled[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// pairRule and patternRule are the two forms of an environment rule, keys in the text's order.
type pairRule struct {
	Name          string   `json:"name"`
	NameStrategy  Strategy `json:"name_strategy"`
	Required      bool     `json:"required"`
	Value         string   `json:"value"`
	ValueStrategy Strategy `json:"value_strategy"`
}

type patternRule struct {
	Pattern  string   `json:"pattern"`
	Required bool     `json:"required"`
	Strategy Strategy `json:"strategy"`
}

// MarshalJSON writes the form that is in use.
func (r EnvRule) MarshalJSON() ([]byte, error) {
	if r.NameStrategy != "" {
		return marshal(pairRule{r.Name, r.NameStrategy, r.Required, r.Value, r.ValueStrategy})
	}
	return marshal(patternRule{r.Pattern, r.Required, r.Strategy})
}

// UnmarshalJSON reads either form and accepts no other keys.
func (r *EnvRule) UnmarshalJSON(data []byte) error {
	var pair pairRule
	if strictUnmarshal(data, &pair) == nil && pair.NameStrategy != "" {
		*r = EnvRule{
			Name: pair.Name, NameStrategy: pair.NameStrategy, Value: pair.Value, ValueStrategy: pair.ValueStrategy,
			Required: pair.Required,
		}
		return nil
	}
	var pattern patternRule
	if err := strictUnmarshal(data, &pattern); err != nil {
		return err
	}
	*r = EnvRule{Pattern: pattern.Pattern, Strategy: pattern.Strategy, Required: pattern.Required}
	return nil
}

func strictUnmarshal(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(to)
}

// marshal is json.Marshal without the escapes that are meant for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// encode writes JSON as Python's json.dumps does by default: keys in order, everything but printable ASCII escaped.
func encode(v any, indent bool) string {
	data, err := marshal(v)
	if err != nil {
		// The model holds only strings, numbers, booleans and lists of them, which always encode.
		return "null"
	}
	if indent {
		var b bytes.Buffer
		if json.Indent(&b, data, "", "  ") == nil {
			data = b.Bytes()
		}
	}
	var out strings.Builder
	out.Grow(len(data))
	for _, r := range string(data) {
		switch {
		case r == '\n' || r >= ' ' && r <= '~':
			out.WriteByte(byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&out, "\\u%04x\\u%04x", hi, lo)
		default:
			fmt.Fprintf(&out, "\\u%04x", r)
		}
	}
	return out.String()
}

// quote writes a version; anything but the usual characters is escaped, so that it cannot leave its string.
func quote(s string) string { return strconv.QuoteToASCII(s) }
