// SPDX-License-Identifier: Apache-2.0

package vault

import "slices"

// newPolicy returns the policy of a request in the form in which it is kept, or nil for nil.
func (v *Vault) newPolicy(p *ReleasePolicy) (*ReleasePolicy, error) {
	if p == nil {
		return nil, nil //nolint:nilnil // no policy is no error
	}
	if p.ContentType != "" && p.ContentType != PolicyContentType {
		return nil, bad("The content type of a release policy is %q.", PolicyContentType)
	}
	return &ReleasePolicy{PolicyContentType, slices.Clone(p.Data), p.Immutable}, nil
}
