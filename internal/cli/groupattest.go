// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"
)

const (
	// randomNonce is the size of a nonce that nobody chose.
	randomNonce = 32
	// The guest takes nonces of 8 to 64 bytes and at most 4096 bytes of runtime data.
	minNonce, maxNonce = 8, 64
	maxRuntimeData     = 4096
)

func (a *app) attestCommand() *cobra.Command {
	var q evidenceQuestion
	c := &cobra.Command{
		Use:   "attest GROUP --nonce HEX|random",
		Short: "Get evidence of what runs in a group",
		Long: `Ask the guest of a group for evidence: a report, signed by the processor, over the launch
measurement, the hash of the policy, and your nonce. It is printed as JSON, for
` + "`cofferdam verify`" + `.

The nonce is what makes the evidence fresh: choose it yourself, where you verify. Evidence
that the host asked for says so, and can not stand for a workload's own.`,
		Example: `  cofferdam group attest db --nonce 00112233445566778899aabbccddeeff > evidence.json
  cofferdam group attest db --nonce random --runtime-data request.bin > evidence.json`,
		Args:              arguments(1, 1, "the name of a group"),
		ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.answerWith(cmd, &q, func(ctx context.Context) ([]byte, error) { return a.attest(ctx, args[0], q.nonce, q.runtimeData) })
		},
	}
	q.flags(c)
	return c
}

// evidenceQuestion is what somebody who wants evidence asks for.
type evidenceQuestion struct {
	nonceText, file    string
	nonce, runtimeData []byte
}

func (q *evidenceQuestion) flags(c *cobra.Command) {
	c.Flags().StringVar(&q.nonceText, "nonce", "", "the verifier's nonce in hexadecimal (8 to 64 bytes), or random")
	c.Flags().StringVar(&q.file, "runtime-data", "", "file whose bytes the report commits to as well (at most 4096)")
}

// answerWith reads the question, gets the evidence, and writes it.
func (a *app) answerWith(cmd *cobra.Command, q *evidenceQuestion, get func(context.Context) ([]byte, error)) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	var err error
	if q.nonce, err = parseNonce(cmd, q.nonceText); err != nil {
		return err
	}
	if q.nonceText == "random" {
		a.say("nonce: %x", q.nonce)
	}
	if q.runtimeData, err = readRuntimeData(q.file); err != nil {
		return err
	}
	b, err := get(ctx)
	if err != nil {
		return err
	}
	if _, err = a.Out.Write(b); err != nil {
		return fmt.Errorf("writing the evidence: %w", err)
	}
	return nil
}

// attest asks a group's guest for evidence.
func (a *app) attest(ctx context.Context, ref string, nonce, runtimeData []byte) ([]byte, error) {
	client, err := a.dial(ref)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }() // the answer is here
	return client.Attest(ctx, nonce, runtimeData)
}

// parseNonce reads a nonce flag.
func parseNonce(cmd *cobra.Command, s string) ([]byte, error) {
	switch s {
	case "":
		return nil, usage(cmd, "no nonce; give --nonce HEX, or --nonce random")
	case "random":
		n := make([]byte, randomNonce)
		_, _ = rand.Read(n) // never fails: crypto/rand aborts the program instead
		return n, nil
	}
	n, err := hex.DecodeString(s)
	if err != nil || len(n) < minNonce || len(n) > maxNonce {
		return nil, usage(cmd, fmt.Sprintf("--nonce is %q; want %d to %d bytes in hexadecimal", s, minNonce, maxNonce))
	}
	return n, nil
}

// readRuntimeData reads the file of a runtime data flag; no name means no data.
func readRuntimeData(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	data, err := readLimited(name, nil, maxRuntimeData)
	if err != nil {
		return nil, fmt.Errorf("reading the runtime data: %w", err)
	}
	return data, nil
}
