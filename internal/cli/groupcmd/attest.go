// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
)

const (
	// randomNonce is the size of a nonce that nobody chose.
	randomNonce = 32
	// The guest takes nonces of 8 to 64 bytes and at most 4096 bytes of runtime data.
	minNonce, maxNonce = 8, 64
	maxRuntimeData     = 4096
)

func (a *App) attestCommand() *cobra.Command {
	var q EvidenceQuestion
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
		Args:              console.Arguments(1, 1, "the name of a group"),
		ValidArgsFunction: a.CompleteGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.AnswerWith(cmd, &q, func(ctx context.Context) ([]byte, error) { return a.Attest(ctx, args[0], q.Nonce, q.RuntimeData) })
		},
	}
	q.Flags(c)
	return c
}

// EvidenceQuestion is what somebody who wants evidence asks for.
type EvidenceQuestion struct {
	nonceText, file    string
	Nonce, RuntimeData []byte
}

// Flags gives a command the flags that say what evidence is asked for.
func (q *EvidenceQuestion) Flags(c *cobra.Command) {
	c.Flags().StringVar(&q.nonceText, "nonce", "", "the verifier's nonce in hexadecimal (8 to 64 bytes), or random")
	c.Flags().StringVar(&q.file, "runtime-data", "", "file whose bytes the report commits to as well (at most 4096)")
}

// AnswerWith reads the question, gets the evidence, and writes it.
func (a *App) AnswerWith(cmd *cobra.Command, q *EvidenceQuestion, get func(context.Context) ([]byte, error)) error {
	ctx, stop := console.Interruptible(cmd.Context())
	defer stop()
	var err error
	if q.Nonce, err = ParseNonce(cmd, q.nonceText); err != nil {
		return err
	}
	if q.nonceText == "random" {
		a.Say("nonce: %x", q.Nonce)
	}
	if q.RuntimeData, err = ReadRuntimeData(q.file); err != nil {
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

// Attest asks a group's guest for evidence.
func (a *App) Attest(ctx context.Context, ref string, nonce, runtimeData []byte) ([]byte, error) {
	client, err := a.Dial(ref)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }() // the answer is here
	return client.Attest(ctx, nonce, runtimeData)
}

// ParseNonce reads a nonce flag.
func ParseNonce(cmd *cobra.Command, s string) ([]byte, error) {
	switch s {
	case "":
		return nil, console.Usage(cmd, "no nonce; give --nonce HEX, or --nonce random")
	case "random":
		n := make([]byte, randomNonce)
		_, _ = rand.Read(n) // never fails: crypto/rand aborts the program instead
		return n, nil
	}
	n, err := hex.DecodeString(s)
	if err != nil || len(n) < minNonce || len(n) > maxNonce {
		return nil, console.Usage(cmd, fmt.Sprintf("--nonce is %q; want %d to %d bytes in hexadecimal", s, minNonce, maxNonce))
	}
	return n, nil
}

// ReadRuntimeData reads the file of a runtime data flag; no name means no data.
func ReadRuntimeData(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	data, err := console.ReadLimited(name, nil, maxRuntimeData)
	if err != nil {
		return nil, fmt.Errorf("reading the runtime data: %w", err)
	}
	return data, nil
}
