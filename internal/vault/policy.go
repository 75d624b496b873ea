// SPDX-License-Identifier: Apache-2.0

package vault

import "cofferdam.dev/internal/vault/releasepolicy"

// newPolicy returns the policy of a request in the form in which it is kept, or nil for nil.
func (v *Vault) newPolicy(p *ReleasePolicy) (*ReleasePolicy, error) {
	if p == nil {
		return nil, nil //nolint:nilnil // no policy is no error
	}
	if p.ContentType != "" && p.ContentType != PolicyContentType {
		return nil, bad("The content type of a release policy is %q.", PolicyContentType)
	}
	parsed, err := releasepolicy.Parse(p.Data)
	if err != nil {
		return nil, bad("The release policy is not valid: %v.", err)
	}
	form := releasepolicy.VaultForm
	if v.opts.Managed {
		form = releasepolicy.ManagedForm
	}
	b, err := parsed.Marshal(form)
	if err != nil {
		return nil, err
	}
	return &ReleasePolicy{PolicyContentType, b, p.Immutable}, nil
}
