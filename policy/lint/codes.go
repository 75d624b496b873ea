// SPDX-License-Identifier: Apache-2.0

package lint

// Severity says how bad a finding is.
type Severity string

// The severities, worst first.
const (
	Error   Severity = "error"   // the policy does not do what a policy is for, or does not work
	Warning Severity = "warning" // it allows more than most groups need, or tells more than it should
	Note    Severity = "note"    // worth knowing; also what could not be judged
)

var ranks = map[Severity]int{Error: 3, Warning: 2, Note: 1}

// AtLeast says whether s is as bad as t, or worse. An unknown severity is worse than any other.
func (s Severity) AtLeast(t Severity) bool {
	rank := func(x Severity) int {
		if r, ok := ranks[x]; ok {
			return r
		}
		return len(ranks) + 1
	}
	return rank(s) >= rank(t)
}

// Code identifies a kind of finding. Codes are stable.
type Code string

// The codes.
const (
	Refused            Code = "REFUSED"
	OldAPI             Code = "OLD_API_VERSION"
	OldFramework       Code = "OLD_FRAMEWORK_VERSION"
	OpenPoint          Code = "OPEN_POINT"
	MissingRule        Code = "MISSING_RULE"
	UnknownRule        Code = "UNKNOWN_RULE"
	CustomRule         Code = "CUSTOM_RULE"
	NotUnderstood      Code = "NOT_UNDERSTOOD"
	NoContainers       Code = "NO_CONTAINERS"
	NoLayers           Code = "NO_LAYERS"
	NullCommand        Code = "NULL_COMMAND"
	Indistinguishable  Code = "INDISTINGUISHABLE"
	Duplicate          Code = "DUPLICATE_CONTAINER"
	BadPattern         Code = "BAD_PATTERN"
	Alternation        Code = "ALTERNATION"
	EscapedAnchor      Code = "ESCAPED_ANCHOR"
	AnyVariable        Code = "ANY_VARIABLE"
	AnyValue           Code = "ANY_VALUE"
	Secret             Code = "SECRET_IN_TEXT"
	MutableTag         Code = "MUTABLE_TAG"
	Elevated           Code = "ELEVATED"
	AnyUser            Code = "ANY_USER"
	MoreCapabilities   Code = "MORE_CAPABILITIES"
	GuestPath          Code = "GUEST_PATH_MOUNT"
	DebugShell         Code = "DEBUG_SHELL"
	DumpStacks         Code = "DUMP_STACKS"
	RuntimeLogging     Code = "RUNTIME_LOGGING"
	UnencryptedScratch Code = "UNENCRYPTED_SCRATCH"
	FragmentSVN        Code = "FRAGMENT_SVN"
	FragmentIssuer     Code = "FRAGMENT_ISSUER"
	FragmentNamespace  Code = "FRAGMENT_NAMESPACE"
	FragmentReceipts   Code = "FRAGMENT_RECEIPTS"
	EgressEscape       Code = "EGRESS_ESCAPE"
	EgressAnywhere     Code = "EGRESS_ANYWHERE"
)

// Rule describes a code.
type Rule struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Why      string   `json:"why"`
	Fix      string   `json:"fix"`
}

// Rules are all that is looked for, in the order of the reference page.
func Rules() []Rule {
	return []Rule{
		{Refused, Error, "the guest refuses to load the policy: a group under it never starts", "change what the message names"},
		{OldAPI, Error, "enforcement points that were added after this api_version are open", "generate the policy anew: api_version 0.10.0 or newer"},
		{OpenPoint, Error, "the enforcement point allows a request that nothing in the policy lists", "hand it to the framework: NAME := data.framework.NAME"},
		{Indistinguishable, Error, "containers differ in allow_stdio_access alone: a request that fits both is denied", "give them the same allow_stdio_access, or different commands"},
		{BadPattern, Error, "the pattern is no regular expression: the rule makes its container unusable", "correct the pattern"},
		{Alternation, Error, "anchors are added to the ends of the text, and a | at its top level separates them: more matches than it seems", "put parentheses around the alternatives: (a|b)"},
		{EscapedAnchor, Error, "the pattern ends in an escaped $, which is taken for an anchor: anything may follow", "write [$] in place of \\$"},
		{AnyVariable, Error, "the rule admits variables of any name, also those that make a program load other code", "list the variables by name"},
		{Secret, Error, "a policy is public: whoever runs or checks the group reads it", "deliver the secret after attestation, and take it out of the policy"},

		{OldFramework, Warning, "fields that this framework_version does not know are not enforced", "generate the policy anew"},
		{MissingRule, Warning, "the api_version knows the enforcement point and the policy has no rule for it: always denied", "add NAME := data.framework.NAME"},
		{UnknownRule, Warning, "nobody asks for a rule of this name; a misspelt rule is a missing one", "correct the name, or remove the rule"},
		{NoContainers, Warning, "the policy lists no container, and no fragment may bring one", "list the containers"},
		{NoLayers, Warning, "a container without layers can never be mounted", "list the layers' root hashes"},
		{NullCommand, Warning, "a container whose command is null can never start", "give the command, or remove the container"},
		{AnyValue, Warning, "the host chooses the variable's value", "give the value, or a pattern that is as narrow as possible"},
		{Elevated, Warning, "the container may run privileged: it can change the guest that confines it", "use single capabilities instead"},
		{MoreCapabilities, Warning, "the container has capabilities beyond the runtime's default", "drop those that the program does not need"},
		{GuestPath, Warning, "the mount's source is a fixed path of the guest", "use a volume: a source below sandbox://"},
		{DebugShell, Warning, "the host may start a shell in the container, and see what it sees", "take the shell out of exec_processes"},
		{DumpStacks, Warning, "the host may read the agent's stacks", "set allow_dump_stacks to false"},
		{RuntimeLogging, Warning, "the host may read the agent's log", "set allow_runtime_logging to false"},
		{EgressEscape, Warning, "the container can get around allow_egress: it may change the guest that enforces it", "take the privilege from the container"},
		{EgressAnywhere, Warning, "the rule allows connections to every address: allow_egress limits little", "give the prefixes that the group needs"},
		{UnencryptedScratch, Warning, "what containers write may lie in clear on the host's disk", "set allow_unencrypted_scratch to false"},
		{FragmentSVN, Warning, "no minimum_svn that means something: old, vulnerable fragments may be loaded", "give the lowest acceptable version"},
		{FragmentIssuer, Warning, "the issuer is no did:x509 identity: no fragment can have it", "give the issuer as did:x509:0:sha256:..."},
		{FragmentNamespace, Warning, "the fragment's own rules stay loaded beside the policy's", "include what is needed: containers, fragments"},
		{FragmentReceipts, Warning, "the fragment must have receipts, and the policy loads no trust list with ledgers' keys: nothing meets the requirement", "accept a trust list, with api_version 0.12.0 and framework_version 0.5.0"},

		{Duplicate, Note, "the container is listed twice", "remove one"},
		{MutableTag, Note, "the image is named by a tag, which may mean another image tomorrow; layers are pinned all the same", "name it by digest: IMAGE@sha256:..."},
		{AnyUser, Note, "the host chooses the user that the container runs as", "set the user"},
		{CustomRule, Note, "the policy decides this point by a rule of its own, which was asked but not understood", "judge it yourself, or hand it to the framework"},
		{NotUnderstood, Note, "this part of the policy could not be read without running it, and was not judged", "write it as a constant"},
	}
}
