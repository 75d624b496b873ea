# SPDX-License-Identifier: Apache-2.0

# Loading signed fragments, and lists of ledgers whose receipts count. Signatures have been checked before.
#
# A fragment is asked about twice: first by who signed it (input.fragment_loaded is false), so that nothing of a
# stranger's text is even parsed; then with input.contents, what its text evaluates to, once for each set of parameters
# that the first answer named.
package framework

load_fragment := {"allowed": true, "add_module": false, "parameters": fragment_parameters} if {
	input.fragment_loaded == false
	count(fragments_receipted) > 0
}

load_fragment := {"allowed": true, "add_module": fragment_adds_namespace, "metadata": [{
	"name": "issuers",
	"action": "update",
	"key": input.issuer,
	"value": {"feeds": object.union(issuer_feeds, {input.feed: feed_sources})},
}]} if {
	input.fragment_loaded == true
	count(input.contents) > 0
	every content in input.contents { content_ok(content) }
	count(fragments_current) > 0
}

# ---- who may be loaded -----------------------------------------------------------------------------------------------

fragments_of_issuer := [f | some f in data.facts.fragments; f.issuer == input.issuer]

fragments_of_feed := [f | some f in fragments_of_issuer; f.feed == input.feed]

# The signed header's number, if there is one, counts before the text is read.
fragments_by_header := [f | some f in fragments_of_feed; header_svn_ok(f)]

header_svn_ok(_) if not input.has_header_svn == true

header_svn_ok(f) if at_least(input.header_svn, f.minimum_svn)

fragments_receipted := [f | some f in fragments_by_header; count(missing_receipts(f)) == 0]

missing_receipts(f) := {r | some r in required_receipts(f); not receipt_given(r)}

# Something else than a list is one requirement, which nothing meets: what can not be read must not become no requirement.
required_receipts(f) := requirements if {
	requirements := object.get(f, "required_receipts", [])
	is_array(requirements)
}

required_receipts(f) := [{"malformed": f.required_receipts}] if not is_array(f.required_receipts)

receipt_given(r) if {
	r == "*"
	count(input.receipts) > 0
}

# A ledger may name itself as it likes, also by what stands for something else here.
receipt_given(r) if {
	r != "*"
	not startswith(r, "TTL:")
	some receipt in input.receipts
	receipt.issuer == r
}

receipt_given(r) if {
	startswith(r, "TTL:")
	some receipt in input.receipts
	substring(r, 4, -1) in receipt.ttl_subjects
}

fragment_parameters := [p | some p in {f.parameters | some f in fragments_receipted}]

# ---- what is in it ---------------------------------------------------------------------------------------------------

content_ok(content) if {
	usable(content_version(content))
	content_well_formed(content)
	content_svn_ok(content)
}

content_well_formed(content) if {
	every c in object.get(content, "containers", []) { normal(c, content_version(content)) }
	every p in object.get(content, "external_processes", []) { normal_process(p) }
}

content_version(content) := content.framework_version

content_version(content) := content.framework_svn if not content.framework_version

content_svn_ok(content) if {
	input.has_header_svn == true
	not has_svn(content)
}

content_svn_ok(content) if {
	input.has_header_svn == true
	at_least(content.svn, input.header_svn)
	at_least(input.header_svn, content.svn)
}

content_svn_ok(content) if {
	not input.has_header_svn == true
	has_svn(content)
}

has_svn(content) if is_string(content.svn)

has_svn(content) if is_number(content.svn)

fragments_current := [f | some f in fragments_receipted; every content in input.contents { content_current(f, content) }]

content_current(f, content) if at_least(content.svn, f.minimum_svn)

content_current(f, content) if {
	not has_svn(content)
	at_least(input.header_svn, f.minimum_svn)
}

# Each listing of the fragment in a policy contributes what it includes, with its own parameters.
fragment_sources := [source |
	some f in fragments_current
	some content in input.contents
	content.parameters == object.get(f, "parameters", {})
	source := {"version": content_version(content), "includes": {x | some x in f.includes}, "content": content}
]

default issuer_feeds := {}

issuer_feeds := data.metadata.issuers[input.issuer].feeds

feed_loaded := object.get(issuer_feeds, input.feed, [])

feed_sources := array.concat(feed_loaded, [source | some source in fragment_sources; not source in feed_loaded])

default fragment_adds_namespace := false

fragment_adds_namespace if {
	some f in fragments_current
	"namespace" in f.includes
}

# ---- security version numbers ----------------------------------------------------------------------------------------

# Whole numbers, as numbers or as text, compare with each other; so do versions. Nothing else does.
at_least(a, b) if whole(a) >= whole(b)

at_least(a, b) if {
	comparable_versions(a, b)
	semver.compare(a, b) >= 0
}

comparable(a, b) if {
	whole(a)
	whole(b)
}

comparable(a, b) if comparable_versions(a, b)

comparable_versions(a, b) if {
	semver.is_valid(a)
	semver.is_valid(b)
}

whole(x) := x if is_number(x)

whole(x) := to_number(x) if {
	is_string(x)
	regex.match("^[0-9]+$", x)
}

# ---- trust lists -----------------------------------------------------------------------------------------------------

load_transparency_trust_list := {"allowed": true, "allowed_ledgers": allowed_ledgers} if count(allowed_ledgers) > 0

trust_lists_current := [l |
	some l in data.facts.trust_lists
	l.issuer == input.issuer
	l.subject == input.subject
	at_least(input.svn, l.minimum_svn)
]

allowed_ledgers := [ledger | some ledger in input.ledgers; ledger_allowed(ledger)]

ledger_allowed(ledger) if {
	some l in trust_lists_current
	some name in l.allowed_ledgers
	name in {"*", ledger}
}

# ---- reasons ---------------------------------------------------------------------------------------------------------

named contains "invalid fragment issuer" if {
	input.rule == "load_fragment"
	count(fragments_of_issuer) == 0
}

named contains "invalid fragment feed" if {
	input.rule == "load_fragment"
	count(fragments_of_issuer) > 0
	count(fragments_of_feed) == 0
}

named contains sprintf("missing receipt from %v", [r]) if {
	input.rule == "load_fragment"
	count(fragments_receipted) == 0
	some f in fragments_by_header
	some r in missing_receipts(f)
}

named contains "fragment svn is below the specified minimum" if some_svn_pair(true)

named contains "fragment svn and the specified minimum are different types" if some_svn_pair(false)

# A number that falls short of every minimum: comparable with it or not.
some_svn_pair(is_comparable) if {
	input.rule == "load_fragment"
	some pair in svn_pairs
	can_compare(pair) == is_comparable
}

can_compare(pair) := true if comparable(pair[0], pair[1])

can_compare(pair) := false if not comparable(pair[0], pair[1])

svn_pairs contains [input.header_svn, f.minimum_svn] if {
	count(fragments_by_header) == 0
	some f in fragments_of_feed
}

svn_pairs contains [content.svn, f.minimum_svn] if {
	input.fragment_loaded == true
	count(fragments_current) == 0
	some f in fragments_receipted
	some content in input.contents
}

named contains text if {
	input.rule == "load_fragment"
	input.has_header_svn == true
	some content in input.contents
	not content_svn_ok(content)
	text := sprintf("svn in header %v does not match svn in fragment rego %v", [input.header_svn, content.svn])
}

named contains "missing fragment svn in either header or rego payload" if {
	input.rule == "load_fragment"
	not input.has_header_svn == true
	some content in input.contents
	not has_svn(content)
}

named contains sprintf("fragment framework_version is missing. Current version: %s", [version]) if {
	input.rule == "load_fragment"
	some content in input.contents
	not content_version(content)
}

named contains text if {
	input.rule == "load_fragment"
	some content in input.contents
	ahead := content_version(content)
	not usable(ahead)
	text := sprintf("fragment framework_version is ahead of the current version: %s is greater than %s", [ahead, version])
}

named contains "fragment has containers or external processes of an unexpected form" if {
	input.rule == "load_fragment"
	some content in input.contents
	usable(content_version(content))
	not content_well_formed(content)
}

named contains "no TTL candidate matches the provided TTL's issuer, subject and svn" if {
	input.rule == "load_transparency_trust_list"
	count(trust_lists_current) == 0
}

named contains "The provided TTL does not contain any ledgers it is allowed to load" if {
	input.rule == "load_transparency_trust_list"
	count(trust_lists_current) > 0
	count(allowed_ledgers) == 0
}
