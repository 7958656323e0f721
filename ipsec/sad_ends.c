/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sad_ends.c - the SA database: outbound SAs by the end that they send to.
 *
 * For ICMP errors, which anybody can send as fast as he likes: a look must not go over all tunnels. The end is the key and not
 * the SPI, since some routers quote no more than 8 octets of what they drop (RFC 792), which are a UDP header.
 */
#include "ipsec/sad_private.h"

#include <sodium.h>

static struct sa **bucket(struct sad *d, const struct sa_end *end)
{
	unsigned char h[crypto_shorthash_BYTES], in[sizeof(end->a) + sizeof(end->port)];
	uint32_t i;

	memcpy(in, &end->a, sizeof(end->a));
	memcpy(in + sizeof(end->a), &end->port, sizeof(end->port));
	crypto_shorthash(h, in, sizeof(in), d->ends_key);
	memcpy(&i, h, sizeof(i));
	return &d->end[i % SAD_ENDS];
}

void sad_ends_add(struct sad *d, struct sa *sa)
{
	struct sa **at = bucket(d, &sa->remote);

	sa->end_next = *at;
	*at = sa;
}

void sad_ends_remove(struct sad *d, struct sa *sa)
{
	struct sa **at = bucket(d, &sa->remote);

	while (*at != sa)
		at = &(*at)->end_next;
	*at = sa->end_next;
	sa->end_next = NULL;
}

static bool is_end(const struct sa_end *is, const struct sa_end *said)
{
	return is->port == said->port && (addr_is_none(&said->a) || addr_eq(&is->a, &said->a));
}

const struct sa *sad_out_to(
	struct sad *d, const struct sa_end *local, const struct sa_end *remote, uint32_t spi)
{
	const struct sa *sa = *bucket(d, remote);

	while (sa && !((!spi || sa->spi == spi) && is_end(&sa->remote, remote) && is_end(&sa->local, local)))
		sa = sa->end_next;
	return sa;
}
