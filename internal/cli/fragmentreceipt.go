// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/policy/fragment"
)

func (a *app) fragmentRecordCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "record FILE RECEIPT...",
		Short: "Put a ledger's receipts into a signed fragment",
		Long: `Put receipts, as a ledger gave them for a signed fragment (COSE), into that fragment's
message, and write it back. Nothing of what was signed changes, and receipts that are there
stay. A receipt that is about something else is refused, with exit code 3; whether a ledger
that anybody trusts signed it, ` + "`policy fragment verify`" + ` says.`,
		Example: `  cofferdam policy fragment record redis.rego.cose receipt.cbor`,
		Args:    arguments(2, -1, "a signed fragment and receipts"),
		RunE: func(_ *cobra.Command, args []string) error {
			if file == "" {
				file = args[0]
			}
			return a.addReceipts(args[0], args[1:], file)
		},
	}
	c.Flags().StringVar(&file, "file", "", "write the message to this file; - is standard output (default: FILE)")
	a.outputFlag(c)
	return c
}

func (a *app) addReceipts(name string, receipts []string, file string) error {
	message, err := readLimited(name, nil, fragment.MaxSize)
	if err != nil {
		return fmt.Errorf("reading the fragment: %w", err)
	}
	_, err = openFragment(signedFile{name, message})
	if err != nil {
		return err
	}
	for _, r := range receipts {
		data, err := readLimited(r, nil, receipt.MaxSize)
		if err != nil {
			return fmt.Errorf("reading the receipt: %w", err)
		}
		message, err = receipt.Attach(message, data)
		if err != nil {
			return &failure{code: exitRefused, err: fmt.Errorf("%s: %w", r, err)}
		}
	}
	signed, err := openFragment(signedFile{name, message})
	if err != nil {
		return err
	}
	err = a.writeOut(file, message)
	if err != nil || file == "-" {
		return err
	}
	v := fragmentSigned{
		Schema: "cofferdam.dev/policy-fragment-signed/v1", File: file, fragmentFacts: factsOf(signedFile{file, message}, signed, nil),
	}
	return a.answer(v, func(w io.Writer) error { return v.show(w) })
}
