// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"testing"

	"cofferdam.dev/internal/spec/doc"
)

// TestUniqueString holds values that the service and another implementation of the function are known to make.
func TestUniqueString(t *testing.T) {
	t.Parallel()
	for want, in := range map[string][]*doc.Value{
		"cwvxuqg24sifi": {doc.Str("/subscriptions/00000000-0000-0000-0000-000000000000"), doc.Str("resource-id")},
		"yvjxno3je5on2": {doc.Str("/subscriptions/31e9f9a0-9fd2-4294-a0a3-0101246d9700/resourceGroups/rg-modm201-20230913120256/providers/Microsoft.Compute/virtualMachines/bobjacmodm201")},
	} {
		if v, err := uniqueString(in); err != nil || v.Text != want {
			t.Errorf("%q, %v; want %q", v.Text, err, want)
		}
	}
}
