// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
)

func tree() *cobra.Command {
	a := newApp(&console.Console{Process: Current()})
	return a.root()
}

// walk visits every command that a person can see, in the order of the help.
func walk(c *cobra.Command, visit func(*cobra.Command)) {
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" {
			continue
		}
		visit(sub)
		walk(sub, visit)
	}
}

// leaf reports whether a command does something itself: those that only group others have no example.
func leaf(c *cobra.Command) bool { return !c.HasSubCommands() || c.Example != "" }

// Each leaf teaches: a line, an explanation, an example that is a command of this program, and described flags.
func TestHelpTeaches(t *testing.T) {
	t.Parallel()
	walk(tree(), func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the summary is %q", c.CommandPath(), c.Short)
		}
		for line := range strings.Lines(c.LocalFlags().FlagUsages()) {
			if f := strings.Fields(line); strings.HasPrefix(f[len(f)-1], "--") {
				t.Errorf("%s: %s is not described", c.CommandPath(), f[len(f)-1])
			}
		}
		if !leaf(c) {
			return
		}
		if c.Long == "" {
			t.Errorf("%s is not explained", c.CommandPath())
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: no example shows it", c.CommandPath())
		}
		for _, text := range []string{c.Long, c.Example} {
			for line := range strings.Lines(text) {
				if len(strings.TrimRight(line, "\n")) > 92 {
					t.Errorf("%s: a line of the help has %d characters: %q", c.CommandPath(), len(line), line)
				}
			}
		}
	})
}

// The reference page is the program's own description of itself.
func TestReferencePage(t *testing.T) {
	t.Parallel()
	head, err := os.ReadFile(filepath.Join("testdata", "reference-head.md"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.Write(head)
	b.WriteString("\n## Commands\n\n| command | |\n|---|---|\n")
	walk(tree(), func(c *cobra.Command) {
		if leaf(c) {
			fmt.Fprintf(&b, "| [%s](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
		}
	})
	b.WriteString("\nEvery command also takes:\n\n```\n" + tree().PersistentFlags().FlagUsages() + "```\n")
	walk(tree(), func(c *cobra.Command) {
		if leaf(c) {
			section(&b, c)
		}
	})
	page := filepath.Join("..", "..", "docs", "reference", "cli.md")
	if *update {
		err = os.WriteFile(page, []byte(b.String()), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b.String(), string(got)); d != "" {
		t.Errorf("docs/reference/cli.md is not what the program says (-want +got); run the test with -update:\n%s", d)
	}
}

func section(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n```\n%s\n```\n", c.CommandPath(), c.Long, strings.TrimSuffix(c.UseLine(), " [flags]"))
	flags := c.LocalNonPersistentFlags()
	c.InitDefaultHelpFlag()
	if flags.HasAvailableFlags() {
		fmt.Fprintf(b, "\n```\n%s```\n", flags.FlagUsages())
	}
	fmt.Fprintf(b, "\n```sh\n%s\n```\n", outdent(c.Example))
}

func outdent(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "  "))
	}
	return strings.Join(lines, "\n")
}
