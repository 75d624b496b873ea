// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"log/slog"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group/supervise"
)

// SuperviseCommand is the process that owns a group. `run` starts it; it is nothing for people.
func (a *App) SuperviseCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "supervise GROUP",
		Short:  "Own a group until it has ended (started by run)",
		Hidden: true,
		Args:   console.Arguments(1, 1, "the name of a group"),
		RunE: func(cmd *cobra.Command, args []string) error {
			logger := slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelInfo}))
			return supervise.Main(cmd.Context(), supervise.Config{Home: a.Home, Name: args[0], Logger: logger})
		},
	}
}
