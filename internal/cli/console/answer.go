// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"cofferdam.dev/internal/plain"
)

// OutputFlag gives a command the choice of forms.
func (a *Console) OutputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.Output, "output", "o", "table", "form of the answer: table, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists: just defined
}

// Answer writes a value to standard output in the form that was asked for. The value's JSON carries a schema
// identifier; people gets to write the form for people.
func (a *Console) Answer(value any, people func(io.Writer) error) error {
	var b bytes.Buffer
	switch a.Output {
	case "json", "yaml":
		text, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		if a.Output == "yaml" {
			text, err = yaml.JSONToYAML(text)
			if err != nil {
				return fmt.Errorf("encoding the answer: %w", err)
			}
		}
		b.Write(bytes.TrimRight(text, "\n"))
		b.WriteByte('\n')
	default:
		err := people(&b)
		if err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
	}
	_, err := a.Out.Write(b.Bytes())
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// Table writes rows in columns. The first row is the heading.
func Table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, r := range rows {
		_, err := fmt.Fprintln(t, strings.Join(r, "\t"))
		if err != nil {
			return err
		}
	}
	return t.Flush()
}

// Facts writes a list of names and values.
func Facts(w io.Writer, pairs ...[2]string) error {
	width := 0
	for _, p := range pairs {
		width = max(width, len(p[0]))
	}
	for _, p := range pairs {
		_, err := fmt.Fprintf(w, "%-*s   %s\n", width, p[0], p[1])
		if err != nil {
			return err
		}
	}
	return nil
}

// Style colours words, or does not. Colours never carry a meaning that the words do not.
type Style struct{ On bool }

// Style returns how words are coloured on a stream, as the flags, the environment and the terminal will have it.
func (a *Console) Style(f *os.File) Style {
	switch a.Color {
	case "always":
		return Style{On: true}
	case "never":
		return Style{}
	}
	if v, _ := a.LookupEnv("NO_COLOR"); v != "" {
		return Style{}
	}
	if v, _ := a.LookupEnv("TERM"); v == "dumb" {
		return Style{}
	}
	return Style{On: term.IsTerminal(int(f.Fd()))}
}

func (s Style) paint(code, text string) string {
	if !s.On {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Good colours what went well.
func (s Style) Good(text string) string { return s.paint("32", text) }

// Warn colours what is to be noticed.
func (s Style) Warn(text string) string { return s.paint("33", text) }

// Bad colours what is wrong.
func (s Style) Bad(text string) string { return s.paint("31", text) }

// Dim colours what matters less.
func (s Style) Dim(text string) string { return s.paint("2", text) }

// Strong colours what is looked for.
func (s Style) Strong(text string) string { return s.paint("1", text) }

// OneLine makes foreign text fit for one line of a message.
func OneLine(s string) string { return plain.Printable(strings.Join(strings.Fields(s), " ")) }
