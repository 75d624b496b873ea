// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"testing"

	"cofferdam.dev/internal/spec/doc"
)

// TestNames holds values that the service and other implementations of it make.
func TestNames(t *testing.T) {
	t.Parallel()
	v, err := uniqueString([]*doc.Value{doc.Str("/subscriptions/00000000-0000-0000-0000-000000000000"), doc.Str("resource-id")})
	if err != nil || v.Text != "cwvxuqg24sifi" {
		t.Errorf("unique string %q, %v", v.Text, err)
	}
}
