// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"regexp"
	"strings"

	"cofferdam.dev/policy/replay"
)

// advise says what to do about a reason that is not about a container's entry.
func advise(reason string, step replay.Step) (Fault, bool) {
	if m := switchOff.FindStringSubmatch(reason); m != nil {
		return Fault{Reason: reason, Field: "rule", Rule: m[1], Expected: "true", Actual: "false", Fix: m[1] + " := true"}, true
	}
	if m := missingRule.FindStringSubmatch(reason); m != nil {
		return Fault{
			Reason: reason, Field: "rule", Rule: m[1], Expected: "a rule", Actual: "none", Fix: m[1] + " := data.framework." + m[1],
		}, true
	}
	for _, a := range advice {
		if strings.HasPrefix(reason, a.reason) {
			return Fault{
				Reason: reason, Field: a.field, Rule: a.rule, Expected: a.expected, Actual: show(step.Input[a.field]), Fix: a.fix,
			}, true
		}
	}
	return Fault{}, false
}

var (
	switchOff   = regexp.MustCompile(`is not allowed: (allow_[a-z_]+) is false$`)
	missingRule = regexp.MustCompile(`^rule for ([a-z_]+) is missing from policy$`)
)

var advice = []struct{ reason, field, rule, expected, fix string }{
	{"mountpoint invalid", "target", "", "a path of the form that mountPathRegex gives", "the host must mount where guests expect it"},
	{"device already mounted at path", "target", "", "a path where nothing is mounted", "mount elsewhere, or unmount first"},
	{"overlay has already been mounted", "containerID", "", "an ID, and a target, that have no overlay yet", "use a new container ID: each gets one overlay, once"},
	{"container already started", "containerID", "", "an ID that was never created", "use a new container ID: an ID cannot be created twice, also not after its end"},
	{"container not started", "containerID", "", "an ID that was created, and not shut down", "create the container first"},
	{"no device at path to unmount", "unmountTarget", "", "a path where a device is mounted", "nothing is to be done: it is not mounted"},
	{"no overlay at path to unmount", "unmountTarget", "", "a path where an overlay is mounted", "nothing is to be done: it is not mounted"},
	{"no scratch at path to unmount", "unmountTarget", "", "a path where scratch space is mounted", "nothing is to be done: it is not mounted"},
	{"scratch already mounted at path", "target", "", "a path where no scratch space is mounted", "mount elsewhere, or unmount first"},
	{"unencrypted scratch not allowed", "encrypted", "allow_unencrypted_scratch", "true", "encrypt it, or allow_unencrypted_scratch := true"},
	{"ensureFilesystem must be set", "ensureFilesystem", "", "true", "let the guest make the file system"},
	{"rw device mounts uses a filesystem", "filesystem", "", `"ext4" or "xfs"`, "use ext4 or xfs"},
	{"devices not supported", "devices", "", "none", "start the container without devices: no policy can allow them"},
	{"invalid fragment issuer", "issuer", "fragments[].issuer", "an issuer that the policy lists", "list the fragment's issuer and feed in the policy"},
	{"invalid fragment feed", "feed", "fragments[].feed", "a feed that the policy lists for this issuer", "list the fragment's feed in the policy"},
	{"fragment svn is below", "header_svn", "fragments[].minimum_svn", "the policy's minimum_svn or more", "load a newer fragment"},
	{"missing receipt", "receipts", "fragments[].required_receipts", "receipts of the ledgers that the policy names", "load the trust list that names the ledger's key first, or register the fragment with the ledger"},
	{"no TTL candidate matches", "issuer", "transparency_trust_lists[]", "an issuer, subject and svn that the policy accepts", "list the trust list's issuer and subject in the policy, or load a newer list"},
	{"The provided TTL does not contain any ledgers", "ledgers", "transparency_trust_lists[].allowed_ledgers", "a ledger that the policy allows the list to name", "allow the ledger in the policy"},
	{"containers only distinguishable by allow_stdio_access", "", "containers[].allow_stdio_access", "one value among containers that fit the same request", "give them the same allow_stdio_access"},
	{"containers only distinguishable by capabilties", "capabilities", "containers[].capabilities", "one largest set among containers that fit the same request", "ask for exactly the capabilities of one container"},
	{"framework_version is ahead", "", "framework_version", "a version that the guest knows", "use a newer guest image, or generate the policy for an older one"},
}
