// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"errors"
	"fmt"

	"cofferdam.dev/evidence/snp"
)

// identify is the check of SNP_LAUNCH_FINISH: the ID block must be signed by the ID key, and that by the author key where
// there is one, and the launch must be the one that the block names. What it says then goes into the guest's reports.
func (g *Guest) identify(l Launch) error {
	if len(l.IDBlock) == 0 && len(l.IDAuth) == 0 {
		if l.AuthorKey {
			return errors.New("an author key without an ID block")
		}
		return nil
	}
	block, err := snp.ParseIDBlock(l.IDBlock)
	if err != nil {
		return err
	}
	auth, err := snp.ParseIDAuth(l.IDAuth)
	if err != nil {
		return err
	}
	key, err := auth.Key.Public()
	if err != nil {
		return err
	}
	if !auth.BlockSignature.Verify(key, l.IDBlock) {
		return errors.New("the ID block is not signed by the ID key")
	}
	g.base.IDKeyDigest = auth.Key.Digest()
	if l.AuthorKey {
		author, err := auth.AuthorKey.Public()
		if err != nil {
			return fmt.Errorf("author key: %w", err)
		}
		if !auth.KeySignature.Verify(author, auth.Key[:]) {
			return errors.New("the ID key is not signed by the author key")
		}
		g.base.AuthorKeyDigest = auth.AuthorKey.Digest()
		g.base.KeyInfo |= snp.KeyInfoAuthorKey
	}
	switch {
	case block.Measurement != g.base.Measurement:
		return fmt.Errorf("launch digest is %x, the ID block has %x", g.base.Measurement, block.Measurement)
	case block.Policy != g.base.Policy:
		return fmt.Errorf("policy is %s, the ID block has %s", g.base.Policy, block.Policy)
	}
	g.base.FamilyID, g.base.ImageID, g.base.GuestSVN = block.FamilyID, block.ImageID, block.GuestSVN
	return nil
}
