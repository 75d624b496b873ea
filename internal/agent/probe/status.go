// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 10

// errAnswer says that an answer is not one of HTTP/1.
var errAnswer = errors.New("the answer is not HTTP")

// readStatus reads the status of an HTTP/1 answer (RFC 9112, section 4). Interim answers before it are passed over (RFC
// 9110, section 15.2), but not 101, after which another protocol begins.
func readStatus(r io.Reader) (int, error) {
	lines := bufio.NewReader(io.LimitReader(r, maxAnswer))
	for {
		line, err := readLine(lines)
		if err != nil {
			return 0, err
		}
		status, ok := parseStatus(line)
		if !ok {
			return 0, errAnswer
		}
		if status == 101 || status >= 200 {
			return status, nil
		}
		for line != "" { // its header
			line, err = readLine(lines)
			if err != nil {
				return 0, err
			}
		}
	}
}

// readLine reads a line without its end. A line that does not end is an error.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		return "", errAnswer // cut off, or too long
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

// parseStatus reads a status line: "HTTP/1.1 200 OK", where the space before the reason may be missing with it.
func parseStatus(line string) (int, bool) {
	rest, ok := strings.CutPrefix(line, "HTTP/1.")
	if !ok || len(rest) < 5 || !digit(rest[0]) || rest[1] != ' ' {
		return 0, false
	}
	code := rest[2:5]
	if !digit(code[0]) || !digit(code[1]) || !digit(code[2]) || code[0] == '0' {
		return 0, false
	}
	if len(rest) > 5 && rest[5] != ' ' {
		return 0, false
	}
	return int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0'), true
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
