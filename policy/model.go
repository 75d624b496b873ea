// SPDX-License-Identifier: Apache-2.0

package policy

// The versions that the deployed service understands. Generated policies carry them unless asked otherwise.
const (
	DeployedAPI       = "0.11.0"
	DeployedFramework = "0.2.3"
)

// The versions of confcom's prerelease form, whose text has three lines more than that of the deployed one.
const (
	PrereleaseAPI       = "0.12.0"
	PrereleaseFramework = "0.5.0"
)

// Policy is one policy document. Its zero value lists no container and allows nothing.
type Policy struct {
	APIVersion       string
	FrameworkVersion string

	Fragments  []Fragment
	Containers []Container

	// TrustLists say which signed lists of ledgers may be loaded. The text has a line for them where there are any;
	// confcom makes none.
	TrustLists []TrustList

	// Egress limits what the containers may connect to; nil does not. The text has a line for it where there is one;
	// confcom makes none, and guests other than ours do not know it.
	Egress *Egress

	AllowPropertiesAccess            bool
	AllowDumpStacks                  bool
	AllowRuntimeLogging              bool
	AllowEnvironmentVariableDropping bool
	AllowUnencryptedScratch          bool
	AllowCapabilityDropping          bool

	// AllowHostNetwork lets containers use the host's network. Only the prerelease form has a line for it.
	AllowHostNetwork bool

	// OmitRWMountDevice leaves the rw_mount_device line out, as texts of api_version 0.10.0 did.
	OmitRWMountDevice bool
}

// Fragment names signed policy fragments that may be loaded: by issuer and feed, from a minimum security version on.
type Fragment struct {
	Feed       string   `json:"feed"`
	Includes   []string `json:"includes"`
	Issuer     string   `json:"issuer"`
	MinimumSVN string   `json:"minimum_svn"`

	// RequiredReceipts are all needed: each is the name of a ledger, "TTL:" and the subject of a trust list that names
	// the ledger's key, or "*" for any ledger of any loaded trust list.
	RequiredReceipts []string `json:"required_receipts,omitempty"`
}

// TrustList names signed lists of ledgers and their keys (transparency trust lists) that may be loaded: by issuer and
// subject, from a minimum security version on. Receipts of the ledgers that it allows then count.
type TrustList struct {
	AllowedLedgers []string `json:"allowed_ledgers"` // by name; "*" is every ledger of the list
	Issuer         string   `json:"issuer"`
	MinimumSVN     string   `json:"minimum_svn"`
	Subject        string   `json:"subject"`
}

// Container describes one container that may be created, completely: whatever is not listed is denied.
type Container struct {
	AllowElevated        bool          `json:"allow_elevated"`
	AllowStdioAccess     bool          `json:"allow_stdio_access"`
	Capabilities         Capabilities  `json:"capabilities"`
	Command              []string      `json:"command"` // nil is written as null: such a container can never start
	EnvRules             []EnvRule     `json:"env_rules"`
	ExecProcesses        []ExecProcess `json:"exec_processes"`
	ID                   string        `json:"id,omitempty"` // the image reference; left out when empty
	Layers               []string      `json:"layers"`       // dm-verity root hashes, base layer first
	Mounts               []Mount       `json:"mounts"`
	Name                 string        `json:"name,omitempty"`
	NoNewPrivileges      bool          `json:"no_new_privileges"`
	SeccompProfileSHA256 string        `json:"seccomp_profile_sha256"`
	Signals              []int         `json:"signals"`
	User                 User          `json:"user"`
	WorkingDir           string        `json:"working_dir"`
}

// Strategy says how a pattern is compared.
type Strategy string

// The strategies. Any exists for users and groups only, Name and ID too; Regexp and String for environment rules,
// Regexp and Name for groups.
const (
	StrategyString Strategy = "string"
	StrategyRegexp Strategy = "re2"
	StrategyAny    Strategy = "any"
	StrategyName   Strategy = "name"
	StrategyID     Strategy = "id"
)

// EnvRule admits environment variables. It has two forms: Pattern and Strategy over the whole NAME=VALUE, or, since
// framework 0.5.0, name and value apart. The second form is in use when NameStrategy is set.
type EnvRule struct {
	Pattern  string
	Strategy Strategy

	Name          string
	NameStrategy  Strategy
	Value         string
	ValueStrategy Strategy

	Required bool
}

// Mount is one bind mount (or, for defaults, any mount) of a container. Source is a regular expression in a policy and
// a path in a request.
type Mount struct {
	Destination string   `json:"destination"`
	Options     []string `json:"options"`
	Source      string   `json:"source"`
	Type        string   `json:"type"`
}

// User says as whom a container's processes run.
type User struct {
	GroupIDNames []IDName `json:"group_idnames"`
	Umask        string   `json:"umask"`
	UserIDName   IDName   `json:"user_idname"`
}

// IDName matches a user or group by name, number or anything.
type IDName struct {
	Pattern  string   `json:"pattern"`
	Strategy Strategy `json:"strategy"`
}

// Capabilities are the five Linux capability sets of a process, as lists of CAP_ names.
type Capabilities struct {
	Ambient     []string `json:"ambient"`
	Bounding    []string `json:"bounding"`
	Effective   []string `json:"effective"`
	Inheritable []string `json:"inheritable"`
	Permitted   []string `json:"permitted"`
}

// ExecProcess is a further command that may be started in a running container, and the signals it may receive.
type ExecProcess struct {
	Command []string `json:"command"`
	Signals []int    `json:"signals"`
}
