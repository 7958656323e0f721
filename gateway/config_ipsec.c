/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config_ipsec.c - what an ipsec tunnel's options say together, and GRE tunnels that travel in one. */
#include "gateway/config_private.h"
#include "ipsec/esp.h"

#include <inttypes.h>
#include <string.h>

#define UDP_LEN        8
#define PSK_BITS       128
#define TS_MAX         255 /* in a message of the key exchange (RFC 7296 3.13) */
#define REKEY_SENSIBLE 300 /* seconds; below, peers are busy with keys only */
/* A tenth lies between the time to renew and the end: at 1 Gb/s that is to be longer than an exchange takes. */
#define BYTES_SENSIBLE   (UINT64_C(256) << 20)
#define PACKETS_SENSIBLE UINT64_C(200000)

#define KEY_ID_LEN 20 /* octets of a SHA-1, which a certificate's key identifier is */

static struct conf_tunnel *tunnel_of(const struct item *it)
{
	return it->obj;
}

/* ---- the size of packets ------------------------------------------------------------------------- */

static bool begins(const char *s, size_t n, const char *with)
{
	size_t len = strlen(with);

	return n >= len && strncmp(s, with, len) == 0;
}

/* The largest inner length by every suite that a proposal names. Suites whose packets have equal lengths stand for each
 * other: all of GCM and ChaCha20-Poly1305, and CBC by its digest. */
static uint32_t proposal_inner_max(const char *proposal, uint32_t len)
{
	static const struct {
		const char *token;
		enum suite_id id;
	} digests[] = {{"sha256", SUITE_AES_CBC_128_SHA256}, {"sha2_256", SUITE_AES_CBC_128_SHA256},
		{"sha384", SUITE_AES_CBC_128_SHA384}, {"sha2_384", SUITE_AES_CBC_128_SHA384},
		{"sha512", SUITE_AES_CBC_128_SHA512}, {"sha2_512", SUITE_AES_CBC_128_SHA512},
		{"sha1", SUITE_AES_CBC_128_SHA1}, {"sha", SUITE_AES_CBC_128_SHA1}};
	uint32_t max = UINT32_MAX, fits;

	for (const char *p = proposal; *p;) {
		size_t n = strcspn(p, "-");
		const struct suite *s = NULL;

		if (begins(p, n, "chacha20") || (begins(p, n, "aes") && memmem(p, n, "gcm", 3)))
			s = &suites[SUITE_AES_GCM_256];
		for (size_t i = 0; !s && i < sizeof(digests) / sizeof(digests[0]); i++)
			if (begins(p, n, digests[i].token))
				s = &suites[digests[i].id];
		fits = s ? esp_inner_max(s, len) : UINT32_MAX;
		if (fits < max)
			max = fits;
		p += n + (p[n] == '-');
	}
	return max;
}

uint32_t conf_esp_mtu(const struct conf_tunnel *t, uint32_t path_mtu)
{
	uint32_t around = config_ip_len(t) + UDP_LEN, max = UINT32_MAX;

	if (path_mtu <= around)
		return 0;
	for (size_t i = 0; i < t->ike.esp_proposals.n; i++) {
		uint32_t fits = proposal_inner_max(t->ike.esp_proposals.s[i], path_mtu - around);

		if (fits < max)
			max = fits;
	}
	return max == UINT32_MAX ? esp_inner_max(&suites[SUITE_AES_CBC_256_SHA512], path_mtu - around) : max;
}

/* Whether all of a prefix is in one of these; no list: any. */
static bool list_has(const struct prefix_list *list, const struct addr *a, uint8_t len)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->p[i].len <= len && prefix_has(&list->p[i], a))
			return true;
	return list->n == 0;
}

/* ---- one tunnel ---------------------------------------------------------------------------------- */

static void check_ids(struct loader *l, const struct item *it)
{
	const struct conf_tunnel *t = it->obj;

	if (item_has(it, "remote_id"))
		return;
	if (t->remote_any)
		config_error(l, it, "remote_id",
			"is missing; expected the branch's identity, which tells it from others where remote "
			"= any");
	else if (t->ike.cert_file)
		config_warning(l, it, "remote_id",
			"is missing: the branch's certificate must be one of its address; expected the "
			"identity "
			"that is in the certificate");
}

/* A key id is no name that a certificate has. libstrongswan takes it for its subjectKeyIdentifier, fingerprint or serial
 * number. */
static void check_key_id(struct loader *l, const struct item *it)
{
	const struct conf_ike *ike = &tunnel_of(it)->ike;
	char canon[VALUE_IDENTITY_CANON];

	if (!ike->cert_file || !ike->remote_id || value_identity_canon(ike->remote_id, canon, NULL) ||
		strncmp(canon, "keyid:", 6) != 0 || strlen(canon) == 6 + 2 * (size_t)KEY_ID_LEN)
		return;
	config_warning(l, it, "remote_id",
		VALUE_SHOWN " is a key id, which no certificate has as a name; expected its subject or a "
			    "subjectAltName, or @# and the %d octets of its subjectKeyIdentifier",
		ike->remote_id, KEY_ID_LEN);
}

/* Relative paths become absolute, whatever else is wrong. */
static void complete_paths(struct loader *l, const struct item *it)
{
	struct conf_ike *ike = &tunnel_of(it)->ike;
	char **paths[] = {&ike->psk_file, &ike->cert_file, &ike->key_file, &ike->ca_file};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (*paths[i] && config_complete_path(it, paths[i]))
			l->nomem = true;
}

static void check_secrets(struct loader *l, struct item *it)
{
	static const char *const certs[] = {"cert_file", "key_file", "ca_file"};
	bool psk = item_has(it, "psk"), psk_file = item_has(it, "psk_file");
	const char *given = NULL, *missing = NULL;

	for (size_t i = 0; i < 3; i++)
		if (item_has(it, certs[i]))
			given = given ? given : certs[i];
		else
			missing = missing ? missing : certs[i];
	if (psk && it->exposed)
		config_error(l, it, "psk", "stands in a file that %s", it->exposed);
	if (psk && psk_file)
		config_error(l, it, "psk_file", "there is a psk too; expected one of them");
	else if ((psk || psk_file) && given)
		config_error(l, it, given, "there is a %s too; expected either a key or certificates",
			psk ? "psk" : "psk_file");
	else if (given && missing)
		config_error(l, it, missing, "is missing; expected it with %s", given);
	else if (!psk && !psk_file && !given)
		config_error(l, it, "psk",
			"is missing; expected psk, psk_file, or cert_file, key_file and ca_file");
	else if (psk_file && tunnel_of(it)->ike.psk_file)
		config_read_psk(l, it);
	else if (given && tunnel_of(it)->ike.cert_file && tunnel_of(it)->ike.key_file &&
		 tunnel_of(it)->ike.ca_file)
		config_read_certs(l, it);
}

/* Who is called, or answers a branch in our place, can try keys offline (RFC 7296 2.15), so one has to be as hard to guess as the rest. Of a text at best letters
 * and digits are random, of 6 bits each. Its length is part of the secret. */
static void check_psk_length(struct loader *l, const struct item *it)
{
	const struct conf_ike *ike = &tunnel_of(it)->ike;
	bool is_text = true;

	for (uint32_t i = 0; i < ike->psk_len; i++)
		is_text &= ike->psk[i] >= 0x20 && ike->psk[i] < 0x7f;
	if (ike->psk && ike->psk_len * (is_text ? 6 : 8) < PSK_BITS)
		config_warning(l, it, item_has(it, "psk_file") ? "psk_file" : "psk",
			"is so short that it can be guessed by whoever is called with it; expected %d "
			"letters and "
			"digits, or more, that a machine has drawn",
			(PSK_BITS + 5) / 6);
}

static void check_times(struct loader *l, const struct item *it)
{
	const struct conf_ike *ike = &tunnel_of(it)->ike;
	const struct {
		const char *key;
		uint32_t seconds;
	} times[] = {{"ike_rekey", ike->ike_rekey}, {"ike_reauth", ike->ike_reauth},
		{"child_rekey", ike->child_rekey}};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (times[i].seconds && times[i].seconds < REKEY_SENSIBLE)
			config_warning(l, it, times[i].key,
				"every %u seconds both ends are busy with new keys; expected 0, or %d and "
				"more",
				times[i].seconds, REKEY_SENSIBLE);
	if (ike->child_rekey_bytes && ike->child_rekey_bytes < BYTES_SENSIBLE)
		config_warning(l, it, "child_rekey_bytes",
			"at a high rate the end comes before the key is renewed, and packets are lost; "
			"expected 0, or "
			"%" PRIu64 "M and more",
			BYTES_SENSIBLE >> 20);
	if (ike->child_rekey_packets && ike->child_rekey_packets < PACKETS_SENSIBLE)
		config_warning(l, it, "child_rekey_packets",
			"at a high rate the end comes before the key is renewed, and packets are lost; "
			"expected 0, or "
			"%" PRIu64 " and more",
			PACKETS_SENSIBLE);
}

/* Nothing but GRE is inside of transport mode, and the outer addresses are the inner ones. */
static void check_transport(struct loader *l, const struct item *it)
{
	static const char *const of_tunnel_mode[] = {"interface_address", "routes", "install_routes",
		"allowed_sources", "local_ts", "remote_ts", "tfc_padding"};

	if (tunnel_of(it)->ike.mode != IPSEC_TRANSPORT)
		return;
	for (size_t i = 0; i < sizeof(of_tunnel_mode) / sizeof(of_tunnel_mode[0]); i++)
		if (item_has(it, of_tunnel_mode[i]))
			config_error(l, it, of_tunnel_mode[i],
				"there are no inner addresses in transport mode; expected mode = tunnel, or "
				"the "
				"option at the GRE tunnel over it");
}

static void check_ts_count(
	struct loader *l, const struct item *it, const char *key, const struct prefix_list *ts)
{
	if (ts->n > TS_MAX)
		config_error(l, it, key,
			"has %zu prefixes; expected at most %d, for which a message has room", ts->n, TS_MAX);
}

/* What traffic selectors keep out of the tunnel. */
static void check_selectors(struct loader *l, const struct item *it)
{
	const struct conf_tunnel *t = it->obj;
	char buf[PREFIX_STRLEN];

	if (t->ike.mode == IPSEC_TRANSPORT)
		return;
	check_ts_count(l, it, "local_ts", &t->ike.local_ts);
	check_ts_count(l, it, "remote_ts", &t->ike.remote_ts);
	for (int i = 0; i < 2; i++)
		if (!addr_is_none(&t->interface_address[i].a) &&
			!list_has(&t->ike.local_ts, &t->interface_address[i].a, 128))
			config_warning(l, it, "interface_address",
				"%s is not in local_ts: the branch cannot reach it",
				addr_str(&t->interface_address[i].a, buf));
	for (size_t i = 0; i < t->routes.n; i++)
		if (!list_has(&t->ike.remote_ts, &t->routes.p[i].a, t->routes.p[i].len))
			config_warning(l, it, "routes", "%s is not in remote_ts: nothing can be sent there",
				prefix_str(&t->routes.p[i], buf));
}

static void check_ike(struct loader *l, struct item *it)
{
	const struct conf_tunnel *t = it->obj;

	complete_paths(l, it);
	check_ids(l, it);
	check_secrets(l, it);
	check_psk_length(l, it);
	check_key_id(l, it);
	check_selectors(l, it);
	check_times(l, it);
	check_transport(l, it);
	if (t->ike.initiate && t->remote_any)
		config_error(l, it, "initiate",
			"there is no address to begin at; expected initiate = no, or a remote that is not "
			"any");
}

/* ---- GRE over IPsec ------------------------------------------------------------------------------ */

static void check_ends(struct loader *l, const struct item *it, const struct item *over)
{
	const struct conf_tunnel *t = it->obj, *o = over->obj;
	char a[ADDR_STRLEN];

	if (o->ike.mode == IPSEC_TRANSPORT) {
		if (!addr_is_none(&t->local) && !addr_is_none(&o->local) && !addr_eq(&t->local, &o->local))
			config_error(l, it, "local",
				"tunnel \"%s\" is in transport mode and has another local address; expected "
				"%s",
				over->name, addr_str(&o->local, a));
		if (!addr_is_none(&t->remote) && !addr_is_none(&o->remote) &&
			!addr_eq(&t->remote, &o->remote))
			config_error(l, it, "remote",
				"tunnel \"%s\" is in transport mode and has another remote address; expected "
				"%s",
				over->name, addr_str(&o->remote, a));
		return;
	}
	if (!addr_is_none(&t->local) && !list_has(&o->ike.local_ts, &t->local, 128))
		config_error(l, it, "local",
			"%s is not in local_ts of tunnel \"%s\"; expected an address of these",
			addr_str(&t->local, a), over->name);
	if (!addr_is_none(&t->remote) && !list_has(&o->ike.remote_ts, &t->remote, 128))
		config_error(l, it, "remote",
			"%s is not in remote_ts of tunnel \"%s\"; expected an address of these",
			addr_str(&t->remote, a), over->name);
}

/* Returns the tunnel that it travels in, or NULL. */
static struct item *check_over(struct loader *l, struct item *const *tunnels, size_t n, const struct item *it)
{
	const struct conf_tunnel *t = it->obj;
	struct item *over;

	if (t->type != TUNNEL_GRE || !t->over)
		return NULL;
	over = config_find_tunnel(tunnels, n, t->over);
	if (!over || over == it) {
		config_error(l, it, "over", "%s \"%s\"; expected the name of a tunnel of type ipsec",
			over ? "this is tunnel" : "there is no tunnel", t->over);
		return NULL;
	}
	if (tunnel_of(over)->type != TUNNEL_IPSEC) {
		if (item_has(over, "type"))
			config_error(l, it, "over",
				"tunnel \"%s\" is of type gre; expected the name of one of type ipsec",
				t->over);
		return NULL;
	}
	check_ends(l, it, over);
	return over;
}

static void check_overs(struct loader *l, struct item *const *tunnels, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct item *over = check_over(l, tunnels, n, tunnels[i]);

		if (!over)
			continue;
		over->carries = true;
		tunnels[i]->by_key = tunnel_of(over)->ike.mode == IPSEC_TRANSPORT;
	}
	for (size_t i = 0; i < n; i++)
		if (tunnel_of(tunnels[i])->type == TUNNEL_IPSEC &&
			tunnel_of(tunnels[i])->ike.mode == IPSEC_TRANSPORT && !tunnels[i]->carries)
			config_warning(l, tunnels[i], "mode",
				"no GRE tunnel travels in this one: nothing can be sent by it");
}

/* ---- all ----------------------------------------------------------------------------------------- */

void config_check_ipsec(struct loader *l, struct item **tunnels, size_t n)
{
	if (l->c->ipsec.crypto == CRYPTO_PROVIDER_MB && !crypto_has(CRYPTO_MB))
		config_error(l, l->items[SECTION_IPSEC], "crypto",
			"\"ipsec-mb\" is not there on this machine; expected auto or openssl");
	for (size_t i = 0; i < n; i++)
		if (tunnel_of(tunnels[i])->type == TUNNEL_IPSEC)
			check_ike(l, tunnels[i]);
	check_overs(l, tunnels, n);
	config_check_peers(l, tunnels, n);
}
