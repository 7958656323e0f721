/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proposal.c - strongSwan's proposal syntax, checked against what can be carried out here.
 *
 * A proposal is a list of keywords with '-' between them; each adds one transform. Known are those that the suites of ESP
 * (suite.h) and the plugins of the key exchange (ike.c) have, without what RFC 8221 and 8247 forbid or advise against,
 * but for SHA-1, which has to be asked for by name. NULL encryption and encryption without integrity are not to be had.
 */
#include "ipsec/proposal.h"

#include "ipsec/suite.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum transform { ENCR, INTEG, PRF, KE, ESN };

#define OF_IKE 1u
#define OF_ESP 2u
#define BOTH   (OF_IKE | OF_ESP)

struct keyword {
	const char *name;
	enum transform type;
	uint16_t id;     /* IKEv2's transform id */
	uint8_t key_len; /* ENCR: octets */
	unsigned kinds;  /* that have it */
	bool alias;      /* not listed in messages */
};

static const struct keyword keywords[] = {
	{"aes128gcm16", ENCR, 20, 16, BOTH, false},
	{"aes192gcm16", ENCR, 20, 24, BOTH, false},
	{"aes256gcm16", ENCR, 20, 32, BOTH, false},
	{"chacha20poly1305", ENCR, 28, 32, BOTH, false},
	{"aes128", ENCR, 12, 16, BOTH, false},
	{"aes192", ENCR, 12, 24, OF_IKE, false},
	{"aes256", ENCR, 12, 32, BOTH, false},
	{"aes", ENCR, 12, 16, BOTH, true},
	{"aes128gcm", ENCR, 20, 16, BOTH, true},
	{"aes192gcm", ENCR, 20, 24, BOTH, true},
	{"aes256gcm", ENCR, 20, 32, BOTH, true},
	{"aes128gcm128", ENCR, 20, 16, BOTH, true},
	{"aes192gcm128", ENCR, 20, 24, BOTH, true},
	{"aes256gcm128", ENCR, 20, 32, BOTH, true},
	{"sha256", INTEG, 12, 0, BOTH, false},
	{"sha384", INTEG, 13, 0, BOTH, false},
	{"sha512", INTEG, 14, 0, BOTH, false},
	{"sha1", INTEG, 2, 0, BOTH, false},
	{"sha", INTEG, 2, 0, BOTH, true},
	{"sha2_256", INTEG, 12, 0, BOTH, true},
	{"sha2_384", INTEG, 13, 0, BOTH, true},
	{"sha2_512", INTEG, 14, 0, BOTH, true},
	{"prfsha256", PRF, 5, 0, OF_IKE, false},
	{"prfsha384", PRF, 6, 0, OF_IKE, false},
	{"prfsha512", PRF, 7, 0, OF_IKE, false},
	{"prfsha1", PRF, 2, 0, OF_IKE, false},
	{"modp2048", KE, 14, 0, BOTH, false},
	{"modp3072", KE, 15, 0, BOTH, false},
	{"modp4096", KE, 16, 0, BOTH, false},
	{"modp6144", KE, 17, 0, BOTH, false},
	{"modp8192", KE, 18, 0, BOTH, false},
	{"ecp256", KE, 19, 0, BOTH, false},
	{"ecp384", KE, 20, 0, BOTH, false},
	{"ecp521", KE, 21, 0, BOTH, false},
	{"curve25519", KE, 31, 0, BOTH, false},
	{"x25519", KE, 31, 0, BOTH, true},
	{"curve448", KE, 32, 0, BOTH, false},
	{"x448", KE, 32, 0, BOTH, true},
	{"none", KE, 0, 0, OF_ESP, true},
	{"modpnone", KE, 0, 0, OF_ESP, true},
	{"esn", ESN, 1, 0, OF_ESP, false},
	{"noesn", ESN, 0, 0, OF_ESP, false},
};
#define NKEYWORDS (sizeof(keywords) / sizeof(keywords[0]))

/* What a proposal has of each type: keywords by bit. */
struct found {
	uint64_t set[ESN + 1];
};
_Static_assert(NKEYWORDS <= 64, "a set of keywords is one word");

static bool is_aead(const struct keyword *k)
{
	return k->type == ENCR && (k->id == 20 || k->id == 28);
}

static const struct keyword *find(const char *s, size_t len)
{
	for (size_t i = 0; i < NKEYWORDS; i++)
		if (strlen(keywords[i].name) == len && strncmp(keywords[i].name, s, len) == 0)
			return &keywords[i];
	return NULL;
}

/* "aes128gcm16, aes192gcm16, …" of a kind and type, behind what stands in err. */
static void list(enum proposal_kind kind, enum transform type, const char *what, char *err, size_t errlen)
{
	unsigned want = kind == PROPOSAL_IKE ? OF_IKE : OF_ESP;
	const char *before = what;

	for (size_t i = 0; i < NKEYWORDS; i++) {
		const struct keyword *k = &keywords[i];
		size_t have = strlen(err);

		if (k->type != type || k->alias || !(k->kinds & want))
			continue;
		snprintf(err + have, errlen - have, "%s%s", before, k->name);
		before = ", ";
	}
}

static int refuse(
	enum proposal_kind kind, const char *why, const char *s, size_t len, char *err, size_t errlen)
{
	snprintf(err, errlen, "%s '%.*s'", why, (int)len, s);
	list(kind, ENCR, "; encryption: ", err, errlen);
	list(kind, INTEG, "; integrity: ", err, errlen);
	if (kind == PROPOSAL_IKE)
		list(kind, PRF, "; pseudo-random function: ", err, errlen);
	list(kind, KE, "; key exchange: ", err, errlen);
	if (kind == PROPOSAL_ESP)
		list(kind, ESN, "; sequence numbers: ", err, errlen);
	return -EINVAL;
}

/* Takes the keywords apart. */
static int read_keywords(enum proposal_kind kind, const char *s, struct found *f, char *err, size_t errlen)
{
	for (;;) {
		size_t len = strcspn(s, "-");
		const struct keyword *k = find(s, len);

		if (!len) {
			snprintf(err, errlen,
				"a keyword is missing; keywords with '-' between them were expected");
			return -EINVAL;
		}
		if (!k)
			return refuse(kind, "unknown algorithm", s, len, err, errlen);
		if (!(k->kinds & (kind == PROPOSAL_IKE ? OF_IKE : OF_ESP)))
			return refuse(kind,
				kind == PROPOSAL_IKE ? "not an algorithm of IKE:"
						     : "not an algorithm of ESP:",
				s, len, err, errlen);
		f->set[k->type] |= UINT64_C(1) << (k - keywords);
		if (!s[len])
			return 0;
		s += len + 1;
	}
}

/* ESP: each encryption with each integrity has to be a suite. */
static int check_suites(const struct found *f, char *err, size_t errlen)
{
	for (size_t e = 0; e < NKEYWORDS; e++) {
		if (!(f->set[ENCR] & UINT64_C(1) << e))
			continue;
		if (is_aead(&keywords[e])) {
			if (suite_find(keywords[e].id, keywords[e].key_len, 0))
				continue;
			snprintf(err, errlen, "ESP does not have '%s'", keywords[e].name);
			return -EINVAL;
		}
		for (size_t i = 0; i < NKEYWORDS; i++) {
			if (!(f->set[INTEG] & UINT64_C(1) << i))
				continue;
			if (suite_find(keywords[e].id, keywords[e].key_len, keywords[i].id))
				continue;
			snprintf(err, errlen, "ESP does not have '%s' with '%s'", keywords[e].name,
				keywords[i].name);
			return -EINVAL;
		}
	}
	return 0;
}

int proposal_check(enum proposal_kind kind, const char *s, char *err, size_t errlen)
{
	struct found f = {.set = {0}};
	bool aead = false, plain = false;
	const char *wrong = NULL;
	int ret;

	ret = read_keywords(kind, s, &f, err, errlen);
	if (ret)
		return ret;
	for (size_t i = 0; i < NKEYWORDS; i++) {
		if (!(f.set[ENCR] & UINT64_C(1) << i))
			continue;
		aead |= is_aead(&keywords[i]);
		plain |= !is_aead(&keywords[i]);
	}
	if (!f.set[ENCR])
		wrong = "no encryption algorithm; one, such as aes256gcm16, was expected";
	else if (aead && plain)
		wrong = "combined-mode encryption (GCM, ChaCha20-Poly1305) together with another one; two "
			"proposals were "
			"expected";
	else if (plain && !f.set[INTEG])
		wrong = "no integrity algorithm; one, such as sha256, was expected with this encryption";
	else if (kind == PROPOSAL_ESP && aead && f.set[INTEG])
		wrong = "an integrity algorithm besides combined-mode encryption, which brings its own; none "
			"was expected";
	else if (kind == PROPOSAL_IKE && !f.set[PRF] && !f.set[INTEG])
		wrong = "no pseudo-random function; one, such as prfsha384, was expected with this "
			"encryption";
	else if (kind == PROPOSAL_IKE && !f.set[KE])
		wrong = "no key exchange; one, such as ecp384, was expected";
	if (wrong) {
		snprintf(err, errlen, "%s", wrong);
		return -EINVAL;
	}
	return kind == PROPOSAL_ESP ? check_suites(&f, err, errlen) : 0;
}
