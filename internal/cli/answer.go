// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"cofferdam.dev/internal/plain"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"
)

// outputFlag gives a command the choice of forms.
func (a *app) outputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.output, "output", "o", "table", "form of the answer: table, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)) // the flag exists: just defined
}

// answer writes a value to standard output in the form that was asked for. The value's JSON carries a schema
// identifier; people gets to write the form for people.
func (a *app) answer(value any, people func(io.Writer) error) error {
	var b bytes.Buffer
	switch a.output {
	case "json", "yaml":
		text, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		if a.output == "yaml" {
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

// table writes rows in columns. The first row is the heading.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, r := range rows {
		_, err := fmt.Fprintln(t, strings.Join(r, "\t"))
		if err != nil {
			return err
		}
	}
	return t.Flush()
}

// facts writes a list of names and values.
func facts(w io.Writer, pairs ...[2]string) error {
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

// style colours words, or does not. Colours never carry a meaning that the words do not.
type style struct{ on bool }

func (a *app) style(f *os.File) style {
	switch a.color {
	case "always":
		return style{on: true}
	case "never":
		return style{}
	}
	if v, _ := a.LookupEnv("NO_COLOR"); v != "" {
		return style{}
	}
	if v, _ := a.LookupEnv("TERM"); v == "dumb" {
		return style{}
	}
	return style{on: term.IsTerminal(int(f.Fd()))}
}

func (s style) paint(code, text string) string {
	if !s.on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) good(text string) string   { return s.paint("32", text) }
func (s style) warn(text string) string   { return s.paint("33", text) }
func (s style) bad(text string) string    { return s.paint("31", text) }
func (s style) dim(text string) string    { return s.paint("2", text) }
func (s style) strong(text string) string { return s.paint("1", text) }

// oneLine makes foreign text fit for one line of a message.
func oneLine(s string) string { return plain.Printable(strings.Join(strings.Fields(s), " ")) }
