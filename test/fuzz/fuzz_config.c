/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_config.c - the configuration, from a text of any octets.
 *
 * Besides not crashing: the loader either has errors, each of one printable line that names the file, or a
 * configuration that keeps what config.h promises; and loading it again gives the same.
 */
#include "gateway/config.h"
#include "gateway/values.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check_errors(const char *errors)
{
	size_t len = strlen(errors);

	must(len > 0 && errors[len - 1] == '\n');
	for (const char *p = errors; *p; p = strchr(p, '\n') + 1)
		must(strncmp(p, "x.conf:", 7) == 0 || strncmp(p, "and ", 4) == 0);
	for (const char *p = errors; *p; p++)
		must(*p == '\n' || (*p >= 0x20 && *p < 0x7f));
}

static void check_gre(const struct config *c, const struct conf_tunnel *t)
{
	const struct conf_tunnel *over = t->over ? config_tunnel(c, t->over) : NULL;

	must(!t->remote_any && !t->ike.psk && !t->ike.cert_file && t->ike.esp_proposals.n == 0);
	must(!t->over || (over && over->type == TUNNEL_IPSEC));
	if (!over)
		return;
	if (over->ike.mode == IPSEC_TRANSPORT)
		must(addr_eq(&t->local, &over->local) &&
			(over->remote_any || addr_eq(&t->remote, &over->remote)));
}

static void check_ipsec(const struct conf_tunnel *t)
{
	const struct conf_ike *k = &t->ike;
	char canon[VALUE_IDENTITY_CANON];

	must(!t->over && !t->gre_has_key && !t->gre_checksum && !t->gre_sequence);
	must(!t->remote_any || (k->remote_id && !k->initiate));
	must(!k->local_id || value_identity_canon(k->local_id, canon, NULL) == 0);
	must(!k->remote_id || value_identity_canon(k->remote_id, canon, NULL) == 0);
	if (k->psk)
		must(k->psk_len >= VALUE_PSK_MIN && k->psk[k->psk_len] == '\0' && !k->cert_file &&
			!k->key_file && !k->ca_file);
	else
		must(k->cert_file && k->key_file && k->ca_file && !k->psk_file);
	must(k->ike_proposals.n > 0 && k->esp_proposals.n > 0);
	must(k->mode != IPSEC_TRANSPORT ||
		(t->routes.n == 0 && k->local_ts.n == 0 && k->remote_ts.n == 0 && k->tfc_padding == TFC_OFF));
	must(k->replay_window == 0 || (k->replay_window >= 64 && k->replay_window <= 4096));
	must(conf_esp_mtu(t, 1500) > 1300 && conf_esp_mtu(t, 0) == 0);
}

static void check_tunnel(const struct config *c, const struct conf_tunnel *t)
{
	must(value_is_name(t->name) && t->site && value_is_name(t->site) && t->file && t->line > 0);
	must(value_is_host(&t->local) && config_tunnel(c, t->name) == t);
	must(addr_is_none(&t->remote) == t->remote_any);
	if (!t->remote_any)
		must(value_is_host(&t->remote) && !addr_eq(&t->local, &t->remote) &&
			addr_is4(&t->local) == addr_is4(&t->remote));
	if (t->type == TUNNEL_GRE)
		check_gre(c, t);
	else
		check_ipsec(t);
	must(t->mtu >= 576 && t->mtu <= 65500 && t->ttl > 0);
	must(t->mss == MSS_AUTO || t->mss == MSS_OFF || (t->mss >= 536 && t->mss <= 65495));
	must(t->dscp == DSCP_INHERIT || t->dscp < 64);
	must(conf_tunnel_eq(t, t));
}

static void check_config(const struct config *c)
{
	must((c->egress.mark & (c->egress.mark - 1)) == 0 && c->egress.mark != 0);
	must(c->egress.interface && c->gateway.tun && c->gateway.state_dir && c->gateway.control_socket);
	must(c->egress.overlap_pool4.len >= 96 && c->egress.overlap_pool6.len > 0);
	for (int i = FS_FREE + 1; i < FS_STATE_COUNT; i++)
		must(c->flows.timeout_s[i] > 0);
	for (size_t i = 0; i < c->ntunnels; i++) {
		check_tunnel(c, &c->tunnels[i]);
		must(i == 0 || strcmp(c->tunnels[i - 1].name, c->tunnels[i].name) < 0);
	}
	for (size_t i = 1; i < c->nsites; i++)
		must(strcmp(c->sites[i - 1].name, c->sites[i].name) < 0);
	if (c->warnings)
		check_errors(c->warnings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *c, *again;
	char *errors, fixed[64];
	int err = config_parse_text("x.conf", (const char *)data, size, &c, &errors);

	must(err == 0 || err == -EINVAL);
	if (err) {
		must(!c && errors);
		check_errors(errors);
		free(errors);
		return 0;
	}
	must(c && !errors);
	check_config(c);
	must(config_parse_text("x.conf", (const char *)data, size, &again, &errors) == 0);
	must(config_fixed_changes(c, again, fixed, sizeof(fixed)) == 0 && c->ntunnels == again->ntunnels);
	for (size_t i = 0; i < c->ntunnels; i++)
		must(conf_tunnel_eq(&c->tunnels[i], &again->tunnels[i]));
	config_free(again);
	config_free(c);
	return 0;
}
