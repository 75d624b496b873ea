// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/check"
)

// refusal returns the denial in an error, or says that there is none of this code.
func refusal(err error, code string) (*guestv1.Denial, error) {
	if err == nil {
		return nil, errors.New("it was NOT refused")
	}
	d := guestv1.DenialFrom(err)
	if d == nil {
		return nil, fmt.Errorf("it failed, but the guest did not refuse it: %w", err)
	}
	if d.GetCode() != code {
		return nil, fmt.Errorf("it was refused as %s, and not as %s: %w", d.GetCode(), code, err)
	}
	return d, nil
}

// show notes a refusal and its reasons.
func (s *Step) show(d *guestv1.Denial) {
	s.add("guest", "%s: %s", d.GetPoint(), d.GetCode())
	for _, r := range d.GetReasons() {
		s.add("reason", "%s", r)
	}
}

// attackCommand starts a command that the policy allows, so that the refusal of the next one is about the command.
func (t *tour) attackCommand(ctx context.Context, s *Step) error {
	code, err := t.exec(ctx, allowedCommand)
	if err != nil {
		return fmt.Errorf("the allowed command %q: %w", plain.Command(allowedCommand), err)
	}
	if code != 0 {
		return fmt.Errorf("the allowed command %q ended with %d", plain.Command(allowedCommand), code)
	}
	s.add("allowed", "%s: ran, and ended with 0", plain.Command(allowedCommand))
	_, err = t.exec(ctx, widerCommand)
	d, err := refusal(err, guestv1.CodePolicyDenied)
	if err != nil {
		return fmt.Errorf("starting %q: %w", plain.Command(widerCommand), err)
	}
	s.add("attempt", "%s", plain.Command(widerCommand))
	s.show(d)
	if !slices.ContainsFunc(d.GetReasons(), func(r string) bool { return strings.Contains(r, "command") }) {
		return fmt.Errorf("it was refused, but not for its command: %w", d)
	}
	return nil
}

// exec starts a further command through the group's supervisor and waits for its end.
func (t *tour) exec(ctx context.Context, command []string) (int, error) {
	id, streams, err := t.client.Exec(ctx, group.ExecOptions{Command: command})
	if err != nil {
		return 0, err
	}
	defer func() { _ = streams.Close() }() // nobody reads them
	e, err := t.client.Wait(ctx, "", id)
	if err != nil {
		return 0, err
	}
	if e.Broken {
		return 0, errors.New(e.Reason)
	}
	return e.ExitCode, nil
}

// attackPolicy writes a policy that allows the wider command, and launches a machine under it. That is the host's to
// do; what it can not do is pass that machine off as one under the reviewed policy.
func (t *tour) attackPolicy(ctx context.Context, s *Step) error {
	t.clean() // one machine at a time
	g, err := t.describe(allowedCommand, widerCommand)
	if err != nil {
		return err
	}
	_, text, hash, err := t.policyFor(g)
	if err != nil {
		return err
	}
	s.add("reviewed policy", "%x", t.hash)
	s.add("the host's policy", "%x (also allows %q)", hash, plain.Command(widerCommand))
	m, err := t.bootHostile(ctx, hash)
	if err != nil {
		return err
	}
	t.hostile = m
	err = m.vm.Guest().SetPolicy(ctx, t.text)
	d, err := refusal(err, guestv1.CodePolicyMismatch)
	if err != nil {
		return fmt.Errorf("handing the reviewed policy to a machine that was launched under another: %w", err)
	}
	s.add("attempt", "hand over the reviewed text")
	s.show(d)
	err = m.vm.Guest().SetPolicy(ctx, text)
	if err != nil {
		return fmt.Errorf("handing over the policy of the launch: %w", err)
	}
	s.add("attempt", "hand over the host's own text (taken: it is this launch's), and show evidence of the machine")
	e, err := m.evidence(ctx, text)
	if err != nil {
		return err
	}
	v := verify.Appraise(ctx, e.doc, t.trusting(t.reliance(e.nonce)))
	if v.Outcome != verify.Refused || !failedOnly(v, check.CodeHostData) {
		return fmt.Errorf("the relying party's verdict is %s: %s", v.Outcome, codes(v))
	}
	for _, c := range v.Failures() {
		s.add("relying party", "%s: %s\nexpected %s\nfound    %s", v.Outcome, c.Code, c.Expected, c.Actual)
	}
	return nil
}

// attackLayer hands the machine a disk that differs from its layer in one byte.
func (t *tour) attackLayer(ctx context.Context, s *Step) error {
	m := t.hostile
	err := m.vm.Guest().MountRoot(ctx, containerID(2), sandbox.Root{Mount: []sandbox.Layer{t.layer(serialFlipped, 0, target(len(t.entries)))}})
	d, err := refusal(err, guestv1.CodeFailed)
	if err != nil {
		return fmt.Errorf("mounting the changed layer: %w", err)
	}
	s.add("attempt", "layer 0 with the lowest bit of byte %d flipped, and its true root hash", flippedByte)
	s.show(d)
	if !slices.ContainsFunc(d.GetReasons(), func(r string) bool { return strings.Contains(r, ioError) }) {
		return fmt.Errorf("it was refused, but not as a read that fails: %w", d)
	}
	// The same requests with the true disks succeed, so the byte was the reason.
	root := sandbox.Root{}
	for i := range t.entries {
		l := t.layer(serial(i), i, target(i))
		root.Mount, root.Targets = append(root.Mount, l), append(root.Targets, l.Target)
	}
	err = m.vm.Guest().MountRoot(ctx, containerID(1), root)
	if err != nil {
		return fmt.Errorf("mounting the true layers: %w", err)
	}
	s.add("control", "the true disks mount: %d layers", len(t.entries))
	return nil
}

// layer asks for one layer's disk.
func (t *tour) layer(serial string, i int, target string) sandbox.Layer {
	e := t.entries[i]
	return sandbox.Layer{Serial: serial, Root: e.RootHash, DataBlocks: e.DataBlocks, Target: target}
}

func serial(i int) string { return fmt.Sprintf("layer%d", i) }
func target(i int) string { return fmt.Sprintf("/run/mounts/scsi/m%d", i) }

// containerID is a container's ID in the hostile host's machine.
func containerID(n byte) string { return hex.EncodeToString(slices.Repeat([]byte{n}, 32)) }
