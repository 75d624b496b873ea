// SPDX-License-Identifier: Apache-2.0

// Command cofferdam runs unmodified containers inside measured virtual machines, and proves it. See package cli.
package main

import (
	"context"
	"os"

	"cofferdam.dev/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), cli.Current()))
}
