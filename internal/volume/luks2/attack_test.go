// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// document returns the JSON of a volume's primary header.
func document(t testing.TB, f *os.File) string {
	t.Helper()
	b := make([]byte, minHeaderSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	doc, err := jsonText(b[binarySize:])
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// forge writes both copies of a header with a right checksum around whatever JSON area and binary header.
func forge(t testing.TB, f *os.File, area []byte, change func(binary []byte)) {
	t.Helper()
	for _, at := range []int64{0, minHeaderSize} {
		forgeCopy(t, f, at, area, change)
	}
}

func forgeCopy(t testing.TB, f *os.File, at int64, area []byte, change func(binary []byte)) {
	t.Helper()
	b := make([]byte, minHeaderSize)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	if area != nil {
		clear(b[binarySize:])
		copy(b[binarySize:], area)
	}
	if change != nil {
		change(b)
	}
	sum := checksum(b)
	copy(b[offChecksum:], sum[:])
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestHostileMetadata forges the JSON of a header. Each entry replaces a part of what Format makes, which must be there.
func TestHostileMetadata(t *testing.T) {
	t.Parallel()
	f, _, _ := volume(t, nil)
	good := document(t, f)
	digests := good[strings.Index(good, `"digests"`):strings.Index(good, `,"config"`)]
	const offset, seg = `"offset":"2097152"`, `"segments":{"0":{`
	for name, c := range map[string]struct{ from, to, want string }{
		"null cipher":             {`"iv_tweak":"0","encryption":"aes-xts-plain64"`, `"iv_tweak":"0","encryption":"cipher_null-ecb"`, `expected "aes-xts-plain64"`},
		"another mode":            {`"iv_tweak":"0","encryption":"aes-xts-plain64"`, `"iv_tweak":"0","encryption":"aes-cbc-essiv:sha256"`, `expected "aes-xts-plain64"`},
		"another IV":              {`"iv_tweak":"0","encryption":"aes-xts-plain64"`, `"iv_tweak":"0","encryption":"aes-xts-plain"`, `expected "aes-xts-plain64"`},
		"null slot cipher":        {`"encryption":"aes-xts-plain64","key_size":64`, `"encryption":"cipher_null-ecb","key_size":64`, `area: expected`},
		"slot key of 16 bytes":    {`"encryption":"aes-xts-plain64","key_size":64`, `"encryption":"aes-xts-plain64","key_size":16`, `32 or 64`},
		"key of 16 bytes":         {`"type":"luks2","key_size":64`, `"type":"luks2","key_size":16`, `32 or 64`},
		"two key sizes":           {`"1":{"type":"luks2","key_size":64`, `"1":{"type":"luks2","key_size":32`, `the same in all`},
		"sector of 8192":          {`"sector_size":4096`, `"sector_size":8192`, `sector_size`},
		"sector of 0":             {`"sector_size":4096`, `"sector_size":0`, `sector_size`},
		"negative sector":         {`"sector_size":4096`, `"sector_size":-512`, `integer`},
		"fractional sector":       {`"sector_size":4096`, `"sector_size":4096.0`, `integer`},
		"exponent":                {`"sector_size":4096`, `"sector_size":4e3`, `integer`},
		"huge integer":            {`"sector_size":4096`, `"sector_size":18446744073709555712`, `integer`},
		"string for integer":      {`"sector_size":4096`, `"sector_size":"4096"`, `integer`},
		"IV tweak":                {`"iv_tweak":"0"`, `"iv_tweak":"8"`, `iv_tweak`},
		"detached header":         {offset, `"offset":"0"`, `detached`},
		"data over key slots":     {offset, `"offset":"1048576"`, `where the key slots end`},
		"data over the header":    {offset, `"offset":"4096"`, `where the key slots end`},
		"unaligned data":          {offset, `"offset":"2097664"`, `multiple of 4096`},
		"data behind the end":     {offset, `"offset":"3145728"`, `data of 0 bytes`},
		"data far behind":         {offset, `"offset":"1152921504606842880"`, `data of -`},
		"negative offset":         {offset, `"offset":"-4096"`, `decimal`},
		"huge offset":             {offset, `"offset":"18446744073709547520"`, `decimal`},
		"padded offset":           {offset, `"offset":"02097152"`, `decimal`},
		"plus sign":               {offset, `"offset":"+2097152"`, `decimal`},
		"hexadecimal offset":      {offset, `"offset":"0x200000"`, `decimal`},
		"number for string":       {offset, `"offset":2097152`, `not a string`},
		"size beyond the end":     {`"size":"dynamic"`, `"size":"1052672"`, `more than the device has`},
		"size of part sectors":    {`"size":"dynamic"`, `"size":"512"`, `whole sectors`},
		"size zero":               {`"size":"dynamic"`, `"size":"0"`, `zero`},
		"size overflow":           {`"size":"dynamic"`, `"size":"9223372036854775807"`, `decimal`},
		"integrity":               {`"size":"dynamic"`, `"size":"dynamic","integrity":{"type":"none"}`, `integrity`},
		"segment flags":           {`"size":"dynamic"`, `"size":"dynamic","flags":["in-reencryption"]`, `flags`},
		"linear segment":          {`"type":"crypt"`, `"type":"linear"`, `type: expected "crypt"`},
		"no segment":              {good[strings.Index(good, seg)+len(`"segments":{`) : strings.Index(good, `,"digests"`)-1], ``, `exactly one`},
		"two segments":            {seg, `"segments":{"1":{"type":"crypt"},"0":{`, `below 1`},
		"segment 1":               {seg, `"segments":{"1":{`, `below 1`},
		"two digests":             {digests[len(`"digests":{`) : len(digests)-1], digests[len(`"digests":{`):len(digests)-1] + `,` + strings.Replace(digests[len(`"digests":{`):len(digests)-1], `"0"`, `"1"`, 1), `exactly one`},
		"no digest":               {digests, `"digests":{}`, `exactly one`},
		"digest of no slot":       {`"keyslots":["0","1"]`, `"keyslots":["0"]`, `keyslots: expected all`},
		"digest of other slot":    {`"keyslots":["0","1"]`, `"keyslots":["0","7"]`, `keyslots: expected all`},
		"digest of slot twice":    {`"keyslots":["0","1"]`, `"keyslots":["0","0"]`, `twice`},
		"digest of no segment":    {`"segments":["0"]`, `"segments":[]`, `segments: expected`},
		"digest bomb":             {`"iterations":1000,"salt":"` + salts(t, good)[2], `"iterations":2097153,"salt":"` + salts(t, good)[2], `digest: iterations: expected`},
		"weak digest":             {`"hash":"sha256","iterations":1000,"salt":"` + salts(t, good)[2], `"hash":"crc32","iterations":1000,"salt":"` + salts(t, good)[2], `hash: expected`},
		"empty digest":            {good[strings.LastIndex(good, `"digest":"`):strings.Index(good, `}},"config"`)], `"digest":""`, `with a salt of`},
		"weak slot hash":          {`"stripes":4000,"hash":"sha256"`, `"stripes":4000,"hash":"sha1"`, `hash: expected`},
		"few stripes":             {`"stripes":4000`, `"stripes":1`, `stripes`},
		"many stripes":            {`"stripes":4000`, `"stripes":2147483647`, `stripes`},
		"unknown splitter":        {`"type":"luks1"`, `"type":"none"`, `af: expected`},
		"reencrypt slot":          {`"type":"luks2"`, `"type":"reencrypt"`, `type: expected "luks2"`},
		"area over the header":    {`"offset":"32768"`, `"offset":"16384"`, `overlaps`},
		"areas overlap":           {`"offset":"290816"`, `"offset":"32768"`, `overlaps`},
		"areas half overlap":      {`"offset":"290816"`, `"offset":"286720"`, `overlaps`},
		"area over data":          {`"offset":"290816"`, `"offset":"1839104"`, ``},
		"area behind areas":       {`"offset":"290816"`, `"offset":"1843200"`, `behind byte 2097152`},
		"area far behind":         {`"offset":"290816"`, `"offset":"1152921504606846976"`, `behind byte 2097152`},
		"small area":              {`"size":"258048"`, `"size":"4096"`, `at least 256000`},
		"unaligned area":          {`"size":"258048"`, `"size":"256000"`, `multiples of 4096`},
		"raw area":                {`"type":"raw"`, `"type":"journal"`, `area: expected`},
		"PBKDF2 bomb":             {`"iterations":1000`, `"iterations":2147483647`, `iterations: expected`},
		"no iterations":           {`"iterations":1000`, `"iterations":0`, `iterations: expected`},
		"no salt":                 {`"salt":"` + salts(t, good)[0], `"salt":"`, `salt: expected`},
		"salt with a break":       {`"salt":"` + salts(t, good)[0], `"salt":"` + salts(t, good)[0][:4] + `\n` + salts(t, good)[0][4:], `line breaks`},
		"salt not in base64":      {`"salt":"` + salts(t, good)[0][:4], `"salt":"????`, `illegal base64`},
		"scrypt":                  {`"kdf":{"type":"pbkdf2"`, `"kdf":{"type":"scrypt"`, `type: expected`},
		"both kinds of costs":     {`"kdf":{"type":"pbkdf2"`, `"kdf":{"time":1,"type":"pbkdf2"`, `unknown`},
		"argon2 for the digest":   {`"digests":{"0":{"type":"pbkdf2"`, `"digests":{"0":{"type":"argon2id"`, `type: expected "pbkdf2"`},
		"slot 32":                 {`"1":{"type":"luks2"`, `"32":{"type":"luks2"`, `below 32`},
		"slot 01":                 {`"1":{"type":"luks2"`, `"01":{"type":"luks2"`, `decimal`},
		"slot twice":              {`"1":{"type":"luks2"`, `"0":{"type":"luks2"`, `twice`},
		"slot twice by escape":    {`"1":{"type":"luks2"`, `"\u0030":{"type":"luks2"`, `twice`},
		"another case":            {`"sector_size"`, `"Sector_Size"`, `unknown`},
		"key twice":               {`"iv_tweak":"0",`, `"iv_tweak":"0","iv_tweak":"0",`, `twice`},
		"unknown key":             {`"iv_tweak":"0",`, `"iv_tweak":"0","iv_large_sectors":true,`, `unknown`},
		"unknown section":         {`"config":`, `"more":{},"config":`, `unknown`},
		"no config":               {good[strings.Index(good, `,"config"`) : len(good)-1], ``, `not there`},
		"online re-encryption":    {`"config":{`, `"config":{"requirements":{"mandatory":["online-reencrypt-v2"]},`, `requirement`},
		"unknown requirement":     {`"config":{`, `"config":{"requirements":{"mandatory":["future"]},`, `requirement`},
		"optional requirement":    {`"config":{`, `"config":{"requirements":{"optional":["future"]},`, `unknown`},
		"unknown flag":            {`"config":{`, `"config":{"flags":["no-encryption"],`, `flag`},
		"JSON size":               {`"json_size":"12288"`, `"json_size":"16384"`, `json_size`},
		"huge place for slots":    {`"keyslots_size":"2064384"`, `"keyslots_size":"1073741824"`, `keyslots_size`},
		"place over data":         {`"keyslots_size":"2064384"`, `"keyslots_size":"2068480"`, `where the key slots end`},
		"token of no slot":        {`"tokens":{}`, `"tokens":{"0":{"type":"x","keyslots":["5"]}}`, `not there`},
		"token without slots":     {`"tokens":{}`, `"tokens":{"0":{"type":"x"}}`, `not an array`},
		"token without type":      {`"tokens":{}`, `"tokens":{"0":{"keyslots":[]}}`, `not a string`},
		"tokens as an array":      {`"tokens":{}`, `"tokens":[]`, `no object`},
		"deep nesting":            {`"tokens":{}`, `"tokens":` + strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40), `deeper`},
		"trailing document":       {good, good + `{}`, `follows`},
		"two values":              {good, good + good, `follows`},
		"an array":                {good, `[` + good + `]`, `no object`},
		"null":                    {good, `null`, `no object`},
		"nothing":                 {good, ``, `no object`},
		"not UTF-8":               {`"tokens":{}`, "\"tokens\":{\"\xff\":{}}", `UTF-8`},
		"slot without priority":   {`"type":"luks2",`, `"type":"luks2","priority":null,`, `integer`},
		"priority out of range":   {`"type":"luks2",`, `"type":"luks2","priority":3,`, `priority`},
		"slots as array of ids":   {`"keyslots":["0","1"]`, `"keyslots":[0,1]`, `not a string`},
		"many ids":                {`"keyslots":["0","1"]`, `"keyslots":[` + strings.Repeat(`"0",`, 40) + `"1"]`, `at most`},
		"an id that is no id":     {`"keyslots":["0","1"]`, `"keyslots":["0","1","-1"]`, `decimal`},
		"an id that is too large": {`"keyslots":["0","1"]`, `"keyslots":["0","1","99"]`, `below 32`},
	} {
		if strings.Count(good, c.from) == 0 {
			t.Errorf("%s: %q is not in %s", name, c.from, good)
			continue
		}
		forge(t, f, []byte(strings.Replace(good, c.from, c.to, 1)), nil)
		began := time.Now()
		h, err := Open(f, testSize)
		if name == "area over data" { // the last place that fits
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if h != nil || !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("%s: refused after %s", name, took)
		}
	}
	forge(t, f, []byte(good), nil)
	reopen(t, f)
}

// salts returns the salts in a document, in their order.
func salts(t *testing.T, doc string) []string {
	t.Helper()
	var list []string
	for _, part := range strings.Split(doc, `"salt":"`)[1:] {
		s, _, _ := strings.Cut(part, `"`)
		list = append(list, s)
	}
	if len(list) != 3 {
		t.Fatalf("%d salts", len(list))
	}
	return list
}

// TestCostBombs asks for memory and time by Argon2: one slot, and many that are each within bounds.
func TestCostBombs(t *testing.T) {
	t.Parallel()
	f, h, _ := volume(t, func(o *FormatOptions) { o.Slots[0].KDF = KDF{Type: Argon2id, Time: 1, MemoryKiB: 32, Threads: 1} })
	good := document(t, f)
	const costs = `"time":1,"memory":32,"cpus":1`
	for _, bad := range []string{
		`"time":1,"memory":2147483647,"cpus":1`, `"time":1,"memory":1048577,"cpus":1`, `"time":2147483647,"memory":32,"cpus":1`,
		`"time":17,"memory":1048576,"cpus":1`, `"time":1,"memory":32,"cpus":0`, `"time":1,"memory":32,"cpus":257`, `"time":0,"memory":32,"cpus":1`,
		`"time":1,"memory":0,"cpus":1`, `"time":1,"memory":7,"cpus":1`,
	} {
		forge(t, f, []byte(strings.Replace(good, costs, bad, 1)), nil)
		if _, err := Open(f, testSize); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error is %v", bad, err)
		}
	}
	m := h.clone().m
	d, k := m.Digests[0], m.Keyslots[0]
	m.Keyslots, d.Keyslots = map[int]keyslot{}, nil
	k.KDF = kdf{Type: Argon2id, Time: 16, Memory: 1 << 20, CPUs: 4, Salt: k.KDF.Salt}
	for id := range 5 {
		k.Area.Offset = decimal(2*minHeaderSize + id*258048)
		m.Keyslots[id], d.Keyslots = k, append(d.Keyslots, id)
		m.Digests[0] = d
		doc, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		forge(t, f, doc, nil)
		_, err = Open(f, testSize)
		if id < maxTotal && err != nil || id >= maxTotal && (!errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "all key slots")) {
			t.Errorf("%d slots: %v", id+1, err)
		}
	}
}

// TestHostileBinary forges the binary header, in both copies.
func TestHostileBinary(t *testing.T) {
	t.Parallel()
	f, _, _ := volume(t, nil)
	good := make([]byte, 2*minHeaderSize)
	if _, err := f.ReadAt(good, 0); err != nil {
		t.Fatal(err)
	}
	put := func(at int, v uint64) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint64(b[at:], v) }
	}
	text := func(at int, s string) func([]byte) {
		return func(b []byte) { copy(b[at:], s) }
	}
	for name, c := range map[string]struct {
		change func(b []byte)
		want   string
	}{
		"LUKS1":               {func(b []byte) { b[offVersion+1] = 1 }, "version: expected 2, got 1"},
		"version 3":           {func(b []byte) { b[offVersion+1] = 3 }, "version"},
		"size zero":           {put(offSize, 0), "size of a copy"},
		"size 4096":           {put(offSize, 4096), "size of a copy"},
		"size 20480":          {put(offSize, 20480), "size of a copy"},
		"size 8 MiB":          {put(offSize, 8<<20), "size of a copy"},
		"size huge":           {put(offSize, 1<<63), "size of a copy"},
		"sequence huge":       {put(offSequence, 1<<63), "sequence number"},
		"position":            {put(offPosition, 1<<20), "position of a copy"},
		"algorithm":           {text(offAlgorithm, "crc32c"), "checksum algorithm"},
		"label without end":   {text(offLabel, strings.Repeat("a", 48)), "label"},
		"label in two":        {text(offLabel+20, "a"), "label"},
		"terminal escapes":    {text(offLabel, "\x1b[2J"), "label"},
		"UUID":                {text(offUUID, "../../../../etc/passwd/etc/passwd/1\x00"), "UUID"},
		"subsystem":           {text(offSubsystem, "a\nb"), "subsystem"},
		"padding":             {func(b []byte) { b[offPadding] = 1 }, "reserved"},
		"long checksum":       {func(b []byte) { b[offChecksum+40] = 1 }, "reserved"},
		"rest of the sector":  {func(b []byte) { b[binarySize-1] = 1 }, "reserved"},
		"JSON without an end": {func(b []byte) { fill(b[binarySize:]) }, "does not end"},
		"JSON up to the end":  {func(b []byte) { b[len(b)-1] = 'x' }, "follows the JSON"},
		"hidden document":     {func(b []byte) { copy(b[len(b)-100:], `{"a":1}`) }, "follows the JSON"},
	} {
		if _, err := f.WriteAt(good, 0); err != nil {
			t.Fatal(err)
		}
		forge(t, f, nil, c.change)
		if _, err := Open(f, testSize); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
	// The copies exchanged, and the primary one twice.
	first, second := good[:minHeaderSize], good[minHeaderSize:]
	for name, b := range map[string][]byte{
		"exchanged": bytes.Join([][]byte{second, first}, nil), "primary twice": bytes.Join([][]byte{first, first}, nil),
		"secondary twice": bytes.Join([][]byte{second, second}, nil),
	} {
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(f, testSize); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "exchanged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func fill(b []byte) {
	for i := range b {
		if b[i] == 0 {
			b[i] = ' '
		}
	}
}

// TestCopies damages and ages the copies of a header: one whole copy is enough, the newer one counts, two of the same
// number that differ are refused, and so are copies of two volumes.
func TestCopies(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	old := make([]byte, 2*minHeaderSize)
	if _, err := f.ReadAt(old, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := h.AddKey(f, key, Slot{[]byte("three"), quick}); err != nil {
		t.Fatal(err)
	}
	now := make([]byte, 2*minHeaderSize)
	if _, err := f.ReadAt(now, 0); err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Repeat([]byte{0xa5}, minHeaderSize)
	bad := bytes.Clone(now[:minHeaderSize])
	bad[binarySize+5] ^= 1
	for name, c := range map[string]struct {
		first, second []byte
		slots         int // zero: refused
	}{
		"whole":                  {now[:minHeaderSize], now[minHeaderSize:], 3},
		"primary old":            {old[:minHeaderSize], now[minHeaderSize:], 3},
		"secondary old":          {now[:minHeaderSize], old[minHeaderSize:], 3},
		"primary damaged":        {damaged, now[minHeaderSize:], 3},
		"primary's JSON damaged": {bad, now[minHeaderSize:], 3},
		"primary zero":           {make([]byte, minHeaderSize), now[minHeaderSize:], 3},
		"secondary damaged":      {now[:minHeaderSize], damaged, 3},
		"both damaged":           {damaged, damaged, 0},
		"both old":               {old[:minHeaderSize], old[minHeaderSize:], 2},
	} {
		if _, err := f.WriteAt(append(bytes.Clone(c.first), c.second...), 0); err != nil {
			t.Fatal(err)
		}
		h, err := Open(f, testSize)
		if c.slots == 0 {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || len(h.Info().Slots) != c.slots || h.Info().Repair == (name == "whole" || name == "both old") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := h.Repair(f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again := reopen(t, f); again.Info().Repair || len(again.Info().Slots) != c.slots {
			t.Errorf("%s: it is not repaired", name)
		}
	}
	for name, change := range map[string]func(b []byte){
		"another document":  func(b []byte) { copy(b[offLabel:], "other") },
		"of another volume": func(b []byte) { b[offUUID]++; b[offUUID] = '0' + b[offUUID]%8; b[offUUID+1] = 'f'; b[offUUID+2] = 'f' },
	} {
		if _, err := f.WriteAt(now, 0); err != nil {
			t.Fatal(err)
		}
		forgeCopy(t, f, minHeaderSize, nil, change)
		if _, err := Open(f, testSize); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTruncated opens every shorter volume: refused, or with less data, which no pin lets pass.
func TestTruncated(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	p, err := h.Pin(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{0, -1, 1, 511, 4096, 16384, 32767, 32768, 40000, testOffset, testOffset + 1, testOffset + 4096, testSize - 4096, testSize - 1, testSize + 4096} {
		h, err := Open(f, size)
		if err == nil {
			err = h.Verify(p, key)
		}
		if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrPin) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, err := Open(bytes.NewReader(nil), testSize); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("storage that lies about its size: %v", err)
	}
}

// countingReader counts what is read.
type countingReader struct {
	io.ReaderAt
	n int
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	c.n += len(p)
	return c.ReaderAt.ReadAt(p, off)
}

// TestBoundedReading opens headers of the largest size: a copy is read once, whatever there is.
func TestBoundedReading(t *testing.T) {
	t.Parallel()
	f := testFile(t, 1<<30)
	b := binaryHeader{size: maxHeaderSize, uuid: newUUID(), sequence: 1}
	for _, at := range []int64{0, maxHeaderSize} {
		b.position = at
		doc := []byte(`{"keyslots":{` + strings.Repeat(" ", maxHeaderSize-binarySize-100) + `}}`)
		if _, err := f.WriteAt(b.marshal(doc), at); err != nil {
			t.Fatal(err)
		}
	}
	c := &countingReader{ReaderAt: f}
	if _, err := Open(c, 1<<30); !errors.Is(err, ErrFormat) || c.n > 2*maxHeaderSize+16*binarySize {
		t.Errorf("%d bytes are read: %v", c.n, err)
	}
}

func FuzzOpen(f *testing.F) {
	file, _, key := volume(f, nil)
	head := make([]byte, 2*minHeaderSize)
	if _, err := file.ReadAt(head, 0); err != nil {
		f.Fatal(err)
	}
	doc := document(f, file)
	f.Add([]byte(doc), []byte(nil), uint16(0))
	f.Add([]byte(strings.Replace(doc, `"dynamic"`, `"4096"`, 1)), []byte{1}, uint16(offSequence+7))
	f.Add([]byte(`{}`), []byte("LUKS"), uint16(0))
	f.Fuzz(func(t *testing.T, doc, patch []byte, at uint16) {
		b := bytes.Clone(head)
		for _, half := range [][]byte{b[:minHeaderSize], b[minHeaderSize:]} {
			if len(doc) < minHeaderSize-binarySize {
				clear(half[binarySize:])
				copy(half[binarySize:], doc)
			}
			copy(half[min(int(at), len(half)):], patch)
			sum := checksum(half)
			copy(half[offChecksum:], sum[:])
		}
		h, err := open(bytes.NewReader(b), int64(len(b)))
		if h != nil || err == nil {
			t.Fatal("a volume without data is opened")
		}
		h, err = open(io.NewSectionReader(padded(b), 0, testSize), testSize)
		if err != nil {
			if h != nil || !errors.Is(err, ErrFormat) {
				t.Fatalf("%v, %v", h, err)
			}
			return
		}
		// Whatever is accepted has one meaning, which survives being written.
		again := h.clone()
		text, err := json.Marshal(again.m)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parseMetadata(text)
		if err != nil || m.validate(h.b.size, h.device) != nil {
			t.Fatalf("%s is not accepted again: %v", text, err)
		}
		if h.m.key().Iterations > 1000 { // a digest that takes long is no news
			return
		}
		if d, err := h.DeviceWithoutPin(padded(b), key); err == nil && (d.Size() > testSize-2*minHeaderSize || d.offset < 2*minHeaderSize) {
			t.Fatalf("data of %d bytes at %d", d.Size(), d.offset)
		}
	})
}

// padded is bytes with zeros behind them.
type padded []byte

func (p padded) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off < int64(len(p)) {
		copy(b, p[off:])
	}
	return len(b), nil
}
