// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
	"cofferdam.dev/verify/anchor"
)

// The shape of the tour's machines.
const (
	vcpus     = 1
	memoryMiB = 512
	// redisPort is where the application listens inside.
	redisPort = 6379
)

// Timeouts of the tour's parts, for a loaded machine without hardware virtualization.
const (
	stopTimeout  = 5 * time.Second
	cleanTimeout = time.Minute
)

// The further commands that play a part: one that the policy allows, and a wider one that it does not.
var (
	allowedCommand = []string{"redis-server", "--version"}
	widerCommand   = []string{"redis-server", "--bind", "0.0.0.0", "--port", "7777", "--protected-mode", "no"}
)

// Config says what the tour works with.
type Config struct {
	// Home is the state directory.
	Home string
	// Reference is an image of a Redis server, whose layers the tour converts.
	Reference string
	// Sidecar is an image of the release sidecar, and Application one with busybox and OpenSSL. Without both the tour
	// ends before keys are released.
	Sidecar, Application string
	// Accelerator is kvm, tcg or auto.
	Accelerator string
	// Supervisor is the command line that supervises a group, without its name.
	Supervisor []string
	// Shown is called with each step when it is done.
	Shown func(*Step)
	// Begun is called with a few words when something slow begins; it may be nil.
	Begun func(string)
	// Now is the clock.
	Now func() time.Time
}

// tour is one run: what the steps hand on to each other.
type tour struct {
	cfg    Config
	report *Report

	image    *image.Image
	entries  []layer.Entry
	spec     *spec.Group
	parts    *assemble.Parts
	text     []byte
	hash     [32]byte
	guest    *guestimage.Image
	emulator *qemu.Emulator
	choice   qemu.Choice
	boot     group.Boot
	expected [48]byte

	store  *group.Store
	group  *group.Created
	client *group.Client

	current *evidenceOf
	root    anchor.Root

	hostile *hostile

	owner    *owner
	pair     *spec.Group
	prepared *deploy.Prepared

	data *dataSet
}

// errStopped ends the tour after a step that failed: the later ones build on it.
var errStopped = errors.New("a step failed")

// Run takes the tour. The report is complete up to the first step that failed.
func Run(ctx context.Context, cfg Config) *Report {
	t := &tour{cfg: cfg, report: &Report{Schema: Schema, Simulated: true, Image: cfg.Reference, Steps: []Step{}}}
	began := cfg.Now()
	err := t.run(ctx)
	t.clean()
	t.endHostile()
	t.forgetData()
	if t.owner != nil {
		err = errors.Join(err, t.owner.close())
	}
	t.report.Passed = err == nil
	t.report.Milliseconds = cfg.Now().Sub(began).Milliseconds()
	return t.report
}

// planned is a step that is to be taken.
type planned struct {
	step Step
	do   func(context.Context, *Step) error
}

// job is the main job: an unmodified image in a measured machine, and a host that gets nowhere.
func (t *tour) job() []planned {
	return []planned{
		{Step{Code: "image", Title: "An unmodified image", Proves: "every byte is read against this digest"}, t.openImage},
		{Step{Code: "layers", Title: "Each layer becomes a disk with a root hash",
			Proves: "the root hashes cover every block, and anybody computes the same ones from the same image"}, t.convert},
		{Step{Code: "policy", Title: "A policy is written for exactly this",
			Proves: "its hash stands for what may run: this command over these layers, and nothing else"}, t.writePolicy},
		{Step{Code: "measurement", Title: "What the machine will boot, measured beforehand",
			Proves: "the launch digest is known before anything runs, from the guest image alone"}, t.measure},
		{Step{Code: "boot", Title: "A machine boots under the policy's hash",
			Proves: "the guest took the policy because its hash is the one fixed at launch, and opened each layer by its root hash"}, t.launch},
		{Step{Code: "report", Title: "The processor reports, over a nonce of the relying party",
			Proves: "the report names this measurement, this policy and this nonce; so far it only claims to"}, t.attest},
		{Step{Code: "verdict", Title: "The relying party appraises the evidence",
			Proves: "signature, chain, measurement, policy and nonce hold; and the simulated root counts only because it was named"}, t.appraise},
		{Step{Code: "application", Title: "The application answers through a forwarded port",
			Proves: "the unmodified server works inside"}, t.ask},
		{Step{Code: "attack-command", Title: "the host starts a wider command in the running container", Attack: true,
			Proves: "the policy lists one further command; the guest asked it before it acted"}, t.attackCommand},
		{Step{Code: "attack-policy", Title: "the host launches a machine under a policy of its own", Attack: true,
			Proves: "the reviewed text is not what this launch binds, and the relying party sees the other hash"}, t.attackPolicy},
		{Step{Code: "attack-layer", Title: "the host changes one byte of a layer", Attack: true,
			Proves: "the guest reads through the root hash: a changed block is an error and never data"}, t.attackLayer},
	}
}

// keys is what the job is for: a key goes to a group that proves what it is, and to nobody else.
func (t *tour) keys() []planned {
	if t.cfg.Sidecar == "" || t.cfg.Application == "" {
		return nil
	}
	return []planned{
		{Step{Code: "domain", Title: "A data owner has a vault, and an attestation service that it believes",
			Proves: "who decides is chosen by the data owner: neither of them trusts the host"}, t.serveDomain},
		{Step{Code: "key", Title: "A key is imported, for the group of one policy",
			Proves: "the policy pins the application, the sidecar, and whom the sidecar trusts; the key is bound to its hash, and to the guest that enforces it"}, t.importKey},
		{Step{Code: "release", Title: "The application gets the key through the sidecar on localhost, and decrypts",
			Proves: "the vault saw evidence of this guest under this policy, and wrapped the key to one that was born in it"}, t.release},
		{Step{Code: "attack-release", Title: "the host changes one byte of the group's policy", Attack: true,
			Proves: "another byte is another hash: the guest runs under the host's policy, and the vault gives it nothing"}, t.attackRelease},
	}
}

// volumes is what a key can be for: data on storage of others.
func (t *tour) volumes() []planned {
	return []planned{
		{Step{Code: "volume", Title: "A data set is encrypted for storage that nobody trusts",
			Proves: "the storage holds nothing that can be read; the key and the number of the last state are kept elsewhere"}, t.encryptData},
		{Step{Code: "attack-blocks", Title: "the storage changes one bit of a block", Attack: true,
			Proves: "what is read is what was written last, or an error: every block is bound to its place and its version"}, t.attackBlocks},
		{Step{Code: "attack-rollback", Title: "the storage puts an older state back, every byte of it genuine", Attack: true,
			Proves: "the anchor knows a later state than the storage shows"}, t.attackRollback},
	}
}

func (t *tour) run(ctx context.Context) error {
	for _, s := range slices.Concat(t.job(), t.keys(), t.volumes()) {
		err := t.step(ctx, s.step, s.do)
		if err != nil {
			return err
		}
	}
	return nil
}

// step takes one step and shows it.
func (t *tour) step(ctx context.Context, s Step, do func(context.Context, *Step) error) error {
	s.Facts = []Fact{}
	began := t.cfg.Now()
	err := ctx.Err()
	if err == nil {
		err = do(ctx, &s)
	}
	s.Milliseconds = t.cfg.Now().Sub(began).Milliseconds()
	s.OK = err == nil
	if err != nil {
		s.Error = err.Error()
	}
	t.report.Steps = append(t.report.Steps, s)
	t.cfg.Shown(&s)
	if err != nil {
		return errStopped
	}
	return nil
}

func (t *tour) begin(format string, args ...any) {
	if t.cfg.Begun != nil {
		t.cfg.Begun(fmt.Sprintf(format, args...))
	}
}

// clean ends the group, if it still runs. The group removes itself when it has ended.
func (t *tour) clean() {
	if t.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	_ = t.client.Stop(ctx, stopTimeout) // it has ended already, or will not
	select {
	case <-t.client.Done():
	case <-ctx.Done():
	}
	_ = t.client.Close() // likewise
	t.client = nil
}

// endHostile takes the hostile host's machine down, if it runs.
func (t *tour) endHostile() {
	if t.hostile != nil {
		t.hostile.end()
		t.hostile = nil
	}
}

// describe makes the group of the tour, with the further commands that its policy allows.
func (t *tour) describe(allow ...[]string) (*spec.Group, error) {
	g := &spec.Group{CPUs: vcpus, MemoryMiB: memoryMiB, Containers: []spec.Container{{
		Image: t.cfg.Reference, AllowStdio: true, AllowPrivilegeEscalation: true, AllowExec: allow,
	}}}
	return g, g.Validate()
}

// policyFor makes a policy of a description.
func (t *tour) policyFor(g *spec.Group) (*assemble.Parts, []byte, [32]byte, error) {
	parts, err := assemble.Container(g, t.image, t.entries, assemble.Options{StopTimeout: stopTimeout})
	if err != nil {
		return nil, nil, [32]byte{}, err
	}
	text := parts.Policy.Text()
	return parts, text, policy.Hash(text), nil
}
