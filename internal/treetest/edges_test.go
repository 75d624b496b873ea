// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "cofferdam.dev/"

// rooms lists, for each room of the module, the rooms that it may import. A package belongs to the longest prefix that
// is listed. "*" may import everything: the edges of the program, which nothing imports.
//
// Data walks one way: spec → image → policy → launch → evidence → verdict. A room never imports one that comes later.
var rooms = map[string][]string{
	"api/guest/v1":             {},
	"api/group/v1":             {},
	"evidence/internal/fixed":  {},
	"evidence/snp":             {"evidence/internal/fixed"},
	"evidence/sgx":             {"evidence/internal/fixed"},
	"evidence/tdx":             {"evidence/internal/fixed"},
	"evidence/dcap":            {"evidence/sgx", "evidence/tdx", "internal/strictpem"},
	"evidence/pcs":             {},
	"evidence":                 {"internal/strictjson"},
	"evidence/didx509":         {},
	"evidence/cose1":           {"evidence/didx509", "internal/cbor"},
	"evidence/hcl":             {"internal/strictjson", "internal/strictpem"},
	"evidence/uvm":             {"evidence/cose1", "evidence/snp", "internal/strictjson", "internal/strictpem"},
	"internal/cbor":            {},
	"internal/strictjson":      {},
	"internal/strictpem":       {},
	"internal/retry":           {},
	"internal/evidencewire":    {"evidence", "internal/strictjson"},
	"internal/testamd":         {"evidence/snp"}, // tests alone
	"internal/testchain":       {},
	"internal/testguest":       {"attest", "evidence/snp", "internal/simsp", "verify/anchor"},              // tests alone
	"internal/testimage":       {"internal/assemble", "internal/image", "internal/layer", "internal/spec"}, // tests alone
	"internal/testledger":      {"internal/cbor"},                                                          // tests alone
	"evidence/receipt":         {"evidence/cose1", "internal/cbor", "internal/strictpem"},
	"internal/testcollateral":  {"collateral", "evidence/snp"}, // tests alone
	"internal/oraclecases":     {},                             // tests alone
	"policy/fragment":          {"evidence/cose1", "evidence/receipt", "internal/cbor", "policy"},
	"collateral":               {"internal/strictpem", "internal/wholefile"},
	"collateral/cache":         {"collateral", "internal/wholefile"},
	"collateral/remote":        {"collateral", "evidence/snp", "internal/retry", "internal/strictpem"},
	"verify/check":             {},
	"verify/internal/recent":   {},
	"verify/anchor":            {"verify/check", "verify/internal/recent"},
	"verify/amd":               {"collateral", "evidence/snp", "verify/anchor", "verify/check"},
	"verify/azure":             {"collateral", "evidence/dcap", "evidence/hcl", "evidence/tdx", "verify/amd", "verify/anchor", "verify/check", "verify/intel"},
	"verify/uvm":               {"evidence/didx509", "evidence/receipt", "evidence/uvm", "verify/check"},
	"verify/intel":             {"collateral", "evidence/dcap", "evidence/pcs", "evidence/sgx", "evidence/tdx", "verify/anchor", "verify/check", "verify/internal/recent"},
	"verify":                   {"collateral", "evidence", "evidence/dcap", "evidence/snp", "verify/amd", "verify/anchor", "verify/azure", "verify/check", "verify/intel", "verify/uvm"},
	"verify/appraisal":         {"collateral", "evidence", "evidence/didx509", "evidence/hcl", "evidence/pcs", "evidence/receipt", "evidence/sgx", "evidence/snp", "evidence/tdx", "verify", "verify/amd", "verify/anchor", "verify/azure", "verify/check", "verify/intel", "verify/uvm"},
	"verify/bundle":            {"collateral", "evidence", "internal/strictjson", "verify", "verify/anchor", "verify/appraisal"},
	"api/keyprovider/v1":       {},
	"internal/sidecar/config":  {"internal/strictjson"},
	"internal/sidecar/program": {"attest", "collateral/remote", "internal/serve", "internal/sidecar/encfs", "internal/sidecar/skr", "internal/volume/anchor", "internal/volume/blob", "internal/volume/shadow", "internal/wholefile", "release"},
	"internal/sidecar/encfs": {
		"internal/serve", "internal/sidecar/config", "internal/volume/anchor", "internal/volume/attach", "internal/volume/blob", "internal/volume/blockcache",
		"internal/volume/descriptor", "internal/volume/fusefile", "internal/volume/mount", "internal/volume/shadow", "release",
	},
	"internal/sidecar/skr":       {"api/keyprovider/v1", "attest", "collateral", "collateral/remote", "evidence/snp", "evidence/uvm", "internal/serve", "internal/sidecar/config", "internal/strictjson", "internal/vault/wrap", "release"},
	"release":                    {"attest", "internal/retry", "internal/strictjson", "internal/vault/wrap"},
	"ratls":                      {"evidence", "internal/cbor", "verify"},
	"attest":                     {"evidence", "evidence/snp", "evidence/tdx", "internal/evidencewire"},
	"policy":                     {},
	"policy/engine":              {"policy"},
	"policy/denial":              {},
	"policy/outline":             {"policy"},
	"policy/replay":              {"policy", "policy/engine"},
	"policy/lint":                {"policy", "policy/engine", "policy/outline"},
	"policy/explain":             {"policy", "policy/denial", "policy/engine", "policy/outline", "policy/replay"},
	"policy/diff":                {"policy", "policy/engine", "policy/outline", "policy/replay"},
	"policy/learn":               {"policy", "policy/engine", "policy/replay"},
	"internal/spec":              {},
	"internal/verity":            {},
	"internal/volume/blob":       {"internal/retry", "internal/wholefile", "release"},
	"internal/volume/blobtest":   {"internal/testcap"}, // tests alone
	"internal/volume/blockcache": {"internal/volume/blob"},
	"internal/volume/xts":        {},
	"internal/volume/luks2":      {"internal/strictjson", "internal/volume/xts"},
	"internal/volume/shadow":     {},
	"internal/volume/erofs":      {},
	"internal/volume/sealed":     {"internal/verity", "internal/volume/erofs", "internal/volume/xts"},
	"internal/volume/fusefile":   {},
	"internal/volume/mapped":     {"internal/agent/machine/devmapper"},
	"internal/volume/mount":      {"internal/volume/fusefile", "internal/volume/mapped"},
	"internal/volume/attach": {
		"internal/volume/blob", "internal/volume/blockcache", "internal/volume/descriptor", "internal/volume/erofs", "internal/volume/luks2", "internal/volume/mapped",
		"internal/volume/sealed", "internal/volume/shadow",
	},
	"internal/volume/descriptor":       {"internal/strictjson", "internal/volume/luks2"},
	"internal/volume/anchor":           {"internal/strictjson", "internal/vault", "internal/volume/shadow", "internal/wholefile", "release"},
	"internal/image":                   {},
	"internal/layer":                   {"internal/verity"},
	"internal/policygen":               {"internal/spec", "policy"},
	"internal/lockfile":                {"internal/policygen", "internal/wholefile"},
	"internal/measure":                 {},
	"internal/simsp":                   {"evidence/snp", "internal/measure", "internal/wholefile"},
	"internal/guestimage":              {"internal/guestimage/scratchfmt", "internal/measure"},
	"internal/guestimage/scratchfmt":   {},
	"internal/channel":                 {},
	"internal/agent/machine/devmapper": {},
	"internal/agent/machine":           {"internal/agent/machine/devmapper", "internal/verity", "internal/guestimage/scratchfmt", "policy"}, // policy for the egress list alone
	"internal/agent": {
		"api/guest/v1", "attest", "evidence", "evidence/snp", "evidence/tdx", "internal/agent/machine", "internal/channel", "internal/evidencewire", "policy",
		"policy/denial", "policy/engine", "policy/fragment",
	},
	"internal/sandbox": {
		"api/guest/v1", "internal/channel",
	},
	"internal/group": {
		"api/group/v1", "api/guest/v1", "evidence", "evidence/snp", "internal/channel",
		"internal/sandbox", "internal/simsp", "internal/spec", "policy", "policy/denial", "policy/engine", "policy/replay", "internal/wholefile",
	},
	"internal/assemble": {
		"internal/group", "internal/guestimage", "internal/guestimage/scratchfmt", "internal/image", "internal/layer",
		"internal/policygen", "internal/sandbox", "internal/spec", "policy",
	},
	"internal/deploy": {
		"internal/assemble", "internal/group", "internal/guestimage", "internal/policygen", "internal/sandbox", "internal/spec", "policy",
		"policy/engine", "policy/explain", "policy/replay",
	},
	"internal/groupapi": {
		"api/guest/v1", "internal/assemble", "internal/audit", "internal/auth", "internal/deploy", "internal/group", "internal/image", "internal/sandbox",
		"internal/serve", "internal/spec", "internal/wholefile",
	},
	"internal/tour": {
		"api/guest/v1", "evidence", "evidence/snp", "internal/assemble", "internal/auth", "internal/deploy", "internal/devdomain", "internal/group",
		"internal/guestimage", "internal/image", "internal/layer", "internal/plain", "internal/sandbox", "internal/simsp", "internal/spec",
		"internal/vault", "internal/vault/wrap", "internal/volume/anchor", "internal/volume/attach", "internal/volume/blob",
		"internal/volume/descriptor", "internal/volume/shadow", "policy", "verify", "verify/amd", "verify/anchor", "verify/check",
	},
	"internal/devdomain": {
		"internal/attestsvc", "internal/attestsvc/rest", "internal/audit", "internal/auth", "internal/kbs", "internal/kbs/rcar", "internal/seal",
		"internal/serve", "internal/store", "internal/vault", "internal/vault/devissuer", "internal/vault/rest", "internal/wholefile", "verify/anchor",
	},
	"internal/plain":           {},
	"internal/debimage":        {"internal/guestimage", "internal/wholefile"},
	"internal/store":           {"internal/seal", "internal/testcap", "internal/wholefile"},
	"internal/audit":           {"internal/wholefile"},
	"internal/serve":           {"internal/wholefile"},
	"internal/wholefile":       {},
	"internal/seal":            {"evidence/snp", "internal/strictjson", "internal/wholefile"},
	"internal/vault":           {"internal/audit", "internal/auth", "internal/seal", "internal/store", "internal/strictjson", "internal/strictpem", "internal/token", "internal/vault/wrap"},
	"internal/vault/devissuer": {"internal/auth", "internal/token"},
	"internal/vault/wrap":      {"internal/strictjson", "internal/testcap"},
	"internal/vault/rest": {
		"internal/audit", "internal/auth", "internal/seal", "internal/serve", "internal/store", "internal/strictjson", "internal/vault",
		"internal/vault/authority", "internal/vault/wrap",
	},
	"internal/kbs": {
		"internal/attestsvc", "internal/audit", "internal/auth", "internal/kbs/kbstest", "internal/kbs/rcar", "internal/seal", "internal/serve",
		"internal/store", "internal/strictjson", "internal/vault", "verify",
	},
	"internal/kbs/kbstest": {"evidence/snp"}, // tests alone
	"internal/kbs/rcar":    {"evidence/hcl", "evidence/snp", "internal/kbs/kbstest", "internal/strictjson", "internal/testcap"},
	"internal/auth":        {},
	"internal/attestsvc": {
		"collateral", "evidence", "evidence/dcap", "evidence/hcl", "evidence/sgx", "evidence/snp", "evidence/tdx", "internal/audit", "internal/maapolicy",
		"internal/store", "internal/strictjson", "internal/token", "verify", "verify/amd", "verify/anchor", "verify/appraisal", "verify/azure",
		"verify/check", "verify/intel", "verify/uvm",
	},
	"internal/attestsvc/rest": {
		"attest", "evidence", "internal/attestsvc", "internal/audit", "internal/auth", "internal/serve", "internal/store",
		"internal/strictjson", "internal/strictpem", "verify",
	},
	"internal/token":       {"internal/strictjson"},
	"internal/maapolicy":   {},
	"internal/trust":       {"internal/strictjson", "internal/wholefile", "verify/anchor", "verify/check"},
	"internal/testcap":     {},
	"internal/doctor":      {"internal/sandbox", "internal/spec"},
	"internal/cli/console": {"api/guest/v1", "internal/cli/progress", "internal/group", "internal/plain", "internal/seal"},
	"internal/cli/imagecmd": {
		"internal/cli/console", "internal/cli/progress", "internal/guestimage", "internal/image", "internal/layer", "internal/measure", "internal/plain",
		"internal/sandbox",
	},
	"internal/cli/policycmd": {
		"evidence/cose1", "evidence/didx509", "evidence/receipt", "internal/assemble", "internal/cli/console", "internal/cli/imagecmd",
		"internal/cli/layertar", "internal/group", "internal/image", "internal/layer", "internal/lockfile", "internal/plain", "internal/policygen",
		"internal/spec", "policy", "policy/denial", "policy/diff", "policy/engine", "policy/explain", "policy/fragment", "policy/learn", "policy/lint",
		"policy/replay",
	},
	"internal/cli/groupcmd": {
		"api/guest/v1", "evidence/cose1", "internal/assemble", "internal/cli/console", "internal/cli/imagecmd", "internal/cli/policycmd",
		"internal/cli/progress", "internal/cli/transfer", "internal/deploy", "internal/group", "internal/image", "internal/layer", "internal/plain",
		"internal/sandbox", "internal/spec", "policy", "policy/explain", "policy/fragment", "policy/replay",
	},
	"internal/cli/evidencecmd": {
		"attest", "collateral", "collateral/cache", "collateral/remote", "evidence", "evidence/snp", "evidence/uvm", "internal/cli/console",
		"internal/cli/groupcmd", "internal/cli/imagecmd", "internal/cli/policycmd", "internal/guestimage", "internal/plain", "internal/simsp",
		"internal/strictpem", "internal/trust", "policy", "verify", "verify/amd", "verify/anchor", "verify/appraisal", "verify/bundle", "verify/check",
	},
	"internal/cli/attestationcmd": {
		"collateral", "evidence", "internal/attestsvc", "internal/cli/console", "internal/cli/evidencecmd", "internal/maapolicy", "internal/plain",
		"ratls", "verify/appraisal",
	},
	"internal/cli/keycmd": {
		"internal/cli/attestationcmd", "internal/cli/console", "internal/cli/policycmd", "internal/devdomain", "internal/kbs", "internal/plain",
		"internal/vault", "policy", "release",
	},
	"internal/cli/volumecmd": {
		"internal/cli/console", "internal/cli/keycmd", "internal/vault", "internal/volume/anchor", "internal/volume/attach", "internal/volume/blob",
		"internal/volume/blockcache", "internal/volume/descriptor", "internal/volume/fusefile", "internal/volume/luks2", "internal/volume/mount",
		"internal/volume/sealed", "internal/volume/shadow", "internal/wholefile", "release",
	},
	"internal/cli/servecmd": {
		"attest", "collateral/remote", "evidence", "internal/attestsvc", "internal/attestsvc/rest", "internal/audit", "internal/auth",
		"internal/cli/console", "internal/cli/evidencecmd", "internal/cli/groupcmd", "internal/cli/imagecmd", "internal/cli/keycmd", "internal/deploy",
		"internal/devdomain", "internal/group", "internal/groupapi", "internal/kbs", "internal/kbs/rcar", "internal/sandbox", "internal/seal",
		"internal/serve", "internal/sidecar/program", "internal/simsp", "internal/store", "internal/token", "internal/vault", "internal/vault/devissuer",
		"internal/vault/rest", "internal/wholefile", "ratls", "verify/anchor", "verify/uvm",
	},
	"internal/cli/layertar": {"internal/layer"},
	"internal/cli/progress": {},
	"internal/cli/transfer": {},
	"internal/cli":          {"*"},
	"internal/accept":       {"*"},
	"internal/treetest":     {"*"},
	"cmd":                   {"*"},
}

// private lists the rooms that only the edges of the program may import.
var private = []string{"internal/cli", "internal/tour", "internal/doctor", "internal/accept", "internal/treetest", "cmd"}

type goPackage struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
	GoFiles    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles", "./...")
	cmd.Dir = top(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	var list []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err = dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("decoding the package list: %v", err)
		}
		list = append(list, p)
	}
}

func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// room returns the longest listed prefix of a package path, and "" if none fits.
func room(path string) string {
	best := ""
	for r := range rooms {
		if (path == r || strings.HasPrefix(path, r+"/")) && len(r) > len(best) {
			best = r
		}
	}
	return best
}

func TestImportEdges(t *testing.T) {
	for _, p := range packages(t) {
		from := room(strings.TrimPrefix(p.ImportPath, module))
		if from == "" {
			t.Errorf("%s belongs to no room: add it to the table, and to the architecture page", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			path, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			to := room(path)
			if !allowed(from, to) {
				t.Errorf("%s imports %s: room %q may not import room %q", p.ImportPath, imp, from, to)
			}
		}
	}
}

func allowed(from, to string) bool {
	if from == to {
		return true
	}
	may := rooms[from]
	if slices.Contains(may, "*") {
		return true
	}
	return slices.Contains(may, to) && !slices.Contains(private, to)
}

// TestRulesBite makes sure that the table refuses what it should.
func TestRulesBite(t *testing.T) {
	forbidden := [][2]string{{"verify", "internal/simsp"}, {"policy", "internal/agent"}, {"internal/agent", "internal/sandbox"}, {"evidence", "verify"},
		{"internal/tour", "internal/cli"}, {"internal/assemble", "internal/tour"},
		{"internal/cli/policycmd", "internal/cli/groupcmd"}, {"internal/vault", "internal/cli/console"}}
	for _, f := range forbidden {
		if allowed(f[0], f[1]) {
			t.Errorf("%s may import %s", f[0], f[1])
		}
	}
}

// TestArchitectureNamesEveryRoom holds the page to the table: it names each room, or one that the room lies in.
func TestArchitectureNamesEveryRoom(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(top(t), "docs", "explanation", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for r := range rooms {
		named := false
		for in := r; in != "." && !named; in = path.Dir(in) {
			named = strings.Contains(string(page), "`"+in+"`")
		}
		if !named {
			t.Errorf("docs/explanation/architecture.md does not name %s", r)
		}
	}
}

// TestGuestImports keeps out of the measured guest what has no business there.
func TestGuestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/cofferdam-guest")
	cmd.Dir = top(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the guest's imports: %v", err)
	}
	banned := []string{
		"github.com/google/go-containerregistry", "github.com/Microsoft/hcsshim", "github.com/containers/gvisor-tap-vsock",
		"github.com/spf13/cobra", "google.golang.org/grpc/internal/transport", "cofferdam.dev/internal/sandbox", "cofferdam.dev/internal/simsp",
		"cofferdam.dev/verify", "C",
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, b := range banned {
			if dep == b || strings.HasPrefix(dep, b+"/") {
				t.Errorf("the guest imports %s", dep)
			}
		}
	}
}
