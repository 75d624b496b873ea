// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/policy/fragment"
)

func (a *App) fragmentRecordCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "record FILE RECEIPT...",
		Short: "Put a ledger's receipts into a signed fragment",
		Long: `Put receipts, as a ledger gave them for a signed fragment (COSE), into that fragment's
message, and write it back. Nothing of what was signed changes, and receipts that are there
stay. A receipt that is about something else is refused, with exit code 3; whether a ledger
that anybody trusts signed it, ` + "`policy fragment verify`" + ` says.`,
		Example: `  cofferdam policy fragment record redis.rego.cose receipt.cbor`,
		Args:    console.Arguments(2, -1, "a signed fragment and receipts"),
		RunE: func(_ *cobra.Command, args []string) error {
			if file == "" {
				file = args[0]
			}
			return a.addReceipts(args[0], args[1:], file)
		},
	}
	c.Flags().StringVar(&file, "file", "", "write the message to this file; - is standard output (default: FILE)")
	a.OutputFlag(c)
	return c
}

func (a *App) addReceipts(name string, receipts []string, file string) error {
	message, err := console.ReadLimited(name, nil, fragment.MaxSize)
	if err != nil {
		return fmt.Errorf("reading the fragment: %w", err)
	}
	_, err = openFragment(SignedFile{name, message})
	if err != nil {
		return err
	}
	for _, r := range receipts {
		data, err := console.ReadLimited(r, nil, receipt.MaxSize)
		if err != nil {
			return fmt.Errorf("reading the receipt: %w", err)
		}
		message, err = receipt.Attach(message, data)
		if err != nil {
			return &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("%s: %w", r, err)}
		}
	}
	signed, err := openFragment(SignedFile{name, message})
	if err != nil {
		return err
	}
	err = a.writeOut(file, message)
	if err != nil || file == "-" {
		return err
	}
	v := fragmentSigned{
		Schema: "cofferdam.dev/policy-fragment-signed/v1", File: file, fragmentFacts: factsOf(SignedFile{file, message}, signed, nil),
	}
	return a.Answer(v, func(w io.Writer) error { return v.show(w) })
}
